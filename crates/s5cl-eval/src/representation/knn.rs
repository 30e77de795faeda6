//! Classification by the nearest training samples.

use rayon::prelude::*;

use crate::error::{EvalError, same_length, same_width};
use crate::features::Features;
use crate::vectors::squared_distance;

/// Predicts for every query the class of most of its `k` nearest training samples.
///
/// Distances are Euclidean and every pair is looked at; standardize first where columns differ
/// in unit (see [`crate::Standardizer`]). Of training samples at the same distance the earlier
/// ones are nearer. Classes with equally many votes: the one whose voters' distances sum to less
/// wins, then the smaller class index. `k` above the number of training samples lets all vote. The
/// result does not depend on the number of threads.
///
/// # Shapes
///
/// `train`: `[n, width]`; `labels`: `[n]`; `query`: `[m, width]`. Returns `[m]` labels.
///
/// # Errors
///
/// When `k` is zero, there is no training sample, the labels do not fit, or the widths differ.
///
/// # Source
///
/// scikit-learn's `KNeighborsClassifier(algorithm="brute")`, but for classes with equally many
/// votes, where it takes the smaller class index (`knn_tie_goes_to_the_nearer_class`).
///
/// # Example
///
/// ```
/// use s5cl_eval::{Features, knn_predict};
///
/// let train = Features::new(vec![0.0, 1.0, 10.0], 1)?;
/// let query = Features::new(vec![0.4, 9.0], 1)?;
/// assert_eq!(knn_predict(&train, &[0, 0, 1], &query, 1)?, [0, 1]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn knn_predict(
    train: &Features,
    labels: &[u32],
    query: &Features,
    k: usize,
) -> Result<Vec<u32>, EvalError> {
    if k == 0 {
        return Err(EvalError::NoNeighbors);
    }
    if train.n() == 0 {
        return Err(EvalError::Empty { what: "train" });
    }
    same_length(("labels", labels.len()), ("train", train.n()))?;
    same_width(train.width(), query.width())?;
    let room = || Vec::with_capacity(k.min(train.n()));
    let predict = |neighbors: &mut Vec<Neighbor>, row| {
        nearest(train, labels, row, k, neighbors);
        vote(neighbors)
    };
    let rows = query.as_slice().par_chunks_exact(query.width());
    Ok(rows.map_init(room, predict).collect())
}

/// A training sample as a voter: its squared distance to the query and its label.
type Neighbor = (f64, u32);

/// Leaves in `neighbors` the `k` nearest training samples, nearest first.
fn nearest(train: &Features, labels: &[u32], row: &[f32], k: usize, neighbors: &mut Vec<Neighbor>) {
    neighbors.clear();
    for (sample, &label) in train.rows().zip(labels) {
        let squared = squared_distance(sample, row);
        let is_full = neighbors.len() >= k;
        if is_full && neighbors.last().is_some_and(|&(farthest, _)| squared >= farthest) {
            continue;
        }
        if is_full {
            neighbors.pop();
        }
        let position = neighbors.partition_point(|&(nearer, _)| nearer <= squared);
        neighbors.insert(position, (squared, label));
    }
}

/// The label with the most votes; there is at least one voter.
fn vote(neighbors: &[Neighbor]) -> u32 {
    let mut tallies: Vec<(u32, usize, f64)> = Vec::new();
    for &(squared, label) in neighbors {
        match tallies.iter_mut().find(|tally| tally.0 == label) {
            Some(tally) => {
                tally.1 += 1;
                tally.2 += squared.sqrt();
            }
            None => tallies.push((label, 1, squared.sqrt())),
        }
    }
    let winner = tallies.iter().min_by(|left, right| {
        right.1.cmp(&left.1).then(left.2.total_cmp(&right.2)).then(left.0.cmp(&right.0))
    });
    winner.map_or(0, |tally| tally.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Standardizer;

    fn line(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 1).unwrap()
    }

    // i, j = np.arange(24), np.arange(9)
    // X = np.stack([np.sin(1.3 * i), np.cos(0.7 * i) * 10, np.full(24, 3.)], 1)
    // Q = np.stack([np.sin(0.9 * j + .2), np.cos(0.4 * j) * 10, np.full(9, 3.)], 1)
    // s = StandardScaler().fit(X)
    // KNeighborsClassifier(k, algorithm="brute").fit(s.transform(X), i % 3).predict(s.transform(Q))
    // and .predict_proba(...), whose rows say which queries are tied.
    #[test]
    fn knn_equals_scikit_learn() {
        let table = |n: u32, row: fn(f64) -> [f64; 3]| {
            let values = (0..n).flat_map(|i| row(f64::from(i))).map(|value| value as f32);
            Features::new(values.collect(), 3).unwrap()
        };
        let train = table(24, |i| [(1.3 * i).sin(), (0.7 * i).cos() * 10.0, 3.0]);
        let query = table(9, |i| [(0.9 * i + 0.2).sin(), (0.4 * i).cos() * 10.0, 3.0]);
        let labels: Vec<u32> = (0..24).map(|i| i % 3).collect();
        let standardizer = Standardizer::fit(&train).unwrap();
        let (train, query) =
            (standardizer.transform(&train).unwrap(), standardizer.transform(&query).unwrap());
        let predict = |k| knn_predict(&train, &labels, &query, k).unwrap();
        assert_eq!(predict(1), [0, 1, 1, 1, 0, 0, 2, 2, 0]);
        for (k, expected, tied) in [
            (4, [1, 1, 1, 1, 0, 1, 1, 0, 0], &[3][..]),
            (5, [1, 1, 1, 2, 0, 1, 1, 0, 0], &[3, 4, 5][..]),
        ] {
            for (index, (&found, &golden)) in predict(k).iter().zip(&expected).enumerate() {
                assert!(found == golden || tied.contains(&index), "k {k}, query {index}: {found}");
            }
        }
    }

    #[test]
    fn knn_tie_goes_to_the_nearer_class() {
        let train = line(&[0.0, 1.0, 3.0, 3.5]);
        assert_eq!(knn_predict(&train, &[0, 1, 0, 1], &line(&[1.4]), 4).unwrap(), [1]);
        // Equal sums: the smaller class index, whatever the order of the samples.
        assert_eq!(knn_predict(&line(&[-1.0, 1.0]), &[7, 4], &line(&[0.0]), 2).unwrap(), [4]);
    }

    #[test]
    fn knn_takes_the_earlier_of_equally_near_samples() {
        let train = line(&[1.0, -1.0, 1.0]);
        assert_eq!(knn_predict(&train, &[3, 2, 1], &line(&[0.0]), 1).unwrap(), [3]);
    }

    #[test]
    fn knn_with_k_above_the_training_set_lets_all_vote() {
        let train = line(&[0.0, 5.0, 6.0]);
        assert_eq!(knn_predict(&train, &[0, 1, 1], &line(&[0.0]), 100).unwrap(), [1]);
    }

    #[test]
    fn knn_refuses_bad_input() {
        let (train, query) = (line(&[0.0]), line(&[0.0]));
        assert_eq!(knn_predict(&train, &[0], &query, 0), Err(EvalError::NoNeighbors));
        assert!(knn_predict(&train, &[0, 1], &query, 1).is_err());
        assert!(knn_predict(&line(&[]), &[], &query, 1).is_err());
        let wide = Features::new(vec![0.0, 0.0], 2).unwrap();
        assert!(knn_predict(&train, &[0], &wide, 1).is_err());
        assert!(knn_predict(&train, &[0], &line(&[]), 1).unwrap().is_empty());
    }
}
