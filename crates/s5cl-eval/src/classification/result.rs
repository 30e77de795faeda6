//! Results as they are written to `metrics.json`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::calibration::{N_BINS, expected_calibration_error, reliability_bins};
use crate::classification::brier::brier_score;
use crate::classification::class_metrics::ClassMetrics;
use crate::classification::confusion::Confusion;
use crate::classification::log_loss::log_loss;
use crate::classification::one_vs_rest::OneVsRest;
use crate::classification::top_k::top_k_accuracy;
use crate::error::{EvalError, same_length};
use crate::probabilities::Probabilities;
use crate::statistics::{AccuracyIntervals, Interval};

/// The `k` of the top-k accuracies, where there are more classes than that.
const TOP_K: [usize; 2] = [3, 5];

/// All metrics of one evaluation; its fields are the keys under `test` in `metrics.json`.
///
/// What cannot be computed (see the metric itself) is JSON's `null`. What was not computed,
/// because the probabilities or the groups of the samples were not given, is `null` or left out.
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
    /// F1 of all decisions together, in `[0, 1]`: the accuracy.
    pub micro_f1: f64,
    /// Cohen's kappa, at most 1; 0 is chance.
    pub kappa: Option<f64>,
    /// Cohen's kappa with quadratic weights, at most 1: for classes whose index is a grade.
    pub quadratic_kappa: Option<f64>,
    /// Matthews' correlation coefficient, in `[-1, 1]`; 0 is chance.
    pub mcc: f64,
    /// Fraction of samples whose label is among the 3 and the 5 most probable classes, by that
    /// number; only numbers below that of the classes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub top_k: BTreeMap<usize, f64>,
    /// Mean area under the ROC curve of one class against the rest, in `[0, 1]`.
    pub auroc: Option<f64>,
    /// Mean average precision of one class against the rest, in `[0, 1]`.
    pub average_precision: Option<f64>,
    /// Mean cross entropy in nats; left out of the JSON when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Brier score summed over classes, in `[0, 2]`; left out of the JSON when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brier: Option<f64>,
    /// Expected calibration error in 15 bins, in `[0, 1]`; left out of the JSON when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ece: Option<f64>,
    /// Low and high ends of 95 % intervals by metric; left out of the JSON until the caller, who
    /// knows the groups of the samples, fills them in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals: Option<BTreeMap<String, [f64; 2]>>,
    /// One entry a class, in the order of the class index.
    pub per_class: Vec<ClassMetrics>,
    /// Counts, one row a true class, one column a predicted class.
    pub confusion: Vec<Vec<u64>>,
}

impl ClassificationResult {
    /// All metrics of predicted probabilities, whose most probable classes are the predictions.
    ///
    /// # Shapes
    ///
    /// `labels`: `[n]`; `probabilities`: `[n, n_classes]`; `class_names`: `[n_classes]`.
    ///
    /// # Errors
    ///
    /// When the lengths do not fit or a label is not below the number of classes.
    ///
    /// # Example
    ///
    /// ```
    /// use s5cl_eval::{ClassificationResult, Probabilities};
    ///
    /// let probabilities = Probabilities::new(vec![0.9, 0.1, 0.4, 0.6, 0.2, 0.8], 2)?;
    /// let result = ClassificationResult::new(&[0, 0, 1], &probabilities, &["tumor", "stroma"])?;
    /// assert_eq!(result.balanced_accuracy, 0.75);
    /// assert_eq!(result.auroc, Some(1.0));
    /// # Ok::<(), s5cl_eval::EvalError>(())
    /// ```
    pub fn new<S: AsRef<str>>(
        labels: &[u32],
        probabilities: &Probabilities,
        class_names: &[S],
    ) -> Result<Self, EvalError> {
        let n_classes = probabilities.n_classes();
        let confusion = Confusion::new(n_classes, labels, &probabilities.predictions())?;
        let bins = reliability_bins(probabilities, labels, N_BINS)?;
        let ranking = OneVsRest::new(probabilities, labels)?;

        let mut result = confusion.result(class_names, Some(log_loss(probabilities, labels)?))?;
        for k in TOP_K.into_iter().filter(|&k| k < n_classes) {
            result.top_k.insert(k, top_k_accuracy(probabilities, labels, k)?);
        }
        result.brier = Some(brier_score(probabilities, labels)?);
        result.ece = Some(expected_calibration_error(&bins));
        result.auroc = ranking.macro_auroc();
        result.average_precision = ranking.macro_average_precision();
        for (class_idx, class) in result.per_class.iter_mut().enumerate() {
            class.auroc = ranking.auroc[class_idx];
            class.average_precision = ranking.average_precision[class_idx];
        }
        Ok(result)
    }
}

