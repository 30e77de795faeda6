//! Squared error of predicted probabilities.

use crate::error::EvalError;
use crate::probabilities::Probabilities;

/// Mean squared distance of the predicted probabilities from the label's: summed over classes,
/// averaged over samples.
///
/// ```text
/// brier = 1/n * sum_i sum_c (probabilities[i, c] - [c = labels[i]])^2
/// ```
///
/// In `[0, 2]`: 0 for a certain and right prediction, 2 for a certain and wrong one. With two
/// classes it is twice what is often called the Brier score, which looks at one of them.
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
/// Brier, "Verification of forecasts expressed in terms of probability", 1950, equation 2;
/// scikit-learn's `brier_score_loss(scale_by_half=False)`.
pub fn brier_score(probabilities: &Probabilities, labels: &[u32]) -> Result<f64, EvalError> {
    probabilities.check_labels(labels)?;
    let of_sample = |(row, &label): (&[f32], &u32)| -> f64 {
        let truth = |class_idx: usize| if class_idx == label as usize { 1.0 } else { 0.0 };
        let squares = row.iter().enumerate().map(|(c, &p)| (f64::from(p) - truth(c)).powi(2));
        squares.sum()
    };
    let total: f64 = probabilities.rows().zip(labels).map(of_sample).sum();
    Ok(total / labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brier_score_is_zero_when_right_and_two_when_wrong() -> Result<(), EvalError> {
        let certain = Probabilities::new(vec![1.0, 0.0, 0.0], 3)?;
        assert_eq!(brier_score(&certain, &[0])?, 0.0);
        assert_eq!(brier_score(&certain, &[2])?, 2.0);
        let unsure = Probabilities::new(vec![0.5, 0.5], 2)?;
        assert_eq!(brier_score(&unsure, &[1])?, 0.5);
        assert!(brier_score(&unsure, &[]).is_err());
        Ok(())
    }
}
