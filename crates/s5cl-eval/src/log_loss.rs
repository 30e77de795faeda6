//! Cross entropy of predicted probabilities.

use crate::error::{EvalError, classes_in_range, same_length};

/// How far a row may be from summing to 1: a softmax in half precision over many classes.
const SUM_TOLERANCE: f64 = 1e-3;

/// Mean cross entropy of predicted probabilities, in nats.
///
/// ```text
/// log_loss = -1/n * sum_i ln( max(probabilities[i, labels[i]], epsilon) )
/// ```
///
/// `epsilon` is that of `f32`, 2^-23, so that one impossible prediction costs 15.9 nats and not
/// infinity. A perfect prediction gives 0.
///
/// # Shapes
///
/// `probabilities`: `[n, n_classes]`, in `[0, 1]`, rows sum to 1 within 0.001; `labels`: `[n]`.
///
/// # Errors
///
/// When there is no label, the lengths do not fit, a label is not below `n_classes`, or a row is
/// not a probability distribution.
///
/// # Source
///
/// scikit-learn's `log_loss` on `float32` probabilities with all classes named. It also caps
/// probabilities at `1 - epsilon`, which changes the value by less than 2e-7.
///
/// # Example
///
/// ```
/// let loss = s5cl_eval::log_loss(&[0.5, 0.5, 0.25, 0.75], 2, &[0, 0])?;
/// assert!((loss - 0.5 * (2_f64.ln() + 4_f64.ln())).abs() < 1e-12);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn log_loss(probabilities: &[f32], n_classes: usize, labels: &[u32]) -> Result<f64, EvalError> {
    if labels.is_empty() {
        return Err(EvalError::Empty { what: "labels" });
    }
    classes_in_range("labels", labels, n_classes)?;
    let n_expected = labels.len().saturating_mul(n_classes);
    same_length(
        ("probabilities", probabilities.len()),
        ("labels times the number of classes", n_expected),
    )?;
    let mut total = 0.0;
    for (row, (of_row, &label)) in probabilities.chunks_exact(n_classes).zip(labels).enumerate() {
        let sum: f64 = of_row.iter().copied().map(f64::from).sum();
        // Written so that NaN, which compares false with everything, is refused too.
        let is_distribution =
            of_row.iter().all(|p| (0.0..=1.0).contains(p)) && (sum - 1.0).abs() <= SUM_TOLERANCE;
        if !is_distribution {
            return Err(EvalError::NotADistribution { row, sum });
        }
        total -= f64::from(of_row[label as usize].max(f32::EPSILON)).ln();
    }
    Ok(total / labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn takes the logarithm of `float32` probabilities in `float32`.
    const TOLERANCE: f64 = 1e-6;

    // from sklearn.metrics import log_loss
    // log_loss([0,1,2,1], [[.7,.2,.1],[.1,.8,.1],[.3,.3,.4],[.5,.25,.25]], labels=[0,1,2])
    // log_loss([0,1], np.float32([[1,0],[1,0]]), labels=[0,1])
    #[test]
    fn log_loss_equals_scikit_learn() {
        let probabilities = [0.7, 0.2, 0.1, 0.1, 0.8, 0.1, 0.3, 0.3, 0.4, 0.5, 0.25, 0.25];
        let loss = log_loss(&probabilities, 3, &[0, 1, 2, 1]).unwrap();
        assert!((loss - 0.720_600_897_061_747).abs() < TOLERANCE, "{loss}");
        let clipped = log_loss(&[1.0, 0.0, 1.0, 0.0], 2, &[0, 1]).unwrap();
        assert!((clipped - 7.971_192_359_924_316).abs() < TOLERANCE, "{clipped}");
    }

    #[test]
    fn log_loss_refuses_what_is_no_distribution() {
        for row in [[0.5, 0.6], [1.5, -0.5], [f32::NAN, 1.0]] {
            let error = log_loss(&row, 2, &[0]).unwrap_err();
            assert!(matches!(error, EvalError::NotADistribution { row: 0, .. }), "{row:?}");
        }
        assert!(log_loss(&[0.5], 2, &[0]).is_err());
        assert!(log_loss(&[], 2, &[]).is_err());
        assert!(log_loss(&[0.5, 0.5], 2, &[2]).is_err());
    }
}
