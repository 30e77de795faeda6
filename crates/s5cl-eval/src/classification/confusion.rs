//! The confusion matrix and the metrics that follow from it.

use crate::classification::class_metrics::ClassMetrics;
use crate::error::{EvalError, classes_in_range, same_length};

/// Counts of (true class, predicted class), the source of all metrics of hard predictions.
///
/// Metrics are fractions in `[0, 1]`. A class *occurs* when at least one label is that class, and
/// is *seen* when it occurs or was predicted. Classes that are not seen change no metric, so
/// that a test set without one of the classes is judged by the others alone.
///
/// # Source
///
/// The definitions are scikit-learn's (`balanced_accuracy_score`, `f1_score`); the tests compare
/// with its values.
///
/// # Example
///
/// ```
/// use s5cl_eval::Confusion;
///
/// let confusion = Confusion::new(3, &[0, 0, 1, 1], &[0, 1, 1, 1])?;
/// assert_eq!(confusion.accuracy(), 0.75);
/// assert_eq!(confusion.balanced_accuracy(), (0.5 + 1.0) / 2.0); // class 2 does not occur
/// assert_eq!(confusion.count(0, 1), 1);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    n_classes: usize,
    /// `[n_classes, n_classes]`, row: true class, column: predicted class.
    counts: Vec<u64>,
}

impl Confusion {
    /// Counts how often each class was taken for each other.
    ///
    /// # Shapes
    ///
    /// `labels` and `predictions`: `[n]`, class indices below `n_classes`.
    ///
    /// # Errors
    ///
    /// When there is no label, the lengths differ, or a class index is not below `n_classes`.
    pub fn new(n_classes: usize, labels: &[u32], predictions: &[u32]) -> Result<Self, EvalError> {
        same_length(("labels", labels.len()), ("predictions", predictions.len()))?;
        if labels.is_empty() {
            return Err(EvalError::Empty { what: "labels" });
        }
        classes_in_range("labels", labels, n_classes)?;
        classes_in_range("predictions", predictions, n_classes)?;
        let mut counts = vec![0; n_classes * n_classes];
        for (&label, &prediction) in labels.iter().zip(predictions) {
            counts[label as usize * n_classes + prediction as usize] += 1;
        }
        Ok(Self { n_classes, counts })
    }

