//! Clusters of embeddings.

use rayon::prelude::*;
use s5cl_random::{Stream, named_stream};

use crate::error::{EvalError, at_least};
use crate::features::Features;
use crate::vectors::squared_distance;

/// How clusters are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KMeansConfig {
    /// Number of clusters, at least 1.
    pub n_clusters: usize,
    /// How many times it starts anew, at least 1; the best result is kept.
    pub n_restarts: usize,
    /// Most rounds of one start, at least 1.
    pub max_iterations: usize,
    /// Decides where it starts.
    pub seed: u64,
}

/// Clusters that were found.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeans {
    /// Cluster of each sample, `[n]`, below `n_clusters`.
    pub assignments: Vec<u32>,
    /// Mean of each cluster, `[n_clusters, width]`.
    pub centers: Features,
    /// Sum of the squared distances to the centers.
    pub inertia: f64,
    /// Whether the last round moved no sample, or every sample lies on its center.
    pub has_converged: bool,
}

/// Looks for the clusters whose samples are nearest to the clusters' means, in Euclidean distance.
///
/// Centers start by k-means++: each is drawn with a probability proportional to the squared
/// distance to those drawn before. Rounds of Lloyd's algorithm follow. A sample between two equally
/// near centers belongs to the first; a cluster that lost all samples moves to the sample that is
/// farthest from its center, unless all lie on theirs. The result does not depend on the number of threads.
///
/// # Shapes
///
/// `features`: `f32 [n, width]`, n at least `n_clusters`.
///
/// # Errors
///
/// When a number of the config is 0, or there are fewer samples than clusters.
///
/// # Source
///
/// Arthur and Vassilvitskii, "k-means++", SODA 2007; Lloyd, "Least squares quantization in PCM",
/// 1982.
pub fn k_means(features: &Features, config: KMeansConfig) -> Result<KMeans, EvalError> {
    at_least("clusters", config.n_clusters, 1)?;
    at_least("restarts", config.n_restarts, 1)?;
    at_least("iterations", config.max_iterations, 1)?;
    at_least("samples", features.n(), config.n_clusters)?;
    let mut stream = named_stream(config.seed, "k-means");
    let mut best = one_start(features, config, &mut stream)?;
    for _ in 1..config.n_restarts {
        let next = one_start(features, config, &mut stream)?;
        if next.inertia < best.inertia {
            best = next;
        }
    }
    Ok(best)
}

fn one_start(
    features: &Features,
    config: KMeansConfig,
    stream: &mut Stream,
) -> Result<KMeans, EvalError> {
    let width = features.width();
    let mut centers = spread_centers(features, config.n_clusters, stream);
    let mut nearest = assign(features, &centers);
    let mut has_converged = false;
    for _ in 0..config.max_iterations {
        // Fewer places than clusters: an empty one could take samples from others forever.
        if nearest.iter().all(|near| near.1 == 0.0) {
            has_converged = true;
            break;
        }
        move_centers(features, &mut nearest, &mut centers);
        let next = assign(features, &centers);
        has_converged = next.iter().map(|near| near.0).eq(nearest.iter().map(|near| near.0));
        nearest = next;
        if has_converged {
            break;
        }
    }
    Ok(KMeans {
        assignments: nearest.iter().map(|near| near.0 as u32).collect(),
        centers: Features::new(centers, width)?,
        inertia: nearest.iter().map(|near| near.1).sum(),
        has_converged,
    })
}

/// The nearest center of a sample, and its squared distance.
type Nearest = (usize, f64);

fn assign(features: &Features, centers: &[f32]) -> Vec<Nearest> {
    let width = features.width();
    let nearest = |row: &[f32]| {
        let distances = centers.chunks_exact(width).map(|center| squared_distance(row, center));
        let closer = |best: Nearest, next: Nearest| if next.1 < best.1 { next } else { best };
        distances.enumerate().fold((0, f64::INFINITY), closer)
    };
    features.as_slice().par_chunks_exact(width).map(nearest).collect()
}

/// Centers of k-means++, `[n_clusters, width]`.
fn spread_centers(features: &Features, n_clusters: usize, stream: &mut Stream) -> Vec<f32> {
    let width = features.width();
    let row = |idx: usize| &features.as_slice()[idx * width..][..width];
    let mut centers = row(stream.below(features.n())).to_vec();
    let mut squared: Vec<f64> = vec![f64::INFINITY; features.n()];
    for _ in 1..n_clusters {
        let newest = &centers[centers.len() - width..];
        for (squared, row) in squared.iter_mut().zip(features.rows()) {
            *squared = squared.min(squared_distance(row, newest));
        }
        let threshold = stream.uniform_f64() * squared.iter().sum::<f64>();
        let mut sum = 0.0;
        let drawn = squared.iter().position(|squared| {
            sum += squared;
            sum > threshold
        });
        // There is none if every sample lies on a center.
        let idx = drawn.unwrap_or_else(|| stream.below(features.n()));
        centers.extend_from_slice(row(idx));
    }
    centers
}

