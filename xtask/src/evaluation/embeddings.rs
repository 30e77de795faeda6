//! What the embeddings alone are worth.

use anyhow::Result;
use s5cl_eval::{
    Confusion, CosineKnnConfig, Distance, EvalError, KMeansConfig, LinearProbe, LinearProbeConfig,
    adjusted_mutual_information, class_alignment, cosine_knn_predict, effective_rank, k_means,
    nearest_class_mean_predict, normalized_mutual_information, silhouette, uniformity,
};
use serde::Serialize;

use super::part::Part;
use super::predictions::number_groups;

/// Neighbors that vote, at most: few labels have no more to offer.
const VOTERS: usize = 20;
/// Starts of k-means, of which the best counts.
const RESTARTS: usize = 5;
/// Passes of one start, at most.
const MOST_ITERATIONS: usize = 100;

/// Classifiers on the embeddings, fitted on the labeled images, by their balanced accuracy on
/// test; and how the test images lie. What is not defined for these images is absent.
#[derive(Debug, Serialize)]
pub(crate) struct Representation {
    knn: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    linear_probe: Option<f64>,
    nearest_class_mean: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    silhouette: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alignment: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uniformity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_rank: Option<f64>,
    dim: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    nmi: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ami: Option<f64>,
}

impl Representation {
    /// Fits the classifiers and looks at the test images.
    pub(crate) fn new(labeled: &Part, test: &Part, n_classes: usize, seed: u64) -> Result<Self> {
        let (train, known) = (&labeled.embeddings, known_labels(labeled));
        let (query, truth) = (&test.embeddings, known_labels(test));
        let judged = |predictions: Vec<u32>| -> Result<f64> {
            Ok(Confusion::new(n_classes, &truth, &predictions)?.balanced_accuracy())
        };
        let k = VOTERS.min(train.n());
        let config = CosineKnnConfig { k, ..CosineKnnConfig::dino() };
        let knn = cosine_knn_predict(train, &known, n_classes, query, config)?;
        let means = nearest_class_mean_predict(train, &known, n_classes, query, Distance::Cosine)?;
        let config = LinearProbeConfig::half_decades(seed);
        let groups = number_groups(labeled.groups.iter().map(Option::as_deref));
        let fit = |groups| defined(LinearProbe::fit(train, &known, n_classes, groups, &config));
        // Too few groups to hold some of them out: then images are.
        let probe = match fit(groups.as_deref())? {
            None if groups.is_some() => fit(None)?,
            probe => probe,
        };
        let converged = probe.filter(|probe| probe.model().has_converged());
        let probe = converged.map(|probe| probe.predict(query)).transpose()?;
        let clusters = KMeansConfig {
            n_clusters: n_classes.min(query.n()),
            n_restarts: RESTARTS,
            max_iterations: MOST_ITERATIONS,
            seed,
        };
        let clusters = defined(k_means(query, clusters))?.map(|found| found.assignments);
        let agreement = |measure: fn(&[u32], &[u32]) -> Result<f64, EvalError>| {
            clusters.as_ref().map(|clusters| measure(clusters, &truth)).transpose()
        };
        Ok(Self {
            knn: judged(knn)?,
            linear_probe: probe.map(judged).transpose()?,
            nearest_class_mean: judged(means)?,
            silhouette: defined(silhouette(query, &truth, Distance::Cosine))?,
            alignment: defined(class_alignment(query, &truth))?,
            uniformity: defined(uniformity(query))?,
            effective_rank: defined(effective_rank(query))?,
            dim: query.width(),
            nmi: agreement(normalized_mutual_information)?,
            ami: agreement(adjusted_mutual_information)?,
        })
    }

    /// Whether the embeddings have given up most of their room: classes in general position span
    /// one direction fewer than there are classes.
    pub(crate) fn collapse(&self, n_classes: usize) -> Option<String> {
        let rank = self.effective_rank?;
        let expected = n_classes.saturating_sub(1).min(self.dim) as f64;
        (rank < expected / 2.0).then(|| {
            format!(
                "collapse: the embeddings of the test images span {rank:.1} directions; \
                 {n_classes} classes that are kept apart span about {expected}"
            )
        })
    }
}

/// The labels of images that all have one.
fn known_labels(part: &Part) -> Vec<u32> {
    part.labels.iter().copied().flatten().collect()
}

/// A measure, or `None` where there are too few images or classes for it.
pub(super) fn defined<T>(measured: Result<T, EvalError>) -> Result<Option<T>, EvalError> {
    match measured {
        Ok(value) => Ok(Some(value)),
        Err(EvalError::TooFew { .. } | EvalError::OneClass { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
