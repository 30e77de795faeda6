//! A table of predicted probabilities: one distribution a sample.

use crate::error::{EvalError, classes_in_range, same_length};

/// How far a row may be from summing to 1: a softmax in half precision over many classes.
const SUM_TOLERANCE: f64 = 1e-3;

/// How far a probability may be outside [0, 1]: sums of f32 that end a little above 1.
const RANGE_TOLERANCE: f32 = 1e-6;

/// What a classifier says of at least one sample: `[n, n_classes]`, `f32` in `[0, 1]`, row after
/// row, each row summing to 1 within 0.001. Values outside by a rounding, up to 1e-6, are taken for
/// the end that they are next to.
///
/// # Example
///
/// ```
/// use s5cl_eval::Probabilities;
///
/// let probabilities = Probabilities::new(vec![0.7, 0.3, 0.5, 0.5], 2)?;
/// assert_eq!(probabilities.predictions(), [0, 0]); // of equals the first
/// assert_eq!(probabilities.confidences(), [0.7, 0.5]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Probabilities {
    values: Vec<f32>,
    n_classes: usize,
}

impl Probabilities {
    /// Takes `values` as rows of `n_classes`.
    ///
    /// # Errors
    ///
    /// When there is no class or no value, the values do not fill whole rows, one of them is not
    /// finite, or a row is no probability distribution; the message names the row.
    pub fn new(mut values: Vec<f32>, n_classes: usize) -> Result<Self, EvalError> {
        if values.is_empty() || n_classes == 0 {
            return Err(EvalError::Empty { what: "probabilities" });
        }
        let whole_rows = values.len() / n_classes * n_classes;
        same_length(("probabilities", values.len()), ("their whole rows", whole_rows))?;
        for (row, of_row) in values.chunks_exact(n_classes).enumerate() {
            if let Some(column) = of_row.iter().position(|p| !p.is_finite()) {
                let (what, value) = ("probabilities", of_row[column]);
                return Err(EvalError::NotFinite { what, row, column, value });
            }
            let sum: f64 = of_row.iter().copied().map(f64::from).sum();
            let range = -RANGE_TOLERANCE..=1.0 + RANGE_TOLERANCE;
            let are_shares = of_row.iter().all(|p| range.contains(p));
            if !are_shares || (sum - 1.0).abs() > SUM_TOLERANCE {
                return Err(EvalError::NotADistribution { row, sum });
            }
        }
        values.iter_mut().for_each(|p| *p = p.clamp(0.0, 1.0));
        Ok(Self { values, n_classes })
    }

    /// Takes shares of `f64` that are distributions by the way they were made, one row a query.
    pub(crate) fn of_queries(shares: &[f64], n_classes: usize) -> Result<Self, EvalError> {
        if shares.is_empty() {
            return Err(EvalError::Empty { what: "query" });
        }
        Ok(Self { values: shares.iter().map(|&share| share as f32).collect(), n_classes })
    }

    /// Takes rows that are distributions by the way they were made.
    pub(crate) fn from_distributions(values: Vec<f32>, n_classes: usize) -> Self {
        Self { values, n_classes }
    }

    /// Number of samples, at least 1.
    #[must_use]
    pub fn n(&self) -> usize {
        self.values.len() / self.n_classes
    }

    /// Number of classes, at least 1.
    #[must_use]
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// The rows, one slice of [`Self::n_classes`] values a sample.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.n_classes)
    }

    /// The row of a sample.
    pub(crate) fn row(&self, sample_idx: usize) -> &[f32] {
        &self.values[sample_idx * self.n_classes..][..self.n_classes]
    }

    /// All values, row after row.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }

    /// The most probable class of every sample, `[n]`; of equals the one with the smallest index.
    #[must_use]
    pub fn predictions(&self) -> Vec<u32> {
        self.rows().map(|row| most_probable(row).0 as u32).collect()
    }

    /// The probability of the predicted class of every sample, `[n]`, in `[1 / n_classes, 1]` but
    /// for rounding.
    #[must_use]
    pub fn confidences(&self) -> Vec<f32> {
        self.rows().map(|row| most_probable(row).1).collect()
    }

    /// Refuses labels that do not belong to these samples.
    pub(crate) fn check_labels(&self, labels: &[u32]) -> Result<(), EvalError> {
        same_length(("labels", labels.len()), ("probabilities", self.n()))?;
        classes_in_range("labels", labels, self.n_classes)
    }

    /// Whether the predicted class is the label, `[n]`.
    pub(crate) fn hits(&self, labels: &[u32]) -> Vec<bool> {
        self.predictions().iter().zip(labels).map(|(found, label)| found == label).collect()
    }
}

/// The first of the largest values of a row and where it stands.
fn most_probable(row: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (class_idx, &p) in row.iter().enumerate() {
        if p > best.1 {
            best = (class_idx, p);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_predict_the_first_of_equals() {
        let values = vec![0.2, 0.4, 0.4, 0.25, 0.5, 0.25, 0.0, 0.0, 1.0];
        let probabilities = Probabilities::new(values, 3).unwrap();
        assert_eq!((probabilities.n(), probabilities.n_classes()), (3, 3));
        assert_eq!(probabilities.predictions(), [1, 1, 2]);
        assert_eq!(probabilities.confidences(), [0.4, 0.5, 1.0]);
        assert_eq!(probabilities.row(1), probabilities.rows().nth(1).unwrap());
    }

    #[test]
    fn probabilities_refuse_what_is_no_distribution_and_name_the_row() {
        let error = |values: &[f32]| {
            Probabilities::new([&[0.5, 0.5], values].concat(), 2).unwrap_err().to_string()
        };
        let sum = "probabilities of row 1 are outside [0, 1] or sum to 1.25 instead of 1";
        assert_eq!(error(&[0.5, 0.75]), sum);
        assert!(error(&[1.5, -0.5]).starts_with("probabilities of row 1 are outside [0, 1]"));
        assert_eq!(
            error(&[0.5, f32::NAN]),
            "probabilities row 1, column 1 is NaN: it must be finite"
        );
        assert!(error(&[f32::INFINITY, 0.0]).contains("row 1, column 0 is inf"));
        assert!(error(&[0.5]).contains("probabilities has 3 entries"));
    }

    #[test]
    fn probabilities_a_rounding_outside_are_taken_for_the_ends() {
        let rounded = Probabilities::new(vec![1.000_000_1, -1e-7, 0.5, 0.5], 2).unwrap();
        assert_eq!(rounded.as_slice(), [1.0, 0.0, 0.5, 0.5]);
        assert!(Probabilities::new(vec![1.000_01, 0.0], 2).is_err());
    }

    #[test]
    fn probabilities_refuse_nothing() {
        let error = Probabilities::new(Vec::new(), 2).unwrap_err().to_string();
        assert_eq!(error, "probabilities is empty: there is nothing to evaluate");
        assert!(Probabilities::new(vec![1.0], 0).is_err());
    }

    #[test]
    fn probabilities_refuse_foreign_labels() {
        let probabilities = Probabilities::new(vec![0.5, 0.5], 2).unwrap();
        assert!(probabilities.check_labels(&[1]).is_ok());
        let error = probabilities.check_labels(&[0, 1]).unwrap_err().to_string();
        assert!(error.starts_with("labels has 2 entries, probabilities has 1"), "{error}");
        let error = probabilities.check_labels(&[2]).unwrap_err().to_string();
        assert_eq!(error, "labels[0] is 2, but there are 2 classes (0-based)");
    }
}
