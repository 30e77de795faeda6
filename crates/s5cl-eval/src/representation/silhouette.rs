//! How much nearer samples are to their own class than to the next one.

use rayon::prelude::*;

use super::distance::Distance;
use crate::error::{EvalError, same_length, two_classes};
use crate::features::Features;

/// Rows that a thread compares with all others at a time, so that these are read once for all.
const TILE: usize = 16;

/// Mean silhouette of all samples, in `[-1, 1]`:
///
/// `s_i = (b_i - a_i) / max(a_i, b_i)`
///
/// with `a_i` the mean distance to the other samples of its class and `b_i` the smallest mean
/// distance to the samples of another class. A sample without another one of its class has 0, and
/// so has one with `a_i = b_i = 0`. All pairs are compared; memory grows with the number of
/// samples, not with its square.
///
/// # Shapes
///
/// `features`: `f32 [n, width]`; `labels`: `u32 [n]`, any numbers.
///
/// # Errors
///
/// When there is no sample, the labels do not fit, or all are of one class.
///
/// # Source
///
/// Rousseeuw, "Silhouettes", 1987; scikit-learn's `silhouette_score`, which refuses classes of
/// one sample each.
pub fn silhouette(
    features: &Features,
    labels: &[u32],
    distance: Distance,
) -> Result<f64, EvalError> {
    same_length(("labels", labels.len()), ("features", features.n()))?;
    two_classes("labels", labels)?;
    let mut classes = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let class_of: Vec<usize> =
        labels.iter().map(|label| classes.partition_point(|class| class < label)).collect();
    let mut counts = vec![0_usize; classes.len()];
    class_of.iter().for_each(|&class_idx| counts[class_idx] += 1);
    let (rows, width) = (distance.rows(features), features.width());
    let of_tile = |(tile, own): (usize, &[f32])| -> Vec<f64> {
        let mut sums = vec![0.0; own.len() / width * counts.len()];
        for (sample, (other, &class_idx)) in rows.chunks_exact(width).zip(&class_of).enumerate() {
            let own = own.chunks_exact(width).zip(sums.chunks_exact_mut(counts.len()));
            for (row, (values, sums)) in own.enumerate() {
                if tile * TILE + row != sample {
                    sums[class_idx] += distance.between(values, other);
                }
            }
        }
        let samples = sums.chunks_exact(counts.len()).enumerate();
        samples.map(|(row, sums)| of_sample(class_of[tile * TILE + row], sums, &counts)).collect()
    };
    let tiles: Vec<Vec<f64>> = rows.par_chunks(TILE * width).enumerate().map(of_tile).collect();
    Ok(tiles.iter().flatten().sum::<f64>() / features.n() as f64)
}

/// The silhouette of a sample from its distances to the other samples of every class, summed.
fn of_sample(own: usize, sums: &[f64], counts: &[usize]) -> f64 {
    if counts[own] == 1 {
        return 0.0;
    }
    let within = sums[own] / (counts[own] - 1) as f64;
    let others = (0..sums.len()).filter(|&class_idx| class_idx != own);
    let means = others.map(|class_idx| sums[class_idx] / counts[class_idx] as f64);
    let between = means.fold(f64::INFINITY, f64::min);
    let larger = within.max(between);
    if larger > 0.0 { (between - within) / larger } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 1).unwrap()
    }

    #[test]
    fn silhouette_is_what_its_formula_says() {
        // Samples 0 and 1 of one class, 4 of another: (4 - 1) / 4, (3 - 1) / 3 and 0.
        let found = silhouette(&line(&[0.0, 1.0, 4.0]), &[7, 7, 2], Distance::Euclidean).unwrap();
        assert!((found - (0.75 + 2.0 / 3.0) / 3.0).abs() < 1e-15, "{found}");
    }

    #[test]
    fn silhouette_of_samples_at_one_place_is_zero() {
        let found = silhouette(&line(&[3.0; 4]), &[0, 0, 1, 1], Distance::Euclidean).unwrap();
        assert_eq!(found, 0.0);
    }

    #[test]
    fn silhouette_of_one_direction_is_zero_by_cosine() {
        let lengths = [1.0, 3.7, 0.02, 11.3, 5e5, 0.9];
        let values = lengths.iter().flat_map(|length| [0.3, 0.7, -0.2].map(|x| x * length));
        let rows = Features::new(values.collect(), 3).unwrap();
        let found = silhouette(&rows, &[0, 1, 0, 1, 0, 1], Distance::Cosine).unwrap();
        assert_eq!(found, 0.0);
    }

    #[test]
    fn silhouette_refuses_bad_input() {
        let ask = |values: &[f32], labels: &[u32]| {
            silhouette(&line(values), labels, Distance::Cosine).unwrap_err()
        };
        assert_eq!(ask(&[1.0, 2.0], &[1, 1]), EvalError::OneClass { what: "labels", class_idx: 1 });
        assert_eq!(ask(&[], &[]), EvalError::Empty { what: "labels" });
        assert!(matches!(ask(&[1.0], &[0, 1]), EvalError::LengthMismatch { .. }));
    }
}
