//! Balanced accuracy and macro F1 with their derivatives.

use crate::confusion::Confusion;

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
