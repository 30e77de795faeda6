//! Classification by the most similar training embeddings, closer ones with a larger vote.

use s5cl_kernels::{TopK, top_k};

use crate::error::{EvalError, classes_in_range, positive, same_length, same_width};
use crate::features::Features;
use crate::probabilities::Probabilities;
use crate::vectors::argmax;

/// What the vote of a training sample depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineKnnConfig {
    /// How many samples vote, at least 1; more than there are lets all vote.
    pub k: usize,
    /// What similarities are divided by, above 0: the smaller, the more the nearest one decides.
    pub temperature: f64,
}

impl CosineKnnConfig {
    /// 20 neighbors at temperature 0.07, with which Caron et al., "Emerging properties in
    /// self-supervised vision transformers", ICCV 2021, evaluate their features (there called
    /// DINO); the temperature is that of Wu et al. 2018.
    #[must_use]
    pub fn dino() -> Self {
        Self { k: 20, temperature: 0.07 }
    }
}

/// Shares of the votes that every class gets from the `k` training samples of largest cosine:
///
/// `p(c) = sum_{j in the k nearest, label_j = c} w_j / sum_{j in the k nearest} w_j`,
/// `w_j = exp(cos(query, train_j) / temperature)`
///
/// Of equally similar training samples the earlier ones are nearer. A row of zeros has cosine 0
/// with all others.
///
/// # Shapes
///
/// `train`: `f32 [n, width]`; `labels`: `u32 [n]`, below `n_classes`; `query`: `f32 [m, width]`.
/// m at least 1. Returns `[m, n_classes]`.
///
/// # Errors
///
/// When `k` is 0, the temperature is not above 0, there is no training sample or no
/// query, the labels do not
/// fit, or the widths differ.
///
/// # Source
///
/// Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR
/// 2018, section 3.4.
pub fn cosine_knn_probabilities(
    train: &Features,
    labels: &[u32],
    n_classes: usize,
    query: &Features,
    config: CosineKnnConfig,
) -> Result<Probabilities, EvalError> {
    Probabilities::of_queries(&shares(train, labels, n_classes, query, config)?, n_classes)
}

/// Shares of the votes, `[m, n_classes]`.
fn shares(
    train: &Features,
    labels: &[u32],
    n_classes: usize,
    query: &Features,
    config: CosineKnnConfig,
) -> Result<Vec<f64>, EvalError> {
    let CosineKnnConfig { k, temperature } = config;
    if k == 0 {
        return Err(EvalError::NoNeighbors);
    }
    positive("temperature", temperature)?;
    if train.n() == 0 {
        return Err(EvalError::Empty { what: "train" });
    }
    same_length(("labels", labels.len()), ("train", train.n()))?;
    classes_in_range("labels", labels, n_classes)?;
    same_width(train.width(), query.width())?;
    let search = TopK { k, is_cosine: true, excludes_own: false };
    let found = top_k(query.as_slice(), train.as_slice(), train.width(), search)
        .map_err(|error| EvalError::Search { message: error.to_string() })?;
    let mut shares = vec![0.0; query.n() * n_classes];
    let similarities = found.similarities.chunks_exact(found.per_query);
    let indices = found.indices.chunks_exact(found.per_query);
    for ((similarities, indices), shares) in
        similarities.zip(indices).zip(shares.chunks_exact_mut(n_classes))
    {
        // The most similar sample comes first. Its weight is taken out of all, so that none is
        // infinite.
        let weight =
            |similarity: f32| (f64::from(similarity - similarities[0]) / temperature).exp();
        for (&similarity, &sample) in similarities.iter().zip(indices) {
            shares[labels[sample as usize] as usize] += weight(similarity);
        }
        let total: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= total);
    }
    Ok(shares)
}

/// The class with the largest share of [`cosine_knn_probabilities`], of equal ones the smaller
/// index.
///
/// # Shapes
///
/// As there, with any number of queries. Returns `u32 [m]`.
///
/// # Errors
///
/// As there.
///
/// # Example
///
/// ```
/// use s5cl_eval::{CosineKnnConfig, Features, cosine_knn_predict};
///
/// let train = Features::new(vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0], 2)?;
/// let query = Features::new(vec![0.2, 5.0], 2)?;
/// let config = CosineKnnConfig::dino();
/// assert_eq!(cosine_knn_predict(&train, &[0, 0, 1], 2, &query, config)?, [1]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn cosine_knn_predict(
    train: &Features,
    labels: &[u32],
    n_classes: usize,
    query: &Features,
    config: CosineKnnConfig,
) -> Result<Vec<u32>, EvalError> {
    let shares = shares(train, labels, n_classes, query, config)?;
    Ok(shares.chunks_exact(n_classes).map(|shares| argmax(shares) as u32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cosines are f32, and the temperature multiplies their rounding.
    const TOLERANCE: f64 = 1e-5;

    fn plane(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 2).unwrap()
    }

    #[test]
    fn cosine_knn_weights_votes_by_similarity() {
        let train = plane(&[1.0, 0.0, 3.0, 4.0, 4.0, 3.0, -1.0, 0.0]);
        let config = CosineKnnConfig { k: 3, temperature: 0.5 };
        let shares =
            cosine_knn_probabilities(&train, &[1, 0, 0, 2], 3, &plane(&[2.0, 0.0]), config);
        // Similarities 1 (class 1), 0.6 and 0.8 (class 0); the fourth has no vote.
        let weights = [2.0_f64.exp(), 1.2_f64.exp() + 1.6_f64.exp()];
        let total = weights[0] + weights[1];
        let expected = [weights[1] / total, weights[0] / total, 0.0];
        for (&found, expected) in shares.unwrap().as_slice().iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < TOLERANCE, "{found} is not {expected}");
        }
    }

    #[test]
    fn cosine_knn_follows_the_nearest_one_at_a_low_temperature() {
        let train = plane(&[1.0, 0.0, 0.8, 0.6, 0.8, 0.6]);
        let predict = |temperature| {
            let config = CosineKnnConfig { k: 3, temperature };
            cosine_knn_predict(&train, &[1, 0, 0], 2, &plane(&[1.0, 0.1]), config).unwrap()
        };
        assert_eq!((predict(1e-6), predict(1.0)), (vec![1], vec![0]));
    }

    #[test]
    fn cosine_knn_refuses_bad_input() {
        let (train, query) = (plane(&[1.0, 0.0]), plane(&[0.0, 1.0]));
        let ask = |train: &Features, labels: &[u32], query: &Features, k, temperature| {
            let config = CosineKnnConfig { k, temperature };
            cosine_knn_predict(train, labels, 2, query, config).map_err(|error| error.to_string())
        };
        assert_eq!(ask(&train, &[1], &query, 5, 0.1).unwrap(), [1]);
        assert_eq!(ask(&train, &[1], &plane(&[]), 5, 0.1).unwrap(), [0; 0]);
        assert!(ask(&train, &[1], &query, 0, 0.1).unwrap_err().starts_with("k is 0"));
        assert!(ask(&train, &[1], &query, 1, 0.0).unwrap_err().starts_with("temperature is 0"));
        assert!(ask(&train, &[2], &query, 1, 0.1).unwrap_err().contains("is 2, but"));
        assert!(ask(&train, &[1, 1], &query, 1, 0.1).is_err());
        assert!(ask(&plane(&[]), &[], &query, 1, 0.1).unwrap_err().contains("train is empty"));
        let narrow = Features::new(vec![1.0], 1).unwrap();
        assert!(ask(&train, &[1], &narrow, 1, 0.1).is_err());
    }
}
