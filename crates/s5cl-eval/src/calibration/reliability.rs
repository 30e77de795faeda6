//! Confidence against accuracy.

use serde::Serialize;

use crate::error::EvalError;
use crate::probabilities::Probabilities;

/// The usual number of bins.
pub const N_BINS: usize = 15;

/// The samples whose confidence lies above `low` and not above `high`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Lower end, excluded, but for the first bin, to which 0 belongs.
    pub low: f64,
    /// Upper end, included.
    pub high: f64,
    /// Number of samples.
    pub n: u64,
    /// Mean confidence, in `[0, 1]`; `None` (JSON `null`) without samples.
    pub confidence: Option<f64>,
    /// Fraction of right predictions, in `[0, 1]`; `None` (JSON `null`) without samples.
    pub accuracy: Option<f64>,
}

/// Sorts samples by the probability of their predicted class into `n_bins` bins of equal width.
///
/// The bins cover `[0, 1]` and are all kept, with or without samples.
///
/// # Shapes
///
/// `probabilities`: `[n, n_classes]`; `labels`: `[n]`. Returns `[n_bins]`.
///
/// # Errors
///
/// When `n_bins` is zero, the lengths do not fit, or a label is not below the number of classes.
///
/// # Source
///
/// Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.
pub fn reliability_bins(
    probabilities: &Probabilities,
    labels: &[u32],
    n_bins: usize,
) -> Result<Vec<ReliabilityBin>, EvalError> {
    if n_bins == 0 {
        return Err(EvalError::OutOfRange { what: "n_bins", value: 0.0, range: "at least 1" });
    }
    probabilities.check_labels(labels)?;
    let edge = |index: usize| index as f64 / n_bins as f64;
    // Rounded as confidences are, so that 0.2 lies on the edge 1/5 and not behind it.
    let upper: Vec<f32> = (1..n_bins).map(|index| edge(index) as f32).collect();
    let mut sums = vec![(0, 0.0, 0_u64); n_bins];
    for (confidence, is_hit) in
        probabilities.confidences().into_iter().zip(probabilities.hits(labels))
    {
        let (n, confidences, hits) = &mut sums[upper.partition_point(|&high| high < confidence)];
        *n += 1;
        *confidences += f64::from(confidence);
        *hits += u64::from(is_hit);
    }
    let bin = |(index, (n, confidences, hits)): (usize, (u64, f64, u64))| {
        let mean = |sum: f64| (n > 0).then(|| sum / n as f64);
        ReliabilityBin {
            low: edge(index),
            high: edge(index + 1),
            n,
            confidence: mean(confidences),
            accuracy: mean(hits as f64),
        }
    };
    Ok(sums.into_iter().enumerate().map(bin).collect())
}

/// Mean distance of confidence from accuracy over bins, weighted by their samples, in `[0, 1]`.
///
/// ```text
/// ece = sum_b n_b / n * |accuracy_b - confidence_b|
/// ```
///
/// 0 when no bin has a sample. It depends on the number of bins and, with few samples, is above
/// zero for perfect calibration too.
///
/// # Source
///
/// Guo et al. 2017, equation 3.
#[must_use]
pub fn expected_calibration_error(bins: &[ReliabilityBin]) -> f64 {
    let n_samples: u64 = bins.iter().map(|bin| bin.n).sum();
    let gap = |bin: &ReliabilityBin| Some(bin.n as f64 * (bin.accuracy? - bin.confidence?).abs());
    bins.iter().filter_map(gap).sum::<f64>() / n_samples.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of a few `f32` values in `f64`.
    const TOLERANCE: f64 = 1e-7;

    #[test]
    fn reliability_bins_are_closed_on_the_right_and_kept_when_empty() -> Result<(), EvalError> {
        // Confidences 0.6, 0.6, 0.8, 1.0 on edges of five bins.
        let values = vec![0.6, 0.4, 0.4, 0.6, 0.8, 0.2, 1.0, 0.0];
        let bins = reliability_bins(&Probabilities::new(values, 2)?, &[0, 0, 0, 1], 5)?;
        assert_eq!(bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [0, 0, 2, 1, 1]);
        assert_eq!((bins[2].low, bins[2].high, bins[2].accuracy), (0.4, 0.6, Some(0.5)));
        assert_eq!((bins[0].confidence, bins[0].accuracy), (None, None));
        let expected = (2.0 * 0.1 + 0.2 + 1.0) / 4.0;
        let found = expected_calibration_error(&bins);
        assert!((found - expected).abs() < TOLERANCE, "{found} is not {expected}");
        Ok(())
    }

    #[test]
    fn reliability_bin_of_nothing_is_null_in_json() -> Result<(), EvalError> {
        let bins = reliability_bins(&Probabilities::new(vec![1.0], 1)?, &[0], 2)?;
        let json = serde_json::to_value(&bins).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                { "low": 0.0, "high": 0.5, "n": 0, "confidence": null, "accuracy": null },
                { "low": 0.5, "high": 1.0, "n": 1, "confidence": 1.0, "accuracy": 1.0 },
            ])
        );
        assert_eq!(expected_calibration_error(&[]), 0.0);
        Ok(())
    }

    #[test]
    fn reliability_refuses_no_bin_and_other_labels() {
        let probabilities = Probabilities::new(vec![0.5, 0.5], 2).unwrap();
        let error = reliability_bins(&probabilities, &[0], 0).unwrap_err().to_string();
        assert_eq!(error, "n_bins is 0: it must be at least 1");
        assert!(reliability_bins(&probabilities, &[], 5).is_err());
    }
}
