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
//! | the classifier that reads such features | [`Standardizer`], [`knn_predict`] |
//! | classifiers that read embeddings | [`cosine_knn_predict`], [`LinearProbe`], [`nearest_class_mean_predict`] |
//! | how embeddings lie | [`silhouette`], [`alignment`], [`uniformity`], [`effective_rank`] |
//! | clusters, and how much they tell of the classes | [`k_means`], [`normalized_mutual_information`], [`adjusted_mutual_information`] |
//! | retrieval | [`nearest`], [`retrieval`], [`retrieval_at_k`] |
//! | maps in the plane | [`Pca`], [`t_sne`] |

mod error;

mod confusion;
mod log_loss;
mod result;

mod features;
mod pixels;
mod standardizer;

mod projection;
mod representation;
mod retrieval;

mod singular;
mod vectors;

pub use confusion::Confusion;
pub use error::EvalError;
pub use features::Features;
pub use log_loss::log_loss;
pub use pixels::{color_features, thumbnail_features};
pub use result::{ClassMetrics, ClassificationResult, chance};
pub use standardizer::Standardizer;

pub use projection::{Pca, Tsne, TsneConfig, t_sne};
pub use representation::{
    CosineKnnConfig, DISTANCES, Distance, KMeans, KMeansConfig, LinearProbe, LinearProbeConfig,
    LogisticRegression, Stopping, adjusted_mutual_information, alignment, class_alignment,
    cosine_knn_predict, cosine_knn_probabilities, effective_rank, k_means, knn_predict,
    nearest_class_mean_predict, normalized_mutual_information, silhouette, stratified_folds,
    uniformity,
};
pub use retrieval::{
    LeftOut, RetrievalAtK, RetrievalResult, Retrieved, nearest, retrieval, retrieval_at_k,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