    /// Number of classes, seen or not.
    #[must_use]
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// How many samples of class `label` were predicted as class `prediction`; 0 for a class
    /// that does not exist.
    #[must_use]
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        if label < self.n_classes && prediction < self.n_classes {
            self.counts[label * self.n_classes + prediction]
        } else {
            0
        }
    }

    /// The counts as rows: one row a true class, one column a predicted class.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<u64>> {
        self.counts.chunks_exact(self.n_classes).map(<[u64]>::to_vec).collect()
    }

    /// The share of each true class that was predicted as each class: rows sum to 1, and are 0
    /// for a class that does not occur.
    #[must_use]
    pub fn normalized_rows(&self) -> Vec<Vec<f64>> {
        let shares = |row: &[u64]| {
            let support = row.iter().sum::<u64>().max(1) as f64;
            row.iter().map(|&count| count as f64 / support).collect()
        };
        self.counts.chunks_exact(self.n_classes).map(shares).collect()
    }

    /// Fraction of samples whose prediction is their label.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.hits() as f64 / self.n_samples() as f64
    }

    /// Mean recall over the classes that occur: [`Self::accuracy`] if all were equally frequent.
    #[must_use]
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.per_class().iter().filter_map(|class| class.recall))
    }

    /// Mean F1 over the classes that are seen; a class that is predicted but does not occur, or
    /// occurs but is never predicted, counts as 0.
    #[must_use]
    pub fn macro_f1(&self) -> f64 {
        mean(self.per_class().iter().filter_map(|class| class.f1))
    }

    /// Mean F1 over the classes that occur, weighted by their number of samples.
    #[must_use]
    pub fn weighted_f1(&self) -> f64 {
        let weighted = |class: &ClassMetrics| class.f1.unwrap_or(0.0) * class.support as f64;
        self.per_class().iter().map(weighted).sum::<f64>() / self.n_samples() as f64
    }

    /// F1 of all decisions of all classes counted together.
    ///
    /// With one label and one prediction a sample, a mistake is one false positive and one false
    /// negative, so that this is the accuracy.
    #[must_use]
    pub fn micro_f1(&self) -> f64 {
        self.accuracy()
    }

    /// Recall, precision, F1 and support of every class, in the order of the class index.
    ///
    /// What would divide by zero is `None`: recall of a class that does not occur, precision of
    /// a class that is never predicted, F1 of a class that is not seen. Names are empty (see
    /// [`Self::result`]) and what needs probabilities is `None`.
    #[must_use]
    pub fn per_class(&self) -> Vec<ClassMetrics> {
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let (supports, predicted) = (self.supports(), self.predicted());
        let of_class = |class_idx| {
            let hits = self.count(class_idx, class_idx);
            let (support, predicted) = (supports[class_idx], predicted[class_idx]);
            ClassMetrics {
                name: String::new(),
                recall: ratio(hits, support),
                precision: ratio(hits, predicted),
                f1: ratio(2 * hits, support + predicted),
                support,
                auroc: None,
                average_precision: None,
                recall_interval: None,
            }
        };
        (0..self.n_classes).map(of_class).collect()
    }

    /// The counts with classes put together, `new_class` saying where each goes.
    pub(crate) fn folded(&self, n_classes: usize, new_class: impl Fn(usize) -> usize) -> Self {
        let mut counts = vec![0; n_classes * n_classes];
        for (index, count) in self.counts.iter().enumerate() {
            let (label, prediction) = (index / self.n_classes, index % self.n_classes);
            counts[new_class(label) * n_classes + new_class(prediction)] += count;
        }
        Self { n_classes, counts }
    }

    /// Number of samples with each label.
    pub(crate) fn supports(&self) -> Vec<u64> {
        self.counts.chunks_exact(self.n_classes).map(|row| row.iter().sum()).collect()
    }

    /// Number of predictions of each class.
    pub(crate) fn predicted(&self) -> Vec<u64> {
        let of_class = |class_idx| self.counts.iter().skip(class_idx).step_by(self.n_classes).sum();
        (0..self.n_classes).map(of_class).collect()
    }

    /// Number of right predictions.
    pub(crate) fn hits(&self) -> u64 {
        (0..self.n_classes).map(|class_idx| self.count(class_idx, class_idx)).sum()
    }

    /// Number of samples, at least 1.
    #[must_use]
    pub fn n_samples(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The mean of at least one value: a confusion matrix has at least one sample, so at least one
/// class occurs.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0_u32), |(sum, n), value| (sum + value, n + 1));
    sum / f64::from(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of a few `f64` in another order than numpy's.
    const TOLERANCE: f64 = 1e-12;

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < TOLERANCE, "{found} is not {expected}");
    }

    // from sklearn.metrics import *
    // y, p = [0,0,0,1,1,2,2,2,2,3], [0,1,0,1,1,2,0,2,3,2]
    // confusion_matrix(y, p), accuracy_score(y, p), balanced_accuracy_score(y, p)
    // f1_score(y, p, average="macro"), f1_score(y, p, average="weighted")
    // precision_recall_fscore_support(y, p)
    #[test]
    fn confusion_equals_scikit_learn() -> Result<(), EvalError> {
        let confusion =
            Confusion::new(4, &[0, 0, 0, 1, 1, 2, 2, 2, 2, 3], &[0, 1, 0, 1, 1, 2, 0, 2, 3, 2])?;
        assert_eq!(confusion.rows(), [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 2, 1], [0, 0, 1, 0]]);
        assert_close(confusion.accuracy(), 0.6);
        assert_close(confusion.balanced_accuracy(), 0.541_666_666_666_666_6);
        assert_close(confusion.macro_f1(), 0.509_523_809_523_809_5);
        assert_close(confusion.weighted_f1(), 0.588_571_428_571_428_5);
        assert_close(confusion.micro_f1(), 0.6);
        let classes = confusion.per_class();
        let expected_f1 = [0.666_666_666_666_666_6, 0.8, 0.571_428_571_428_571_4, 0.0];
        for (class, (precision, f1)) in
            classes.iter().zip([2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 0.0].into_iter().zip(expected_f1))
        {
            assert_close(class.precision.unwrap(), precision);
            assert_close(class.f1.unwrap(), f1);
        }
        assert_eq!(classes.iter().map(|class| class.support).collect::<Vec<_>>(), [3, 2, 4, 1]);
        Ok(())
    }

    // y, p = [0,0,2,2,2], [0,1,2,2,0]: class 1 is only predicted, class 3 is in neither.
    #[test]
    fn confusion_with_absent_classes_equals_scikit_learn() -> Result<(), EvalError> {
        let confusion = Confusion::new(4, &[0, 0, 2, 2, 2], &[0, 1, 2, 2, 0])?;
        assert_close(confusion.accuracy(), 0.6);
        assert_close(confusion.balanced_accuracy(), 0.583_333_333_333_333_3);
        assert_close(confusion.macro_f1(), 0.433_333_333_333_333_35);
        assert_close(confusion.weighted_f1(), 0.68);
        let classes = confusion.per_class();
        assert_eq!((classes[1].recall, classes[1].precision), (None, Some(0.0)));
        assert_eq!((classes[1].f1, classes[1].support), (Some(0.0), 0));
        assert_eq!((classes[3].recall, classes[3].precision, classes[3].f1), (None, None, None));
        Ok(())
    }

    #[test]
    fn confusion_of_one_class_is_perfect() -> Result<(), EvalError> {
        let confusion = Confusion::new(1, &[0, 0, 0], &[0, 0, 0])?;
        assert_close(confusion.balanced_accuracy(), 1.0);
        assert_close(confusion.macro_f1(), 1.0);
        Ok(())
    }

    #[test]
    fn confusion_normalized_by_true_class_has_rows_of_one_or_zero() -> Result<(), EvalError> {
        let confusion = Confusion::new(3, &[0, 0, 2, 2, 2, 2], &[0, 1, 2, 2, 2, 0])?;
        let expected = [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.25, 0.0, 0.75]];
        assert_eq!(confusion.normalized_rows(), expected);
        Ok(())
    }

    #[test]
    fn confusion_does_not_depend_on_order_or_names() -> Result<(), EvalError> {
        let labels = [0, 0, 0, 1, 1, 2, 2];
        let predictions = [0, 1, 2, 1, 0, 2, 2];
        let renamed = |classes: &[u32]| classes.iter().rev().map(|c| 2 - c).collect::<Vec<_>>();
        let before = Confusion::new(3, &labels, &predictions)?;
        let after = Confusion::new(3, &renamed(&labels), &renamed(&predictions))?;
        assert_close(before.balanced_accuracy(), after.balanced_accuracy());
        assert_close(before.macro_f1(), after.macro_f1());
        assert_close(before.weighted_f1(), after.weighted_f1());
        Ok(())
    }

    #[test]
    fn confusion_refuses_what_it_cannot_count() {
        let error = |labels: &[u32], predictions: &[u32]| {
            Confusion::new(2, labels, predictions).unwrap_err().to_string()
        };
        assert_eq!(error(&[], &[]), "labels is empty: there is nothing to evaluate");
        assert!(error(&[0], &[0, 1]).contains("labels has 1 entries, predictions has 2"));
        assert_eq!(
            error(&[0, 1], &[0, 2]),
            "predictions[1] is 2, but there are 2 classes (0-based)"
        );
        assert!(error(&[5], &[0]).starts_with("labels[0] is 5"));
    }
}
