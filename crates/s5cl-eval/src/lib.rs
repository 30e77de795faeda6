//! Evaluation of classifiers: metrics, a nearest-neighbor classifier and the baselines that a
//! result has to beat.
//!
//! Everything here reads plain slices and changes nothing: labels and predictions are `u32`
//! class indices, images are `u8` pixels in NHWC order, features are rows of `f32`. Metrics are
//! summed in `f64`, in the order of the input, so that the same input gives the same bits.
//!
//! | what | where |
//! |---|---|
//! | accuracy, balanced accuracy, recall, precision, F1 | [`Confusion`] |
//! | the object under `test` in `metrics.json` | [`ClassificationResult`] |
//! | cross entropy of predicted probabilities | [`log_loss`] |
//! | how far one gets by guessing, by color, by a tiny thumbnail | [`chance`], [`color_features`], [`thumbnail_features`] |
//! | how far a figure can be trusted, over test images and over seeds | [`accuracy_intervals`], [`bootstrap`], [`compare_runs`], [`over_seeds`] |
//! | the classifier that reads such features | [`Standardizer`], [`knn_predict`] |

mod error;

mod confusion;
mod log_loss;
mod result;

mod features;
mod knn;
mod pixels;
mod standardizer;

mod statistics;

pub use confusion::Confusion;
pub use error::EvalError;
pub use features::Features;
pub use knn::knn_predict;
pub use log_loss::log_loss;
pub use pixels::{color_features, thumbnail_features};
pub use result::{ClassMetrics, ClassificationResult, chance};
pub use standardizer::Standardizer;
pub use statistics::{
    AccuracyIntervals, Bootstrap, BootstrapResult, Interval, McNemar, PairedBootstrap,
    PairedDifference, RunComparison, RunDifference, SeedSummary, TestRun, accuracy_intervals,
    bootstrap, compare_runs, mcnemar, mid_p, over_seeds, paired_bootstrap, paired_over_seeds,
    proportion_by_group, wilson,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
