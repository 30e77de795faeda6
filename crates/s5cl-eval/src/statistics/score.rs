//! Accuracy, balanced accuracy and macro F1 with their derivatives.

use crate::classification::Confusion;

/// A figure with its derivatives: what an image adds to it, and a class's recall.
pub(super) struct Score {
    pub(super) value: f64,
    /// `[n_classes][n_classes]`: what an image of the class (row) that was taken for another
    /// (column) adds to the deviation of the figure, less the mean of its class.
    pub(super) influence: Vec<Vec<f64>>,
    /// Derivative of the figure with respect to the recall of each class.
    pub(super) slope: Vec<f64>,
}

impl Score {
    pub(super) fn accuracy(confusion: &Confusion) -> Self {
        let classes = confusion.per_class();
        let n = classes.iter().map(|class| class.support).sum::<u64>() as f64;
        let table = |label: usize, prediction: usize| f64::from(u8::from(label == prediction)) / n;
        let slope = classes.iter().map(|class| class.support as f64 / n).collect();
        Self::centered(confusion, confusion.accuracy(), table, slope)
    }

    pub(super) fn balanced_accuracy(confusion: &Confusion) -> Self {
        let classes = confusion.per_class();
        let n_occurring = classes.iter().filter(|class| class.support > 0).count() as f64;
        let table = |label: usize, prediction: usize| {
            f64::from(u8::from(label == prediction))
                / (classes[label].support.max(1) as f64 * n_occurring)
        };
        let slope = vec![1.0 / n_occurring; classes.len()];
        Self::centered(confusion, confusion.balanced_accuracy(), table, slope)
    }

    pub(super) fn macro_f1(confusion: &Confusion) -> Self {
        let classes = confusion.per_class();
        let n_seen = classes.iter().filter(|class| class.f1.is_some()).count() as f64;
        // F1 is 2 hits / (support + predicted); `weights` has the denominators.
        let (values, weights): (Vec<f64>, Vec<f64>) = (0..classes.len())
            .map(|class_idx| {
                let predicted: u64 =
                    (0..classes.len()).map(|label| confusion.count(label, class_idx)).sum();
                let weight = (classes[class_idx].support + predicted).max(1) as f64;
                (classes[class_idx].f1.unwrap_or(0.0), weight)
            })
            .unzip();
        let table = |label: usize, prediction: usize| {
            let hit = f64::from(u8::from(label == prediction));
            let cost = values[label] / weights[label] + values[prediction] / weights[prediction];
            (2.0 * hit / weights[label] - cost) / n_seen
        };
        let slope = (0..classes.len())
            .map(|c| (2.0 - values[c]) * classes[c].support as f64 / weights[c] / n_seen)
            .collect();
        Self::centered(confusion, confusion.macro_f1(), table, slope)
    }

    fn centered(
        confusion: &Confusion,
        value: f64,
        table: impl Fn(usize, usize) -> f64,
        slope: Vec<f64>,
    ) -> Self {
        let n_classes = confusion.n_classes();
        let row = |label: usize| {
            let counts = || (0..n_classes).map(|prediction| confusion.count(label, prediction));
            let n = counts().sum::<u64>().max(1) as f64;
            let mean =
                counts().enumerate().map(|(p, n)| n as f64 * table(label, p)).sum::<f64>() / n;
            (0..n_classes).map(|prediction| table(label, prediction) - mean).collect()
        };
        Self { value, influence: (0..n_classes).map(row).collect(), slope }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EvalError;

    const LABELS: [u32; 12] = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2];
    const PREDICTIONS: [u32; 12] = [0, 0, 1, 3, 1, 1, 0, 2, 2, 2, 2, 1];
    /// Copies of the test set, so that one image more is a small step.
    const N_COPIES: usize = 20_000;
    /// Second order of a step of 1 in 240,000, relative to the first.
    const TOLERANCE: f64 = 1e-3;

    /// What one image more of (label, prediction) adds to the figure, in units of one image of a
    /// single copy.
    fn step(figure: fn(&Confusion) -> f64, image: (u32, u32)) -> Result<f64, EvalError> {
        let (mut labels, mut predictions) = (LABELS.repeat(N_COPIES), PREDICTIONS.repeat(N_COPIES));
        let before = figure(&Confusion::new(4, &labels, &predictions)?);
        labels.push(image.0);
        predictions.push(image.1);
        Ok((figure(&Confusion::new(4, &labels, &predictions)?) - before) * N_COPIES as f64)
    }

    #[test]
    fn influences_are_the_steps_of_one_image_more() -> Result<(), EvalError> {
        let confusion = Confusion::new(4, &LABELS, &PREDICTIONS)?;
        let figures: [fn(&Confusion) -> f64; 3] =
            [Confusion::accuracy, Confusion::balanced_accuracy, Confusion::macro_f1];
        let scores = [Score::accuracy, Score::balanced_accuracy, Score::macro_f1];
        let scores = scores.map(|score: fn(&Confusion) -> Score| score(&confusion));
        for (score, figure) in scores.iter().zip(figures) {
            assert_eq!(score.value, figure(&confusion));
            // Within a class, whose number of images is given, only differences count.
            for (label, one, other) in [(0, 0, 1), (0, 3, 0), (1, 1, 0), (2, 2, 1)] {
                let row = &score.influence[label as usize];
                let found = row[one as usize] - row[other as usize];
                let expected = step(figure, (label, one))? - step(figure, (label, other))?;
                assert!((found - expected).abs() < TOLERANCE, "{label}: {found} {expected}");
            }
        }
        Ok(())
    }

    #[test]
    fn influences_of_a_class_sum_to_zero() -> Result<(), EvalError> {
        let confusion = Confusion::new(4, &LABELS, &PREDICTIONS)?;
        for score in [Score::accuracy, Score::balanced_accuracy, Score::macro_f1] {
            let score = score(&confusion);
            for label in 0..3 {
                let added = (0..4).map(|prediction| {
                    confusion.count(label, prediction) as f64 * score.influence[label][prediction]
                });
                assert!(added.sum::<f64>().abs() < 1e-15);
            }
        }
        Ok(())
    }
}
