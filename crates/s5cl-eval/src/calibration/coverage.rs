//! The error that is left when the least sure predictions are withheld.

use serde::Serialize;

use crate::error::EvalError;
use crate::probabilities::Probabilities;

/// What remains when only predictions of at least some confidence are given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CoveragePoint {
    /// Fraction of samples with a prediction, in `(0, 1]`.
    pub coverage: f64,
    /// Fraction of these predictions that are wrong, in `[0, 1]`.
    pub error: f64,
    /// The lowest confidence with which a prediction is given, in `[0, 1]`.
    pub threshold: f64,
}

/// Error against coverage for every threshold that makes a difference.
///
/// Samples of equal confidence are withheld together, so that their order does not matter.
///
/// # Source
///
/// Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017; the
/// area, without ties, is that of Geifman, Uziel and El-Yaniv, ICLR 2019.
///
/// # Example
///
/// ```
/// use s5cl_eval::{CoverageCurve, Probabilities};
///
/// let probabilities = Probabilities::new(vec![0.9, 0.1, 0.8, 0.2, 0.6, 0.4], 2)?;
/// let curve = CoverageCurve::new(&probabilities, &[0, 0, 1])?;
/// let point = curve.threshold_for_error(0.05)?;
/// assert_eq!(point.map(|point| point.coverage), Some(2.0 / 3.0));
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoverageCurve {
    /// Area under the curve, in `[0, 1]`, less is better: the mean over samples, from the surest,
    /// of the error at the sample's own threshold.
    pub aurc: f64,
    /// One point a distinct confidence, by rising coverage; the last one has coverage 1.
    pub points: Vec<CoveragePoint>,
}

