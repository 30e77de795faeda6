//! McNemar's exact test of two classifiers on the same images.

use serde::Serialize;

use super::distributions::beta_cdf;
use crate::error::{EvalError, same_length};

/// What [`mcnemar`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Images that the first run has right and the second wrong.
    pub only_first: u64,
    /// Images that the second run has right and the first wrong.
    pub only_second: u64,
    /// Chance of a split at least as uneven if both were equally good, in `[0, 1]`; 1 where no
    /// image tells them apart.
    pub p_value: f64,
}

/// Whether two runs are equally often right, from the images on which only one of them is.
///
/// The exact two-sided binomial test of `only_first` among `only_first + only_second` at one half.
/// It takes images for independent; where they come in groups use
/// [`crate::compare_runs`], whose p-values do not.
///
/// # Shapes
///
/// `labels`, `first` and `second`: `[n]`, the classes of the same images in the same order.
///
/// # Errors
///
/// When there is no label, or the lengths differ.
///
/// # Source
///
/// McNemar, "Note on the sampling error of the difference between correlated proportions or
/// percentages", 1947, in its exact form.
pub fn mcnemar(labels: &[u32], first: &[u32], second: &[u32]) -> Result<McNemar, EvalError> {
    same_length(("labels", labels.len()), ("the first run's predictions", first.len()))?;
    same_length(("labels", labels.len()), ("the second run's predictions", second.len()))?;
    if labels.is_empty() {
        return Err(EvalError::Empty { what: "labels" });
    }
    let (mut only_first, mut only_second) = (0_u64, 0_u64);
    for (label, (first, second)) in labels.iter().zip(first.iter().zip(second)) {
        only_first += u64::from(first == label && second != label);
        only_second += u64::from(second == label && first != label);
    }
    let (most, least) = (only_first.max(only_second) as f64, only_first.min(only_second) as f64);
    // The chance of at least `most` of `most + least` fair tosses, in both directions.
    let tail = if most > 0.0 { beta_cdf(most, least + 1.0, 0.5) } else { 1.0 };
    Ok(McNemar { only_first, only_second, p_value: (2.0 * tail).min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few roundings.
    const TOLERANCE: f64 = 1e-12;

    // from scipy.stats import binomtest
    // [binomtest(b, b + c).pvalue for b, c in ((1, 6), (10, 10), (30, 12))]
    #[test]
    fn mcnemar_equals_scipys_binomial_test() {
        for (only_first, only_second, expected) in
            [(1, 6, 0.125), (10, 10, 1.0), (30, 12, 0.007_915_897_334_896_727), (0, 0, 1.0)]
        {
            // Five images on which both are right and five on which both are wrong tell nothing.
            let of = |right: usize, wrong: usize, then: u32| {
                [vec![0; 5], vec![1; 5], vec![then; right], vec![1 - then; wrong]].concat()
            };
            let first = of(only_first, only_second, 0);
            let second = of(only_first, only_second, 1);
            let labels = vec![0; first.len()];
            let found = mcnemar(&labels, &first, &second).unwrap();
            let counts = (found.only_first, found.only_second);
            assert_eq!(counts, (only_first as u64, only_second as u64));
            assert!((found.p_value - expected).abs() < TOLERANCE, "{found:?}");
        }
    }

    #[test]
    fn mcnemar_refuses_other_lengths_and_nothing() {
        let error = mcnemar(&[0, 1], &[0, 1], &[0]).unwrap_err().to_string();
        assert!(error.contains("the second run's predictions has 1"), "{error}");
        assert!(mcnemar(&[], &[], &[]).is_err());
    }
}
