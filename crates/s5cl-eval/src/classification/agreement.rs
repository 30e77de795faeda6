//! Agreement of predictions with labels beyond chance.

use crate::classification::confusion::Confusion;

impl Confusion {
    /// Cohen's kappa: how much of the agreement that chance leaves open was reached.
    ///
    /// ```text
    /// kappa = 1 - (1 - accuracy) / (1 - expected),  expected = sum_c labels_c * predictions_c / n^2
    /// ```
    ///
    /// At most 1; 0 for predictions that are independent of the labels, such as always the same
    /// class. `None` when labels and predictions are all one class: chance leaves nothing open.
    ///
    /// # Source
    ///
    /// Cohen 1960; scikit-learn's `cohen_kappa_score`.
    #[must_use]
    pub fn kappa(&self) -> Option<f64> {
        self.weighted_kappa(|label, prediction| if label == prediction { 0.0 } else { 1.0 })
    }

    /// Cohen's kappa in which taking class `i` for class `j` weighs `(i - j)^2`: for classes whose
    /// index is a grade.
    ///
    /// `None` when labels and predictions are all one class.
    ///
    /// # Source
    ///
    /// Cohen 1968; scikit-learn's `cohen_kappa_score(weights="quadratic")` with all classes named,
    /// so that an absent grade still counts as a step.
    #[must_use]
    pub fn quadratic_kappa(&self) -> Option<f64> {
        self.weighted_kappa(|label, prediction| (label.abs_diff(prediction) as f64).powi(2))
    }

    /// Matthews' correlation coefficient of labels and predictions, for any number of classes.
    ///
    /// ```text
    /// mcc = (n * hits - sum_c l_c * p_c) / sqrt((n^2 - sum_c l_c^2) (n^2 - sum_c p_c^2))
    /// ```
    ///
    /// with `l_c` labels and `p_c` predictions of class `c`. In `[-1, 1]`, and 0 where the labels
    /// or the predictions are all one class, which a correlation says nothing about.
    ///
    /// # Source
    ///
    /// Gorodkin 2004, equation 8; scikit-learn's `matthews_corrcoef`.
    #[must_use]
    pub fn mcc(&self) -> f64 {
        let n = self.n_samples() as f64;
        let (labels, predictions) = (self.supports(), self.predicted());
        let dot = |left: &[u64], right: &[u64]| -> f64 {
            left.iter().zip(right).map(|(&l, &r)| l as f64 * r as f64).sum()
        };
        let covariance = n * self.hits() as f64 - dot(&labels, &predictions);
        let of_labels = n * n - dot(&labels, &labels);
        let of_predictions = n * n - dot(&predictions, &predictions);
        let scale = (of_labels * of_predictions).sqrt();
        if scale == 0.0 { 0.0 } else { covariance / scale }
    }

    /// One minus the weight of what was found over the weight of what chance gives.
    fn weighted_kappa(&self, weight: impl Fn(usize, usize) -> f64) -> Option<f64> {
        let n = self.n_samples() as f64;
        let (labels, predictions) = (self.supports(), self.predicted());
        let (mut found, mut expected) = (0.0, 0.0);
        for (label, &n_labels) in labels.iter().enumerate() {
            for (prediction, &n_predictions) in predictions.iter().enumerate() {
                let weight = weight(label, prediction);
                found += weight * self.count(label, prediction) as f64;
                expected += weight * n_labels as f64 * n_predictions as f64 / n;
            }
        }
        (expected > 0.0).then(|| 1.0 - found / expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EvalError;

    /// Sums of a few `f64` in another order than numpy's.
    const TOLERANCE: f64 = 1e-12;

    // from sklearn.metrics import cohen_kappa_score, matthews_corrcoef
    // y, p = [0,0,2,2,2], [0,1,2,2,0]: class 1 is only predicted, class 3 is in neither.
    // cohen_kappa_score(y, p), cohen_kappa_score(y, p, weights="quadratic", labels=range(4))
    // matthews_corrcoef(y, p)
    #[test]
    fn agreement_with_absent_classes_equals_scikit_learn() -> Result<(), EvalError> {
        let confusion = Confusion::new(4, &[0, 0, 2, 2, 2], &[0, 1, 2, 2, 0])?;
        let found = [confusion.kappa(), confusion.quadratic_kappa(), Some(confusion.mcc())];
        let expected = [1.0 / 3.0, 0.444_444_444_444_444_4, 0.360_843_918_243_516_1];
        for (found, expected) in found.into_iter().zip(expected) {
            let found = found.unwrap();
            assert!((found - expected).abs() < TOLERANCE, "{found} is not {expected}");
        }
        Ok(())
    }

    #[test]
    fn agreement_of_one_class_is_undefined_and_its_correlation_zero() -> Result<(), EvalError> {
        let confusion = Confusion::new(3, &[1, 1], &[1, 1])?;
        assert_eq!((confusion.kappa(), confusion.quadratic_kappa()), (None, None));
        assert_eq!(confusion.mcc(), 0.0);
        Ok(())
    }

    #[test]
    fn agreement_of_a_constant_prediction_is_zero() -> Result<(), EvalError> {
        let confusion = Confusion::new(3, &[0, 1, 2, 2], &[1, 1, 1, 1])?;
        assert_eq!((confusion.kappa(), confusion.mcc()), (Some(0.0), 0.0));
        let inverted = Confusion::new(2, &[0, 0, 1, 1], &[1, 1, 0, 0])?;
        assert_eq!((inverted.kappa(), inverted.mcc()), (Some(-1.0), -1.0));
        Ok(())
    }
}