impl CoverageCurve {
    /// Ranks predictions by their confidence.
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
        let confidences = probabilities.confidences().into_iter();
        let mut ranked: Vec<(f32, bool)> = confidences.zip(probabilities.hits(labels)).collect();
        ranked.sort_unstable_by(|left, right| right.0.total_cmp(&left.0));
        let n_samples = ranked.len() as f64;
        let (mut given, mut wrong, mut area) = (0, 0, 0.0);
        let mut points = Vec::new();
        for equals in ranked.chunk_by(|left, right| left.0 == right.0) {
            given += equals.len();
            wrong += equals.iter().filter(|(_, is_hit)| !is_hit).count();
            let error = wrong as f64 / given as f64;
            area += error * equals.len() as f64;
            let coverage = given as f64 / n_samples;
            points.push(CoveragePoint { coverage, error, threshold: f64::from(equals[0].0) });
        }
        Ok(Self { aurc: area / n_samples, points })
    }

    /// The point of largest coverage whose error is not above `error`; `None` where there is none.
    ///
    /// It holds for these samples: chosen on validation images, its threshold may leave more error
    /// on others, the more so the fewer images it was chosen on.
    ///
    /// # Errors
    ///
    /// When `error` is not in `[0, 1]`.
    pub fn threshold_for_error(&self, error: f64) -> Result<Option<CoveragePoint>, EvalError> {
        if !(0.0..=1.0).contains(&error) {
            let range = "in [0, 1]";
            return Err(EvalError::OutOfRange { what: "the wanted error", value: error, range });
        }
        Ok(self.points.iter().rev().find(|point| point.error <= error).copied())
    }

    /// The same curve with at most `n_points` points (at least 2) to draw, evenly chosen, the
    /// first and the last among them; the area stays that of all.
    #[must_use]
    pub fn thinned(&self, n_points: usize) -> Self {
        let (n_points, last) = (n_points.max(2), self.points.len().saturating_sub(1));
        if last < n_points {
            return self.clone();
        }
        let chosen = (0..n_points).map(|index| self.points[index * last / (n_points - 1)]);
        Self { aurc: self.aurc, points: chosen.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::draws::Draws;

    /// Sums of a few `f64` in another order.
    const TOLERANCE: f64 = 1e-12;

    #[test]
    fn coverage_withholds_equals_together() -> Result<(), EvalError> {
        // Confidences 1, 0.75, 0.75, 0.5; the first of the equals is wrong, and so is the last.
        let values = vec![0.75, 0.25, 1.0, 0.0, 0.5, 0.5, 0.25, 0.75];
        let curve = CoverageCurve::new(&Probabilities::new(values, 2)?, &[1, 0, 1, 1])?;
        let points: Vec<_> =
            curve.points.iter().map(|p| (p.coverage, p.error, p.threshold)).collect();
        assert_eq!(points, [(0.25, 0.0, 1.0), (0.75, 1.0 / 3.0, 0.75), (1.0, 0.5, 0.5)]);
        let expected = (0.0 + 2.0 / 3.0 + 0.5) / 4.0;
        assert!((curve.aurc - expected).abs() < TOLERANCE, "{} is not {expected}", curve.aurc);
        Ok(())
    }

    #[test]
    fn coverage_does_not_depend_on_the_order_of_samples() -> Result<(), EvalError> {
        let values = [vec![0.75, 0.25], vec![0.75, 0.25], vec![0.5, 0.5], vec![0.25, 0.75]];
        let labels = [0, 1, 1, 1];
        let curve = CoverageCurve::new(&Probabilities::new(values.concat(), 2)?, &labels)?;
        let reversed: Vec<f32> = values.iter().rev().flatten().copied().collect();
        let other = CoverageCurve::new(&Probabilities::new(reversed, 2)?, &[1, 1, 1, 0])?;
        assert_eq!(curve, other);
        Ok(())
    }

    #[test]
    fn coverage_rises_while_thresholds_fall_to_the_error_of_all() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(2).samples(500, 4, 1.0)?;
        let curve = CoverageCurve::new(&probabilities, &labels)?;
        let is_sorted = |pair: &[CoveragePoint]| {
            pair[0].coverage < pair[1].coverage && pair[0].threshold > pair[1].threshold
        };
        assert!(curve.points.windows(2).all(is_sorted));
        let wrong = probabilities.hits(&labels).iter().filter(|is_hit| !**is_hit).count();
        let last = curve.points[curve.points.len() - 1];
        assert_eq!((last.coverage, last.error), (1.0, wrong as f64 / 500.0));
        // Sure predictions are right more often, so that the area is below that error.
        assert!(curve.aurc < last.error);
        Ok(())
    }

    #[test]
    fn threshold_keeps_the_wanted_error_and_rises_as_it_falls() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(4).samples(500, 4, 1.0)?;
        let curve = CoverageCurve::new(&probabilities, &labels)?;
        let mut widest = 0.0;
        for wanted in [0.1, 0.2, 0.3, 0.4, 1.0] {
            let point = curve.threshold_for_error(wanted)?.unwrap();
            let given = probabilities.confidences().into_iter().zip(probabilities.hits(&labels));
            let given = given.filter(|(p, _)| f64::from(*p) >= point.threshold);
            let hits: Vec<bool> = given.map(|(_, is_hit)| is_hit).collect();
            let wrong = hits.iter().filter(|is_hit| !**is_hit).count();
            assert!(wrong as f64 <= wanted * hits.len() as f64);
            assert_eq!(point.coverage, hits.len() as f64 / 500.0);
            assert!(point.coverage >= widest);
            widest = point.coverage;
        }
        assert_eq!(widest, 1.0);
        Ok(())
    }

    #[test]
    fn threshold_for_an_error_that_is_never_reached_is_none() -> Result<(), EvalError> {
        let curve = CoverageCurve::new(&Probabilities::new(vec![0.9, 0.1], 2)?, &[1])?;
        assert_eq!(curve.threshold_for_error(0.5)?, None);
        let error = curve.threshold_for_error(1.5).unwrap_err().to_string();
        assert_eq!(error, "the wanted error is 1.5: it must be in [0, 1]");
        assert!(curve.threshold_for_error(f64::NAN).is_err());
        Ok(())
    }

    #[test]
    fn coverage_thinned_keeps_its_ends() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(6).samples(500, 4, 1.0)?;
        let curve = CoverageCurve::new(&probabilities, &labels)?;
        let thin = curve.thinned(20);
        assert_eq!((thin.points.len(), thin.aurc), (20, curve.aurc));
        assert_eq!(thin.points.first(), curve.points.first());
        assert_eq!(thin.points.last(), curve.points.last());
        assert!(thin.points.windows(2).all(|pair| pair[0].coverage < pair[1].coverage));
        assert_eq!(thin.thinned(20), thin);
        Ok(())
    }
}
