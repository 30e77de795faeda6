//! How well embeddings tell classes apart, by themselves or through a simple classifier.

mod distance;

mod cosine_knn;
mod knn;
mod nearest_class_mean;

mod lbfgs;
mod linear_probe;
mod logistic_regression;

mod alignment;
mod effective_rank;
mod silhouette;
mod uniformity;

mod k_means;
mod mutual_information;

pub use alignment::{alignment, class_alignment};
pub use cosine_knn::{CosineKnnConfig, cosine_knn_predict, cosine_knn_probabilities};
pub use distance::{DISTANCES, Distance};
pub use effective_rank::effective_rank;
pub use k_means::{KMeans, KMeansConfig, k_means};
pub use knn::knn_predict;
pub use lbfgs::Stopping;
pub use linear_probe::{LinearProbe, LinearProbeConfig};
pub use logistic_regression::LogisticRegression;
pub use mutual_information::{adjusted_mutual_information, normalized_mutual_information};
pub use nearest_class_mean::nearest_class_mean_predict;
pub use silhouette::silhouette;
pub use uniformity::uniformity;
