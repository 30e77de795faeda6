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
    /// Standard deviation, divided by `n - 1`; 0 for a single seed, of which it is not known.
    pub deviation: f64,
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
/// assert!((summary.mean - 0.84).abs() < 1e-12 && (summary.deviation - 0.03).abs() < 1e-12);
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
        return Ok(SeedSummary { mean, deviation: 0.0, interval: None, n: 1 });
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (n - 1.0)).sqrt();
    let reach = student_two_sided(n - 1.0, level) * deviation / n.sqrt();
    let interval = Some(Interval { low: mean - reach, high: mean + reach });
    Ok(SeedSummary { mean, deviation, interval, n: values.len() })
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
    let p_value = (n > 1).then(|| {
        if mean == 0.0 {
            return 1.0;
        }
        // Equal differences give an infinite t, of which the chance is 0.
        let t = mean / (deviation / (n as f64).sqrt());
        2.0 * student_cdf(n as f64 - 1.0, -t.abs())
    });
    Ok(PairedDifference { mean, interval, p_value, n })
}
