//! One number that makes probabilities surer or more cautious.

use crate::error::EvalError;
use crate::probabilities::Probabilities;

/// The lowest temperature that a fit gives.
const LOWEST: f64 = 0.05;
/// The highest temperature that a fit gives.
const HIGHEST: f64 = 20.0;
/// Relative change of the temperature at which a fit ends.
const PRECISION: f64 = 1e-10;
/// Each step halves the slope or the logarithm of the range, for which 36 steps from the whole
/// range to [`PRECISION`] are enough.
const MOST_STEPS: usize = 200;

/// The temperature of a softmax, above 0: above 1 it makes predictions more cautious, below 1
/// surer. It changes no order of classes, and so no prediction but for rounding.
///
/// ```text
/// scaled[i, c] = p[i, c]^(1 / T) / sum_d p[i, d]^(1 / T)
/// ```
///
/// Probabilities are raised to the smallest normal `f32`, 1.2e-38, so that one that was rounded
/// to zero has a logarithm.
///
/// # Source
///
/// Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2. Logarithms of
/// probabilities stand for the logits, from which they differ by a constant in each row.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Probabilities, Temperature};
///
/// // Nine times out of ten, says the model; it is right three times out of four.
/// let probabilities = Probabilities::new([0.9, 0.1].repeat(4), 2)?;
/// let temperature = Temperature::fit(&probabilities, &[0, 0, 0, 1])?;
/// assert!((temperature.value() - 2.0).abs() < 1e-6);
/// assert!((temperature.apply(&probabilities).confidences()[0] - 0.75).abs() < 1e-6);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature(f64);

impl Temperature {
    /// Takes a temperature.
    ///
    /// # Errors
    ///
    /// When it is not above 0 or not finite.
    pub fn new(value: f64) -> Result<Self, EvalError> {
        if value.is_finite() && value > 0.0 {
            return Ok(Self(value));
        }
        Err(EvalError::OutOfRange { what: "temperature", value, range: "above 0 and finite" })
    }

    /// The temperature in `[0.05, 20]` with the least mean cross entropy.
    ///
    /// Where all predictions are right there is none but the lower bound. Where the temperature
    /// changes nothing, as for uniform probabilities, it is 1.
    ///
    /// # Shapes
    ///
    /// `probabilities`: `[n, n_classes]`; `labels`: `[n]`.
    ///
    /// # Errors
    ///
    /// When the lengths do not fit or a label is not below the number of classes.
    pub fn fit(probabilities: &Probabilities, labels: &[u32]) -> Result<Self, EvalError> {
        probabilities.check_labels(labels)?;
        Ok(Self::fit_on(probabilities, labels, 0..labels.len()))
    }

    /// [`Self::fit`] on some of the samples, whose labels were checked.
    pub(super) fn fit_on(
        probabilities: &Probabilities,
        labels: &[u32],
        samples: impl Iterator<Item = usize>,
    ) -> Self {
        let mut logits = Vec::new();
        for sample_idx in samples {
            let row = log_probabilities(probabilities.row(sample_idx));
            let of_label = row[labels[sample_idx] as usize];
            logits.push((row, of_label));
        }
        Self(1.0 / minimize(|inverse| slopes(&logits, inverse)))
    }

    /// The temperature, above 0.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }

    /// The probabilities at this temperature, `[n, n_classes]`.
    #[must_use]
    pub fn apply(self, probabilities: &Probabilities) -> Probabilities {
        let mut values = Vec::with_capacity(probabilities.as_slice().len());
        for row in probabilities.rows() {
            values.extend(self.scaled(row));
        }
        Probabilities::from_distributions(values, probabilities.n_classes())
    }

