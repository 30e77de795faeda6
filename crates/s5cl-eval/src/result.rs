//! Results as they are written to `metrics.json`.

use serde::Serialize;

/// The metrics of one class; `None` (JSON `null`) where the denominator is zero.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// The class's name.
    pub name: String,
    /// Fraction of the class's samples that were found, in `[0, 1]`.
    pub recall: Option<f64>,
    /// Fraction of the predictions of this class that were right, in `[0, 1]`.
    pub precision: Option<f64>,
    /// Harmonic mean of recall and precision, in `[0, 1]`.
    pub f1: Option<f64>,
    /// Number of samples with this label.
    pub support: u64,
}

/// All metrics of one evaluation; its fields are the keys under `test` in `metrics.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassificationResult {
    /// Fraction of right predictions, in `[0, 1]`.
    pub accuracy: f64,
    /// Mean recall over the classes that occur, in `[0, 1]`.
    pub balanced_accuracy: f64,
    /// Mean F1 over the classes that occur or were predicted, in `[0, 1]`.
    pub macro_f1: f64,
    /// F1 weighted by support, in `[0, 1]`.
    pub weighted_f1: f64,
    /// Mean cross entropy in nats; left out of the JSON when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// One entry a class, in the order of the class index.
    pub per_class: Vec<ClassMetrics>,
    /// Counts, one row a true class, one column a predicted class.
    pub confusion: Vec<Vec<u64>>,
}

/// Balanced accuracy of guessing, `1 / n_classes`; 0 when there is no class.
///
/// Guessing uniformly and always answering the same class both have this expectation, however
/// unequal the classes are, which is why balanced accuracy is what runs are compared by.
#[must_use]
pub fn chance(n_classes: usize) -> f64 {
    if n_classes == 0 { 0.0 } else { 1.0 / n_classes as f64 }
}

#[cfg(test)]
mod tests {
    use crate::{Confusion, EvalError, chance};

    #[test]
    fn result_serializes_under_the_names_of_metrics_json() {
        let confusion = Confusion::new(2, &[0, 0], &[0, 0]).unwrap();
        let result = confusion.result(&["tumor", "stroma"], Some(0.25)).unwrap();
        let json = serde_json::to_value(&result).unwrap();
        for key in ["accuracy", "balanced_accuracy", "macro_f1", "weighted_f1"] {
            assert_eq!(json[key], 1.0, "{key}");
        }
        assert_eq!(json["loss"], 0.25);
        assert_eq!(json["per_class"][0]["name"], "tumor");
        assert_eq!(json["per_class"][0]["support"], 2);
        assert!(json["per_class"][1]["recall"].is_null());
        assert_eq!(json["confusion"], serde_json::json!([[2, 0], [0, 0]]));
        let without_loss = serde_json::to_value(confusion.result(&["a", "b"], None).unwrap());
        assert!(without_loss.unwrap().get("loss").is_none());
    }

    #[test]
    fn result_needs_one_name_a_class() {
        let confusion = Confusion::new(2, &[0], &[0]).unwrap();
        let error = confusion.result(&["tumor"], None).unwrap_err();
        assert!(matches!(error, EvalError::LengthMismatch { n_left: 1, n_right: 2, .. }));
    }

    #[test]
    fn chance_is_one_over_the_classes() {
        assert_eq!(chance(4), 0.25);
        assert_eq!(chance(0), 0.0);
    }
}
