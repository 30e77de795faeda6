//! What is known of one class.

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
    /// Area under the ROC curve of this class against the others, in `[0, 1]`; `None` as well
    /// where no probabilities are known.
    pub auroc: Option<f64>,
    /// Average precision of this class against the others, in `[0, 1]`; `None` as well where no
    /// probabilities are known.
    pub average_precision: Option<f64>,
    /// Low and high end of the recall's 95 % interval; left out of the JSON until the caller,
    /// who knows the groups of the samples, fills it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_interval: Option<[f64; 2]>,
}
