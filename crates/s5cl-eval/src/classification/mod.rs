//! How good predicted classes and their probabilities are.

mod class_metrics;
mod confusion;

mod agreement;
mod cost;

mod brier;
mod log_loss;
mod one_vs_rest;
mod top_k;

mod class_tree;
mod result;

pub use brier::brier_score;
pub use class_metrics::ClassMetrics;
pub use class_tree::ClassTree;
pub use confusion::Confusion;
pub use cost::CostMatrix;
pub use log_loss::log_loss;
pub use one_vs_rest::OneVsRest;
pub use result::{ClassificationResult, chance};
pub use top_k::top_k_accuracy;
