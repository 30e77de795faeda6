//! How evenly embeddings fill the sphere.

use rayon::prelude::*;

use crate::error::{EvalError, at_least};
use crate::features::Features;
use crate::vectors::{dot, unit_rows};

/// Rows that a thread compares with all later ones at a time.
const TILE: usize = 64;
/// Scale of the squared distances.
const SCALE: f64 = 2.0;

/// Logarithm of the mean Gaussian potential between two different samples, on the unit sphere, in
/// `[-8, 0]`:
///
/// `ln(mean_{i < j} exp(-2 |x_i / |x_i| - x_j / |x_j||^2))`
///
/// 0 when all samples have one direction; the smaller, the more evenly the directions are spread.
/// In many dimensions an even spread tends to -4. All pairs are compared; memory grows with the
/// number of samples, not with its square.
///
/// # Shapes
///
/// `features`: `f32 [n, width]`, n at least 2.
///
/// # Errors
///
/// When there are fewer than two samples.
///
/// # Source
///
/// Wang and Isola, "Understanding contrastive representation learning through alignment and
/// uniformity on the hypersphere", ICML 2020, equation 6 with t = 2.
pub fn uniformity(features: &Features) -> Result<f64, EvalError> {
    at_least("samples", features.n(), 2)?;
    let (n, width) = (features.n(), features.width());
    let units = unit_rows(features);
    let squares: Vec<f64> = units.chunks_exact(width).map(|row| dot(row, row)).collect();
    let row = |idx: usize| &units[idx * width..][..width];
    let of_tile = |start: usize| -> f64 {
        let end = n.min(start + TILE);
        let mut sum = 0.0;
        for other in start + 1..n {
            for own in start..end.min(other) {
                let squared = squares[own] + squares[other] - 2.0 * dot(row(own), row(other));
                sum += (-SCALE * squared.max(0.0)).exp();
            }
        }
        sum
    };
    // Sums of tiles are added in their order, so that the number of threads changes nothing.
    let tiles: Vec<f64> =
        (0..n.div_ceil(TILE)).into_par_iter().map(|tile| of_tile(tile * TILE)).collect();
    let n_pairs = (n * (n - 1) / 2) as f64;
    Ok((tiles.iter().sum::<f64>() / n_pairs).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::squared_distance;

    /// Rows are unit to the precision of f32.
    const TOLERANCE: f64 = 1e-6;

    #[test]
    fn uniformity_is_the_mean_over_all_pairs() {
        let values = (0..150 * 3).map(|i| (i as f32 * 0.7).sin() + 0.1).collect();
        let features = Features::new(values, 3).unwrap();
        let units = unit_rows(&features);
        let mut sum = 0.0;
        for i in 0..150 {
            for j in 0..i {
                let squared = squared_distance(&units[3 * i..3 * i + 3], &units[3 * j..3 * j + 3]);
                sum += (-2.0 * squared).exp();
            }
        }
        let expected = (sum / (150.0 * 149.0 / 2.0)).ln();
        let found = uniformity(&features).unwrap();
        assert!((found - expected).abs() < TOLERANCE, "{found} is not {expected}");
    }

    #[test]
    fn uniformity_knows_its_limits() {
        let of = |values: &[f32]| uniformity(&Features::new(values.to_vec(), 2).unwrap());
        assert!(of(&[1.0, 2.0, 2.0, 4.0]).unwrap().abs() < TOLERANCE);
        assert!((of(&[1.0, 0.0, -2.0, 0.0]).unwrap() + 8.0).abs() < TOLERANCE);
        assert_eq!(
            of(&[1.0, 0.0]).unwrap_err().to_string(),
            "there are 1 samples, but at least 2 are needed"
        );
    }
}
