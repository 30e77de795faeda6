//! Evaluation of classifiers and embeddings: metrics and how far they can be trusted, calibration,
//! probes, retrieval, projections, and the baselines that a result has to beat.
//!
//! Everything here reads plain slices and changes nothing: labels and predictions are `u32`
//! class indices, images are `u8` pixels in NHWC order, features are rows of `f32`. Metrics are
//! summed in `f64`, in an order that the number of threads does not change, so that the same input
//! gives the same bits.
//!
//! | what | where |
//! |---|---|
//! | what a classifier says of samples | [`Probabilities`] |
//! | everything at once: the object under `test` in `metrics.json` | [`ClassificationResult`] |
//! | accuracy, balanced accuracy, recall, precision, F1, kappa, correlation | [`Confusion`] |
//! | cross entropy, Brier score, top-k accuracy of probabilities | [`log_loss`], [`brier_score`], [`top_k_accuracy`] |
//! | AUROC and average precision, one class against the rest | [`OneVsRest`] |
//! | what mistakes cost, results of parent classes | [`CostMatrix`], [`ClassTree`] |
//! | reliability, expected calibration error | [`reliability_bins`], [`expected_calibration_error`] |
//! | temperature scaling, also without a set of its own | [`Temperature`], [`cross_fit_temperature`] |
//! | error when unsure predictions are withheld | [`CoverageCurve`] |
//! | sets that hold the label with a chosen probability | [`Conformal`] |
//! | how far one gets by guessing, by color, by a tiny thumbnail | [`chance`], [`color_features`], [`thumbnail_features`] |
//! | how far a figure can be trusted, over test images and over seeds | [`accuracy_intervals`], [`bootstrap`], [`compare_runs`], [`over_seeds`] |
//! | the classifier that reads such features | [`Standardizer`], [`knn_predict`] |
//! | classifiers that read embeddings | [`cosine_knn_predict`], [`LinearProbe`], [`nearest_class_mean_predict`] |
//! | how embeddings lie | [`silhouette`], [`alignment`], [`uniformity`], [`effective_rank`] |
//! | clusters, and how much they tell of the classes | [`k_means`], [`normalized_mutual_information`], [`adjusted_mutual_information`] |
//! | retrieval | [`nearest`], [`retrieval`], [`retrieval_at_k`] |
//! | maps in the plane | [`Pca`], [`t_sne`] |

mod error;

mod probabilities;

mod calibration;
mod classification;

mod features;
mod folds;
mod pixels;
mod standardizer;

mod projection;
mod representation;
mod retrieval;
mod statistics;

mod singular;
mod vectors;

pub use calibration::{
    CONFORMAL_SCORES, Conformal, ConformalResult, ConformalScore, CoverageCurve, CoveragePoint,
    CrossFitted, N_BINS, ReliabilityBin, Temperature, cross_fit_temperature,
    expected_calibration_error, reliability_bins,
};
pub use classification::{
    ClassMetrics, ClassTree, ClassificationResult, Confusion, CostMatrix, OneVsRest, brier_score,
    chance, log_loss, top_k_accuracy,
};
pub use error::EvalError;
pub use features::Features;
pub use folds::stratified_folds;
pub use pixels::{color_features, thumbnail_features};
pub use probabilities::Probabilities;
pub use standardizer::Standardizer;
pub use statistics::{
    AccuracyIntervals, BootstrapConfig, BootstrapResult, Interval, McNemar, PairedBootstrap,
    PairedDifference, RunComparison, RunDifference, SeedSummary, TestRun, accuracy_intervals,
    bootstrap, compare_runs, mcnemar, mid_p, over_seeds, paired_bootstrap, paired_over_seeds,
    proportion_by_group, wilson,
};

pub use projection::{Pca, Tsne, TsneConfig, t_sne};
pub use representation::{
    CosineKnnConfig, DISTANCES, Distance, KMeans, KMeansConfig, LinearProbe, LinearProbeConfig,
    LogisticRegression, Stopping, adjusted_mutual_information, alignment, class_alignment,
    cosine_knn_predict, cosine_knn_probabilities, effective_rank, k_means, knn_predict,
    nearest_class_mean_predict, normalized_mutual_information, silhouette, uniformity,
};
pub use retrieval::{
    LeftOut, RetrievalAtK, RetrievalResult, Retrieved, nearest, retrieval, retrieval_at_k,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