/// Moves every center to the mean of its samples.
fn move_centers(features: &Features, nearest: &mut [Nearest], centers: &mut [f32]) {
    let width = features.width();
    let n_clusters = centers.len() / width;
    let mut counts = vec![0_usize; n_clusters];
    nearest.iter().for_each(|near| counts[near.0] += 1);
    for empty in 0..n_clusters {
        if counts[empty] > 0 {
            continue;
        }
        let farther = |best: usize, idx: usize| {
            if nearest[idx].1 > nearest[best].1 { idx } else { best }
        };
        let farthest = (0..nearest.len()).fold(0, farther);
        if nearest[farthest].1 == 0.0 {
            break;
        }
        counts[nearest[farthest].0] -= 1;
        counts[empty] = 1;
        nearest[farthest] = (empty, 0.0);
    }
    let mut sums = vec![0.0_f64; centers.len()];
    for (row, near) in features.rows().zip(nearest) {
        for (sum, &value) in sums[near.0 * width..][..width].iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    for (idx, (center, sum)) in centers.iter_mut().zip(sums).enumerate() {
        // A cluster without samples, where no other had one to give, stays where it is.
        if counts[idx / width] > 0 {
            *center = (sum / counts[idx / width] as f64) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: KMeansConfig =
        KMeansConfig { n_clusters: 3, n_restarts: 5, max_iterations: 100, seed: 0 };

    /// Three clouds of 40 samples around 0, 10 and 20 of the first column.
    fn clouds() -> Features {
        let mut stream = named_stream(0, "clouds");
        let values =
            (0..120).flat_map(|i| [(i % 3) as f32 * 10.0 + stream.normal(), stream.normal()]);
        Features::new(values.collect(), 2).unwrap()
    }

    #[test]
    fn k_means_finds_clouds() {
        let found = k_means(&clouds(), CONFIG).unwrap();
        assert!(found.has_converged);
        for i in 3..120 {
            assert_eq!(found.assignments[i], found.assignments[i % 3]);
        }
        let mut centers: Vec<f32> = found.centers.rows().map(|row| row[0]).collect();
        centers.sort_by(f32::total_cmp);
        for (center, expected) in centers.iter().zip([0.0, 10.0, 20.0]) {
            assert!((center - expected).abs() < 0.5, "{centers:?}");
        }
        // Two columns of variance 1.
        assert!((found.inertia / 240.0 - 1.0).abs() < 0.2, "{}", found.inertia);
    }

    #[test]
    fn k_means_depends_on_the_seed_alone() {
        let features = clouds();
        let config = KMeansConfig { n_clusters: 7, n_restarts: 1, ..CONFIG };
        let found = k_means(&features, config).unwrap();
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one_thread.install(|| k_means(&features, config)).unwrap(), found);
        assert_ne!(k_means(&features, KMeansConfig { seed: 1, ..config }).unwrap(), found);
    }

    #[test]
    fn k_means_keeps_every_cluster_where_it_can() {
        // Five samples at two places and a third far away: of three clusters, none is empty.
        let features = Features::new(vec![0.0, 0.0, 0.0, 1.0, 1.0, 9.0], 1).unwrap();
        for seed in 0..20 {
            let found = k_means(&features, KMeansConfig { seed, n_restarts: 1, ..CONFIG }).unwrap();
            let mut clusters = found.assignments.clone();
            clusters.sort_unstable();
            clusters.dedup();
            assert_eq!((clusters, found.inertia), (vec![0, 1, 2], 0.0));
        }
        let equal = Features::new(vec![2.0; 4], 1).unwrap();
        let found = k_means(&equal, CONFIG).unwrap();
        assert_eq!((found.inertia, found.has_converged), (0.0, true));
    }

    #[test]
    fn k_means_refuses_bad_input() {
        let features = Features::new(vec![1.0, 2.0], 1).unwrap();
        let error = |config| k_means(&features, config).unwrap_err().to_string();
        assert_eq!(error(CONFIG), "there are 2 samples, but at least 3 are needed");
        assert!(error(KMeansConfig { n_clusters: 0, ..CONFIG }).contains("0 clusters"));
        assert!(error(KMeansConfig { n_restarts: 0, ..CONFIG }).contains("0 restarts"));
        assert!(error(KMeansConfig { max_iterations: 0, ..CONFIG }).contains("0 iterations"));
    }
}
