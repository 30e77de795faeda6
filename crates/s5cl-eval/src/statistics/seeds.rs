//! Mean and spread over the seeds of a training, and the difference of two methods over them.

use serde::Serialize;

use super::distributions::{student_cdf, student_two_sided};
use super::interval::{Interval, checked_level};
use crate::error::{EvalError, same_length};

/// What [`over_seeds`] gives, in the unit of the values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SeedSummary {
    /// Mean of the values.
    pub mean: f64,
    /// Standard deviation, divided by `n - 1`; `None` for a single seed, of which it is not known.
    pub deviation: Option<f64>,
    /// Where the mean over all seeds lies with the chance asked for; `None` for a single seed.
    pub interval: Option<Interval>,
    /// Number of seeds.
    pub n: usize,
}

/// What [`paired_over_seeds`] gives, in the unit of the values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairedDifference {
    /// Mean of first less second.
    pub mean: f64,
    /// Where the mean difference over all seeds lies; `None` for a single seed.
    pub interval: Option<Interval>,
    /// Chance of a mean at least as far from 0 if there were no difference, in `[0, 1]`; `None`
    /// for a single seed.
    pub p_value: Option<f64>,
    /// Number of seeds.
    pub n: usize,
}

/// Mean, deviation and Student's t interval of one figure over seeds,
/// `mean +- t(n - 1) deviation / sqrt(n)`.
///
/// Normal values are covered exactly as often as `level` says, in `(0, 1)`, from two seeds on;
/// with few seeds the interval is wide because nothing else is honest. It speaks of other seeds
/// on the same test images, not of other images. Seeds that all give the same value leave an
/// interval without width, which says only that their spread was too small to be seen.
///
/// # Errors
///
/// When there is no value, one is not finite, or the level is not between 0 and 1.
///
/// # Example
///
/// ```
/// let summary = s5cl_eval::over_seeds(&[0.81, 0.84, 0.87], 0.95)?;
/// assert!((summary.mean - 0.84).abs() < 1e-12);
/// assert!(summary.deviation.is_some_and(|deviation| (deviation - 0.03).abs() < 1e-12));
/// assert!(summary.interval.is_some_and(|interval| interval.contains(0.77)));
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn over_seeds(values: &[f64], level: f64) -> Result<SeedSummary, EvalError> {
    checked_level(level)?;
    if values.is_empty() {
        return Err(EvalError::Empty { what: "values" });
    }
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(EvalError::ValueNotFinite { what: "values", index, value: values[index] });
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() == 1 {
        return Ok(SeedSummary { mean, deviation: None, interval: None, n: 1 });
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (n - 1.0)).sqrt();
    let reach = student_two_sided(n - 1.0, level) * deviation / n.sqrt();
    let interval = Some(Interval { low: mean - reach, high: mean + reach });
    Ok(SeedSummary { mean, deviation: Some(deviation), interval, n: values.len() })
}

/// The difference of two methods over the same seeds: Student's paired t interval and test.
///
/// `first[i]` and `second[i]` are of the same seed (the same split and labeled images), so that
/// what a split makes easy for both cancels.
///
/// # Errors
///
/// When the lengths differ, and as [`over_seeds`].
pub fn paired_over_seeds(
    first: &[f64],
    second: &[f64],
    level: f64,
) -> Result<PairedDifference, EvalError> {
    same_length(("first", first.len()), ("second", second.len()))?;
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let SeedSummary { mean, deviation, interval, n } = over_seeds(&differences, level)?;
    let p_value = deviation.map(|deviation| {
        if mean == 0.0 {
            return 1.0;
        }
        // Equal differences give an infinite t, of which the chance is 0.
        let t = mean / (deviation / (n as f64).sqrt());
        2.0 * student_cdf(n as f64 - 1.0, -t.abs())
    });
    Ok(PairedDifference { mean, interval, p_value, n })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few roundings, and Student's quantile to 1e-12.
    const TOLERANCE: f64 = 1e-11;

    // import numpy as np; from scipy.stats import t, ttest_rel
    // v, w = [.812, .845, .871], [.790, .841, .825]
    // np.std(v, ddof=1), t.interval(.95, 2, np.mean(v), np.std(v, ddof=1) / 3**.5)
    // r = ttest_rel(v, w); r.pvalue, r.confidence_interval(.95)
    #[test]
    fn seeds_equal_scipy() {
        let (first, second) = ([0.812, 0.845, 0.871], [0.790, 0.841, 0.825]);
        let close = |found: f64, expected: f64| (found - expected).abs() < TOLERANCE;
        let summary = over_seeds(&first, 0.95).unwrap();
        let interval = summary.interval.unwrap();
        assert!(close(summary.deviation.unwrap(), 0.029_569_128_044_860_09), "{summary:?}");
        assert!(close(interval.low, 0.769_212_880_586_855_4), "{interval:?}");
        assert!(close(interval.high, 0.916_120_452_746_477_9), "{interval:?}");
        let paired = paired_over_seeds(&first, &second, 0.95).unwrap();
        let interval = paired.interval.unwrap();
        assert!(close(paired.mean, 0.024), "{paired:?}");
        assert!(close(paired.p_value.unwrap(), 0.187_257_446_225_684_35), "{paired:?}");
        assert!(close(interval.low, -0.028_344_029_610_810_784), "{interval:?}");
        assert!(close(interval.high, 0.076_344_029_610_810_83), "{interval:?}");
    }

    #[test]
    fn one_seed_has_no_interval() {
        let summary = over_seeds(&[0.7], 0.95).unwrap();
        assert_eq!((summary.mean, summary.deviation, summary.interval), (0.7, None, None));
        let paired = paired_over_seeds(&[0.7], &[0.5], 0.95).unwrap();
        assert_eq!((paired.interval, paired.p_value), (None, None));
    }

    #[test]
    fn equal_methods_do_not_differ() {
        let paired = paired_over_seeds(&[0.7, 0.8], &[0.7, 0.8], 0.95).unwrap();
        assert_eq!((paired.mean, paired.p_value), (0.0, Some(1.0)));
    }

    #[test]
    fn seeds_refuse_bad_input() {
        let error = |values: &[f64], level| over_seeds(values, level).unwrap_err().to_string();
        assert!(error(&[], 0.95).starts_with("values is empty"));
        assert!(error(&[0.1, f64::NAN], 0.95).starts_with("values[1] is NaN"));
        assert!(error(&[0.1], 1.0).starts_with("level is 1"));
        let error = paired_over_seeds(&[0.1], &[], 0.95).unwrap_err().to_string();
        assert!(error.contains("first has 1 entries, second has 0"), "{error}");
    }
}