impl ClassificationResult {
    /// Takes over the intervals of the same predictions.
    #[must_use]
    pub fn with_intervals(mut self, intervals: &AccuracyIntervals) -> Self {
        let AccuracyIntervals { accuracy, balanced_accuracy, macro_f1, recall } = intervals;
        let of_all = [
            ("accuracy", accuracy),
            ("balanced_accuracy", balanced_accuracy),
            ("macro_f1", macro_f1),
        ];
        let named = |(name, interval): (&str, &Interval)| (name.to_owned(), (*interval).into());
        self.intervals = Some(of_all.into_iter().map(named).collect());
        for (class, interval) in self.per_class.iter_mut().zip(recall) {
            class.recall_interval = interval.map(Into::into);
        }
        self
    }
}

impl Confusion {
    /// All metrics of predictions without probabilities.
    ///
    /// `class_names` has one name a class; `loss` is the mean cross entropy in nats, if known.
    ///
    /// # Errors
    ///
    /// When the number of names is not the number of classes.
    pub fn result<S: AsRef<str>>(
        &self,
        class_names: &[S],
        loss: Option<f64>,
    ) -> Result<ClassificationResult, EvalError> {
        let n_classes = self.n_classes();
        same_length(("class_names", class_names.len()), ("the confusion matrix", n_classes))?;
        let mut per_class = self.per_class();
        for (class, name) in per_class.iter_mut().zip(class_names) {
            class.name = name.as_ref().to_owned();
        }
        Ok(ClassificationResult {
            accuracy: self.accuracy(),
            balanced_accuracy: self.balanced_accuracy(),
            macro_f1: self.macro_f1(),
            weighted_f1: self.weighted_f1(),
            micro_f1: self.micro_f1(),
            kappa: self.kappa(),
            quadratic_kappa: self.quadratic_kappa(),
            mcc: self.mcc(),
            top_k: BTreeMap::new(),
            auroc: None,
            average_precision: None,
            loss,
            brier: None,
            ece: None,
            intervals: None,
            per_class,
            confusion: self.rows(),
        })
    }
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
    use super::*;

    const NAMES: [&str; 2] = ["tumor", "stroma"];

    #[test]
    fn result_serializes_under_the_names_of_metrics_json() {
        let confusion = Confusion::new(2, &[0, 0], &[0, 0]).unwrap();
        let result = confusion.result(&NAMES, Some(0.25)).unwrap();
        let json = serde_json::to_value(&result).unwrap();
        for key in ["accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "micro_f1"] {
            assert_eq!(json[key], 1.0, "{key}");
        }
        assert_eq!(json["loss"], 0.25);
        assert_eq!(json["per_class"][0]["name"], "tumor");
        assert_eq!(json["per_class"][0]["support"], 2);
        assert!(json["per_class"][1]["recall"].is_null());
        assert_eq!(json["confusion"], serde_json::json!([[2, 0], [0, 0]]));
        let without_loss = serde_json::to_value(confusion.result(&NAMES, None).unwrap()).unwrap();
        for key in ["loss", "brier", "ece", "top_k", "intervals"] {
            assert!(without_loss.get(key).is_none(), "{key}");
        }
    }

    #[test]
    fn result_of_probabilities_holds_every_metric() -> Result<(), EvalError> {
        let values = [0.5, 0.125, 0.125, 0.25, 0.125, 0.5, 0.25, 0.125].to_vec();
        let probabilities = Probabilities::new(values, 4)?;
        let names = ["a", "b", "c", "d"];
        let mut result = ClassificationResult::new(&[0, 2], &probabilities, &names)?;
        result.intervals = Some(BTreeMap::from([("accuracy".to_owned(), [0.1, 0.9])]));
        result.per_class[0].recall_interval = Some([0.2, 1.0]);
        let json = serde_json::to_value(&result).unwrap();
        assert_eq!(json["accuracy"], 0.5);
        assert_eq!(json["top_k"], serde_json::json!({ "3": 1.0 }));
        assert_eq!(json["auroc"], 1.0);
        assert_eq!(json["average_precision"], 1.0);
        for key in ["kappa", "quadratic_kappa", "mcc", "loss", "brier", "ece"] {
            assert!(json[key].is_number(), "{key}");
        }
        assert_eq!(json["intervals"]["accuracy"], serde_json::json!([0.1, 0.9]));
        assert_eq!(json["per_class"][0]["recall_interval"], serde_json::json!([0.2, 1.0]));
        assert!(json["per_class"][1].get("recall_interval").is_none());
        assert_eq!(json["per_class"][2]["auroc"], 1.0);
        assert!(json["per_class"][3]["average_precision"].is_null());
        Ok(())
    }

    #[test]
    fn result_of_one_class_has_null_for_what_is_undefined() -> Result<(), EvalError> {
        let probabilities = Probabilities::new(vec![0.75, 0.25, 1.0, 0.0], 2)?;
        let result = ClassificationResult::new(&[0, 0], &probabilities, &NAMES)?;
        let json = serde_json::to_value(&result).unwrap();
        for key in ["kappa", "quadratic_kappa", "auroc", "average_precision"] {
            assert!(json[key].is_null(), "{key}");
        }
        assert_eq!((result.accuracy, result.balanced_accuracy, result.mcc), (1.0, 1.0, 0.0));
        Ok(())
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
