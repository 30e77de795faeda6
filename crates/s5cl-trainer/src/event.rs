//! What the loop tells while it runs.

use std::path::PathBuf;

use serde::Serialize;

use crate::PseudoLabels;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A step was taken.
    Step(StepRecord),
    /// A checkpoint is in place.
    Checkpoint {
        /// Steps that it holds.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
}

/// The figures of one step. Terms are before weighting; a term that did not take part is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    /// 0-based.
    pub step: u64,
    /// The weighted sum that was minimized.
    pub total: f64,
    /// Contrast on labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervised: Option<f64>,
    /// Where that term cannot go lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervised_floor: Option<f64>,
    /// Contrast on unlabeled images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsupervised: Option<f64>,
    /// Where that term cannot go lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsupervised_floor: Option<f64>,
    /// Cross entropy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<f64>,
    /// How much of the unsupervised term is contrast on pseudo-labels, 0 to 1.
    pub pseudo_share: f64,
    /// Share of the unlabeled images whose prediction was confident enough to be a pseudo-label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pseudo_accepted: Option<f64>,
    /// What the classifier said of each of them.
    #[serde(skip)]
    pub pseudo_labels: Option<PseudoLabels>,
    /// The rate of this step.
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping. Not finite where the step was left out
    /// because gradients in half precision had overflowed.
    pub gradient_norm: f64,
    /// What the loss was multiplied with for its gradient, where that is in half precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Images that went through the model, both views counted.
    pub n_views: usize,
}
