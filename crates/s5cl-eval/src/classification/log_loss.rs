//! Cross entropy of predicted probabilities.

use crate::error::EvalError;
use crate::probabilities::Probabilities;

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
/// `probabilities`: `[n, n_classes]`; `labels`: `[n]`.
///
/// # Errors
///
/// When the lengths do not fit or a label is not below the number of classes.
///
/// # Source
///
/// scikit-learn's `log_loss` on `float32` probabilities with all classes named. It also caps
/// probabilities at `1 - epsilon`, which changes the value by less than 2e-7.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Probabilities, log_loss};
///
/// let probabilities = Probabilities::new(vec![0.5, 0.5, 0.25, 0.75], 2)?;
/// let loss = log_loss(&probabilities, &[0, 0])?;
/// assert!((loss - 0.5 * (2_f64.ln() + 4_f64.ln())).abs() < 1e-12);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn log_loss(probabilities: &Probabilities, labels: &[u32]) -> Result<f64, EvalError> {
    probabilities.check_labels(labels)?;
    let of_label = probabilities.rows().zip(labels).map(|(row, &label)| row[label as usize]);
    let total: f64 = of_label.map(|p| -f64::from(p.max(f32::EPSILON)).ln()).sum();
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
    fn log_loss_equals_scikit_learn() -> Result<(), EvalError> {
        let values = vec![0.7, 0.2, 0.1, 0.1, 0.8, 0.1, 0.3, 0.3, 0.4, 0.5, 0.25, 0.25];
        let loss = log_loss(&Probabilities::new(values, 3)?, &[0, 1, 2, 1])?;
        assert!((loss - 0.720_600_897_061_747).abs() < TOLERANCE, "{loss}");
        let certain = Probabilities::new(vec![1.0, 0.0, 1.0, 0.0], 2)?;
        let clipped = log_loss(&certain, &[0, 1])?;
        assert!((clipped - 7.971_192_359_924_316).abs() < TOLERANCE, "{clipped}");
        Ok(())
    }

    #[test]
    fn log_loss_refuses_labels_that_do_not_fit() {
        let probabilities = Probabilities::new(vec![0.5, 0.5], 2).unwrap();
        for labels in [[].as_slice(), &[2], &[0, 1]] {
            assert!(log_loss(&probabilities, labels).is_err(), "{labels:?}");
        }
    }
}
