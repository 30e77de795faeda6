//! How much each point of t-SNE is a neighbor of each other.

use rayon::prelude::*;

use crate::features::Features;
use crate::vectors::squared_distance;

/// Difference between the entropy of a row and the logarithm of the perplexity, in nats, at which
/// the bandwidth is found.
const ENTROPY_TOLERANCE: f64 = 1e-7;
/// Doublings and halvings of the bandwidth before the search ends.
const MOST_TRIALS: usize = 200;

/// Symmetric affinities, `[n, n]`, which sum to 1; zero on the diagonal:
///
/// `p_ij = (p_{j|i} + p_{i|j}) / 2n`, `p_{j|i} = softmax_{j != i}(-beta_i |x_i - x_j|^2)`
///
/// where `beta_i` makes the exponential of the entropy of `p_{.|i}` the perplexity.
pub(super) fn affinities(features: &Features, perplexity: f64) -> Vec<f32> {
    let n = features.n();
    let mut affinities = vec![0.0_f32; n * n];
    let rows: Vec<&[f32]> = features.rows().collect();
    affinities.par_chunks_mut(n).enumerate().for_each(|(own, affinities)| {
        let squared: Vec<f64> = rows.iter().map(|row| squared_distance(rows[own], row)).collect();
        for (affinity, found) in affinities.iter_mut().zip(of_point(own, &squared, perplexity)) {
            *affinity = found as f32;
        }
    });
    let scale = 1.0 / (2.0 * n as f32);
    for row in 0..n {
        for column in 0..row {
            let sum = (affinities[row * n + column] + affinities[column * n + row]) * scale;
            affinities[row * n + column] = sum;
            affinities[column * n + row] = sum;
        }
    }
    affinities
}

/// `p_{.|own}`, found by bisection of `beta`.
fn of_point(own: usize, squared: &[f64], perplexity: f64) -> Vec<f64> {
    let others = || squared.iter().enumerate().filter(|(other, _)| *other != own);
    // Distances above the smallest: the nearest point has weight 1, however far it is.
    let nearest = others().map(|(_, &distance)| distance).fold(f64::INFINITY, f64::min);
    let spread = others().map(|(_, &distance)| distance - nearest).sum::<f64>();
    let mean = spread / (squared.len() - 1) as f64;
    let mut beta = if mean > 0.0 { 1.0 / mean } else { 1.0 };
    let (mut lowest, mut highest) = (0.0, f64::INFINITY);
    let mut weights = vec![0.0; squared.len()];
    for _ in 0..MOST_TRIALS {
        let (mut total, mut weighted) = (0.0, 0.0);
        for (other, &distance) in others() {
            let weight = (-beta * (distance - nearest)).exp();
            weights[other] = weight;
            total += weight;
            weighted += weight * (distance - nearest);
        }
        let entropy = total.ln() + beta * weighted / total;
        weights.iter_mut().for_each(|weight| *weight /= total);
        let difference = entropy - perplexity.ln();
        if difference.abs() < ENTROPY_TOLERANCE {
            break;
        }
        if difference > 0.0 {
            lowest = beta
        } else {
            highest = beta
        }
        beta = if highest.is_finite() { (lowest + highest) / 2.0 } else { beta * 2.0 };
        if !beta.is_finite() {
            break;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    // i = np.arange(18); X = np.stack([np.sin(1.3 * i), np.cos(0.7 * i) * 3, i / 9], 1)
    // D = sklearn.metrics.pairwise_distances(X) ** 2
    // squareform(sklearn.manifold._t_sne._joint_probabilities(D.astype(np.float32), 5, 0))[0]
    const GOLDEN: [f64; 18] = [
        0.0,
        0.017091030,
        0.000458327,
        0.000000023,
        0.0,
        0.0,
        0.000000017,
        0.000329766,
        0.009615875,
        0.012606642,
        0.007934579,
        0.000083064,
        0.000000008,
        0.0,
        0.0,
        0.000000008,
        0.000062923,
        0.002603746,
    ];

    fn curve() -> Features {
        let point = |i: i32| {
            let i = f64::from(i);
            [(1.3 * i).sin() as f32, ((0.7 * i).cos() * 3.0) as f32, (i / 9.0) as f32]
        };
        Features::new((0..18).flat_map(point).collect(), 3).unwrap()
    }

    #[test]
    fn affinities_are_scikit_learns() {
        /// Its bandwidth is found to 1e-5 nats of entropy.
        const TOLERANCE: f64 = 1e-5;
        let found = affinities(&curve(), 5.0);
        for (found, expected) in found.iter().zip(GOLDEN) {
            assert!((f64::from(*found) - expected).abs() < TOLERANCE, "{found} is not {expected}");
        }
    }

    #[test]
    fn affinities_are_symmetric_and_sum_to_one() {
        let found = affinities(&curve(), 5.0);
        for row in 0..18 {
            assert_eq!(found[row * 18 + row], 0.0);
            assert!((0..18).all(|column| found[row * 18 + column] == found[column * 18 + row]));
        }
        let sum: f64 = found.iter().map(|&value| f64::from(value)).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn affinities_of_equal_points_are_equal() {
        let found = affinities(&Features::new(vec![2.0; 8], 1).unwrap(), 3.0);
        assert!((0..8).all(|i| (found[i * 8 + (i + 1) % 8] - 1.0 / 56.0).abs() < 1e-7));
    }
}
