//! Whether the label is among the most probable classes.

use crate::error::EvalError;
use crate::probabilities::Probabilities;

/// Fraction of samples whose label is among the `k` most probable classes, in `[0, 1]`.
///
/// Of equally probable classes the one with the smaller index comes first, as in
/// [`Probabilities::predictions`], so that top-1 accuracy is the accuracy. `k` of the number of
/// classes or more gives 1.
///
/// # Shapes
///
/// `probabilities`: `[n, n_classes]`; `labels`: `[n]`.
///
/// # Errors
///
/// When `k` is zero, the lengths do not fit, or a label is not below the number of classes.
///
/// # Source
///
/// scikit-learn's `top_k_accuracy_score` with all classes named, but for ties, of which it takes the
/// larger index first.
pub fn top_k_accuracy(
    probabilities: &Probabilities,
    labels: &[u32],
    k: usize,
) -> Result<f64, EvalError> {
    if k == 0 {
        return Err(EvalError::OutOfRange { what: "k", value: 0.0, range: "at least 1" });
    }
    probabilities.check_labels(labels)?;
    let is_hit = |&(row, &label): &(&[f32], &u32)| {
        let (label, p) = (label as usize, row[label as usize]);
        let is_before = |&(c, &other): &(usize, &f32)| other > p || (other == p && c < label);
        row.iter().enumerate().filter(is_before).count() < k
    };
    let n_hits = probabilities.rows().zip(labels).filter(is_hit).count();
    Ok(n_hits as f64 / labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // from sklearn.metrics import top_k_accuracy_score
    // p = [[.4,.4,.2],[.4,.4,.2],[.25,.25,.5],[.25,.25,.5]]
    // [top_k_accuracy_score([0,0,1,0], p, k=k, labels=[0,1,2]) for k in (1, 2)]
    // [0.0, 0.75], and with classes in the reverse order
    // [top_k_accuracy_score([2,2,1,2], np.array(p)[:, ::-1], k=k, labels=[0,1,2]) for k in (1, 2)]
    // [0.5, 0.75]
    #[test]
    fn top_k_of_ties_is_that_of_scikit_learn_with_classes_reversed() -> Result<(), EvalError> {
        let values = vec![0.4, 0.4, 0.2, 0.4, 0.4, 0.2, 0.25, 0.25, 0.5, 0.25, 0.25, 0.5];
        let (probabilities, labels) = (Probabilities::new(values, 3)?, [0, 0, 1, 0]);
        assert_eq!(top_k_accuracy(&probabilities, &labels, 1)?, 0.5);
        assert_eq!(probabilities.hits(&labels), [true, true, false, false]);
        assert_eq!(top_k_accuracy(&probabilities, &labels, 2)?, 0.75);
        assert_eq!(top_k_accuracy(&probabilities, &labels, 3)?, 1.0);
        assert_eq!(top_k_accuracy(&probabilities, &labels, 9)?, 1.0);
        Ok(())
    }

    #[test]
    fn top_k_refuses_no_class() {
        let probabilities = Probabilities::new(vec![1.0], 1).unwrap();
        let error = top_k_accuracy(&probabilities, &[0], 0).unwrap_err().to_string();
        assert_eq!(error, "k is 0: it must be at least 1");
    }
}
