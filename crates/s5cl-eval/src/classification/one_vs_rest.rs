//! How well the probability of a class tells it from the others.

use crate::error::EvalError;
use crate::probabilities::Probabilities;

/// Ranking metrics of each class against all others, `[n_classes]` each.
///
/// For a class the samples are ranked by its probability; those with its label are the positives.
/// `None` for a class that no sample or every sample has: there is nothing to tell apart.
/// Probabilities in order of size are all that counts, and equal ones share a rank: a constant
/// prediction has an AUROC of 0.5 and an average precision of the share of positives.
///
/// ```text
/// auroc = (pairs of a positive above a negative + pairs at the same rank / 2) / all such pairs
/// average_precision = sum_t (recall_t - recall_(t-1)) * precision_t
/// ```
///
/// `t` runs over the distinct probabilities from the largest; recall and precision are those of
/// all samples at or above.
///
/// # Source
///
/// scikit-learn's `roc_auc_score` and `average_precision_score` of each class's indicator; where
/// those warn and give a number for a class without positives, here is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct OneVsRest {
    /// Area under the ROC curve, in `[0, 1]`.
    pub auroc: Vec<Option<f64>>,
    /// Average precision, in `[0, 1]`.
    pub average_precision: Vec<Option<f64>>,
}

impl OneVsRest {
    /// Ranks the samples once for each class.
    ///
    /// # Shapes
    ///
    /// `probabilities`: `[n, n_classes]`; `labels`: `[n]`.
    ///
    /// # Errors
    ///
    /// When the lengths do not fit or a label is not below the number of classes.
    pub fn new(probabilities: &Probabilities, labels: &[u32]) -> Result<Self, EvalError> {
        probabilities.check_labels(labels)?;
        let n_classes = probabilities.n_classes();
        let (mut auroc, mut average_precision) = (Vec::new(), Vec::new());
        for class_idx in 0..n_classes {
            let scores = probabilities.rows().map(|row| row[class_idx]);
            let are_positive = labels.iter().map(|&label| label as usize == class_idx);
            let ranked = Ranked::new(scores.zip(are_positive).collect());
            auroc.push(ranked.auroc());
            average_precision.push(ranked.average_precision());
        }
        Ok(Self { auroc, average_precision })
    }

    /// Mean AUROC over the classes that have one; `None` where none has.
    #[must_use]
    pub fn macro_auroc(&self) -> Option<f64> {
        mean_of_defined(&self.auroc)
    }

    /// Mean average precision over the classes that have one; `None` where none has.
    #[must_use]
    pub fn macro_average_precision(&self) -> Option<f64> {
        mean_of_defined(&self.average_precision)
    }
}

fn mean_of_defined(values: &[Option<f64>]) -> Option<f64> {
    let defined: Vec<f64> = values.iter().copied().flatten().collect();
    (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
}

/// Positives and negatives at each distinct score, from the largest.
struct Ranked {
    ranks: Vec<[u64; 2]>,
    n_positives: u64,
    n_negatives: u64,
}

impl Ranked {
    fn new(mut samples: Vec<(f32, bool)>) -> Self {
        samples.sort_unstable_by(|left, right| right.0.total_cmp(&left.0));
        let n_positives = samples.iter().filter(|(_, is_positive)| *is_positive).count() as u64;
        let count = |rank: &[(f32, bool)]| {
            let positives = rank.iter().filter(|(_, is_positive)| *is_positive).count() as u64;
            [positives, rank.len() as u64 - positives]
        };
        let ranks = samples.chunk_by(|left, right| left.0 == right.0).map(count).collect();
        Self { ranks, n_positives, n_negatives: samples.len() as u64 - n_positives }
    }

    fn auroc(&self) -> Option<f64> {
        // Pairs are counted twice, so that half of one is whole.
        let (mut above, mut twice) = (0, 0);
        for [positives, negatives] in &self.ranks {
            twice += negatives * (2 * above + positives);
            above += positives;
        }
        let pairs = self.n_positives * self.n_negatives;
        (pairs > 0).then(|| twice as f64 / (2 * pairs) as f64)
    }

    fn average_precision(&self) -> Option<f64> {
        if self.n_positives == 0 || self.n_negatives == 0 {
            return None;
        }
        let (mut found, mut seen, mut sum) = (0, 0, 0.0);
        for [positives, negatives] in &self.ranks {
            found += positives;
            seen += positives + negatives;
            sum += *positives as f64 * found as f64 / seen as f64;
        }
        Some(sum / self.n_positives as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_vs_rest_of_a_constant_prediction_is_chance() -> Result<(), EvalError> {
        let probabilities = Probabilities::new([0.5, 0.25, 0.25].repeat(4), 3)?;
        let ranking = OneVsRest::new(&probabilities, &[0, 0, 0, 1])?;
        assert_eq!(ranking.auroc, [Some(0.5), Some(0.5), None]);
        assert_eq!(ranking.average_precision, [Some(0.75), Some(0.25), None]);
        assert_eq!(ranking.macro_auroc(), Some(0.5));
        Ok(())
    }

    #[test]
    fn one_vs_rest_of_one_class_is_undefined() -> Result<(), EvalError> {
        let probabilities = Probabilities::new(vec![0.5, 0.5, 1.0, 0.0], 2)?;
        let ranking = OneVsRest::new(&probabilities, &[0, 0])?;
        assert_eq!(ranking.auroc, [None, None]);
        assert_eq!((ranking.macro_auroc(), ranking.macro_average_precision()), (None, None));
        Ok(())
    }

    #[test]
    fn one_vs_rest_takes_the_two_zeros_for_one() -> Result<(), EvalError> {
        let probabilities = Probabilities::new(vec![0.0, 1.0, -0.0, 1.0], 2)?;
        let ranking = OneVsRest::new(&probabilities, &[0, 1])?;
        assert_eq!(ranking.auroc, [Some(0.5), Some(0.5)]);
        Ok(())
    }
}