    /// One row at this temperature.
    pub(super) fn scaled(self, row: &[f32]) -> impl Iterator<Item = f32> {
        let weights: Vec<f64> =
            log_probabilities(row).into_iter().map(|logit| (logit / self.0).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(move |weight| (weight / sum) as f32)
    }
}

/// Logarithms, of which the largest is 0: a row of equal probabilities is exactly zero, and
/// nothing overflows at any temperature.
fn log_probabilities(row: &[f32]) -> Vec<f64> {
    let logs = row.iter().map(|p| f64::from(p.max(f32::MIN_POSITIVE)).ln());
    let highest = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    logs.map(|log| log - highest).collect()
}

/// First and second derivative of the summed cross entropy by the inverse temperature, in which it
/// is convex: the expected logit minus that of the label, and the variance of the logits.
fn slopes(logits: &[(Vec<f64>, f64)], inverse: f64) -> (f64, f64) {
    let (mut slope, mut curvature) = (0.0, 0.0);
    for (row, of_label) in logits {
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for logit in row {
            let weight = (inverse * logit).exp();
            sum += weight;
            first += weight * logit;
            second += weight * logit * logit;
        }
        let mean = first / sum;
        slope += mean - of_label;
        curvature += (second / sum - mean * mean).max(0.0);
    }
    (slope, curvature)
}

/// The root of a slope that rises with the inverse temperature: Newton's method from 1, with
/// halving (of the range's logarithm) wherever a step would leave the range or converge slowly.
fn minimize(slopes: impl Fn(f64) -> (f64, f64)) -> f64 {
    let (mut low, mut high) = (1.0 / HIGHEST, 1.0 / LOWEST);
    let mut inverse = 1.0;
    let (mut slope, mut curvature) = slopes(inverse);
    if slope == 0.0 {
        return inverse;
    }
    // A range whose end the slope does not cross has its least value there.
    let end = if slope > 0.0 { low } else { high };
    if slopes(end).0 * slope >= 0.0 {
        return end;
    }
    for _ in 0..MOST_STEPS {
        if slope > 0.0 {
            high = inverse;
        } else {
            low = inverse;
        }
        let newton = inverse - slope / curvature;
        let halved = (low * high).sqrt();
        let mut next = if newton > low && newton < high { newton } else { halved };
        let (mut slope_there, mut curvature_there) = slopes(next);
        if slope_there.abs() > 0.5 * slope.abs() && next != halved {
            if slope_there > 0.0 {
                high = next;
            } else {
                low = next;
            }
            next = (low * high).sqrt();
            (slope_there, curvature_there) = slopes(next);
        }
        let change = (next - inverse).abs();
        (inverse, slope, curvature) = (next, slope_there, curvature_there);
        if slope == 0.0 || change <= PRECISION * inverse || high - low <= PRECISION * inverse {
            break;
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::draws::Draws;
    use crate::calibration::reliability::{N_BINS, expected_calibration_error, reliability_bins};
    use crate::classification::log_loss;

    /// Spread of the fitted temperature over draws of 4,000 samples, four times over.
    const SPREAD: f64 = 0.15;

    #[test]
    fn temperature_finds_the_one_that_was_put_in() -> Result<(), EvalError> {
        for wanted in [0.25, 0.5, 1.0, 2.0, 4.0] {
            let (probabilities, labels) = Draws::new(7).samples(4_000, 5, wanted)?;
            // Probabilities told at a temperature are mended by its inverse.
            let found = Temperature::fit(&probabilities, &labels)?.value() * wanted;
            assert!((found - 1.0).abs() < SPREAD, "{wanted}: {found}");
        }
        Ok(())
    }

    #[test]
    fn temperature_makes_loss_and_calibration_better_and_keeps_predictions() -> Result<(), EvalError>
    {
        let (probabilities, labels) = Draws::new(3).samples(2_000, 4, 0.3)?;
        let scaled = Temperature::fit(&probabilities, &labels)?.apply(&probabilities);
        assert_eq!(scaled.predictions(), probabilities.predictions());
        assert!(log_loss(&scaled, &labels)? < log_loss(&probabilities, &labels)?);
        let ece = |p: &Probabilities| -> Result<f64, EvalError> {
            Ok(expected_calibration_error(&reliability_bins(p, &labels, N_BINS)?))
        };
        assert!(ece(&scaled)? < 0.5 * ece(&probabilities)?);
        Probabilities::new(scaled.as_slice().to_vec(), 4)?;
        Ok(())
    }

    #[test]
    fn temperature_of_a_fit_is_the_best_of_a_grid() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(11).samples(60, 3, 0.6)?;
        let fitted = Temperature::fit(&probabilities, &labels)?;
        let least = log_loss(&fitted.apply(&probabilities), &labels)?;
        for step in 1..400 {
            let other = Temperature::new(0.05 * f64::from(step))?;
            // Applied probabilities are rounded to f32.
            assert!(least <= log_loss(&other.apply(&probabilities), &labels)? + 1e-8, "{step}");
        }
        Ok(())
    }

    #[test]
    fn temperature_stays_in_its_bounds() -> Result<(), EvalError> {
        let sure = Probabilities::new([0.99, 0.01].repeat(2), 2)?;
        assert!((Temperature::fit(&sure, &[0, 0])?.value() - LOWEST).abs() < 1e-12);
        assert!((Temperature::fit(&sure, &[1, 1])?.value() - HIGHEST).abs() < 1e-12);
        let uniform = Probabilities::new(vec![0.25; 8], 4)?;
        assert_eq!(Temperature::fit(&uniform, &[0, 3])?.value(), 1.0);
        let one_class = Probabilities::new(vec![1.0; 3], 1)?;
        assert_eq!(Temperature::fit(&one_class, &[0; 3])?.value(), 1.0);
        Ok(())
    }

    #[test]
    fn temperature_of_certain_probabilities_is_finite() -> Result<(), EvalError> {
        let certain = Probabilities::new([1.0, 0.0].repeat(4), 2)?;
        let temperature = Temperature::fit(&certain, &[0, 0, 0, 1])?;
        assert_eq!(temperature.value(), HIGHEST);
        let scaled = temperature.apply(&certain);
        assert!(scaled.as_slice().iter().all(|p| (0.0..=1.0).contains(p) && *p > 0.0));
        Ok(())
    }

    #[test]
    fn temperature_refuses_what_is_none() {
        let error = Temperature::new(0.0).unwrap_err().to_string();
        assert_eq!(error, "temperature is 0: it must be above 0 and finite");
        assert!(Temperature::new(f64::NAN).is_err() && Temperature::new(-1.0).is_err());
        let probabilities = Probabilities::new(vec![0.5, 0.5], 2).unwrap();
        assert!(Temperature::fit(&probabilities, &[]).is_err());
    }
}
