//! How many dimensions embeddings really use.

use crate::error::EvalError;
use crate::features::Features;
use crate::singular::singular;
use crate::vectors::column_means;

/// Share of the largest value that the rounding of a mean in f64 can leave of equal values, with
/// room; far below what two values of f32 differ by.
const MEAN_ROUNDING: f64 = 1e-12;

/// Exponential of the entropy of the normalized singular values of the centered features, in
/// `[1, min(n - 1, width)]`:
///
/// `exp(-sum_i p_i ln p_i)`, `p_i = sigma_i / sum_j sigma_j`
///
/// with `sigma` those of the features less the mean of each column, so that it does not matter how
/// far from the origin they lie. Features that are all the same have 0. It does not depend on
/// scale either: noise around one point has a high rank, however little it is. Whether embeddings
/// have come together in one direction, [`crate::uniformity`] says.
///
/// # Shapes
///
/// `features`: `f32 [n, width]`, n at least 1.
///
/// # Errors
///
/// When there is no row.
///
/// # Source
///
/// Roy and Vetterli, "The effective rank", EUSIPCO 2007, definition 1, of the centered matrix.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Features, effective_rank};
///
/// let collapsed = Features::new([1.0, 2.0, 3.0].repeat(10), 3)?;
/// assert_eq!(effective_rank(&collapsed)?, 0.0);
/// let even = Features::new(vec![6.0, 5.0, 5.0, 6.0, 4.0, 5.0, 5.0, 4.0], 2)?;
/// assert!((effective_rank(&even)? - 2.0).abs() < 1e-12);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn effective_rank(features: &Features) -> Result<f64, EvalError> {
    if features.n() == 0 {
        return Err(EvalError::Empty { what: "features" });
    }
    let mean = column_means(features);
    let centered = |row: &[f32]| -> Vec<f64> {
        row.iter().zip(&mean).map(|(&value, mean)| f64::from(value) - mean).collect()
    };
    let matrix: Vec<f64> = features.rows().flat_map(centered).collect();
    let largest = features.as_slice().iter().fold(0.0, |most: f64, v| most.max(f64::from(v.abs())));
    if matrix.iter().all(|deviation| deviation.abs() <= MEAN_ROUNDING * largest) {
        return Ok(0.0);
    }
    let values = singular(&matrix, features.width()).values;
    let total: f64 = values.iter().sum();
    let shares = values.iter().map(|value| value / total).filter(|&share| share > 0.0);
    Ok((-shares.map(|share| share * share.ln()).sum::<f64>()).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    // X = np.array([[2, 0, 1, 1], [1, 3, 0, -1], [0, 1, 2, 4], [5, 5, 1, 2]])
    // s = np.linalg.svd(X - X.mean(0))[1][:3]; p = s / s.sum(); np.exp(-(p * np.log(p)).sum())
    #[test]
    fn effective_rank_is_numpys() {
        let values =
            vec![2.0, 0.0, 1.0, 1.0, 1.0, 3.0, 0.0, -1.0, 0.0, 1.0, 2.0, 4.0, 5.0, 5.0, 1.0, 2.0];
        let found = effective_rank(&Features::new(values, 4).unwrap()).unwrap();
        assert!((found - 2.826422678606805).abs() < 1e-12, "{found}");
    }

    #[test]
    fn effective_rank_falls_as_one_direction_takes_over() {
        let rank = |scale: f32| {
            let values =
                (0..200).map(|i| (i as f32 * 1.3).sin() * if i % 4 == 0 { scale } else { 1.0 });
            effective_rank(&Features::new(values.collect(), 4).unwrap()).unwrap()
        };
        // Any two shifts of a sine span all others.
        assert!(rank(1.0) > 1.9 && rank(1e4) < 1.01, "{} {}", rank(1.0), rank(1e4));
    }

    #[test]
    fn effective_rank_of_separated_classes_does_not_depend_on_a_common_offset() {
        // Nine classes along axes of their own, far from the origin or around it.
        let rank = |offset: f32| {
            let place = |i: u32| (0..16).map(move |c| offset + f32::from(u8::from(i % 9 == c)));
            effective_rank(&Features::new((0..900).flat_map(place).collect(), 16).unwrap()).unwrap()
        };
        assert!(
            (rank(0.0) - 8.0).abs() < 1e-9 && (rank(10.0) - 8.0).abs() < 1e-6,
            "{}",
            rank(10.0)
        );
    }

    #[test]
    fn effective_rank_of_equal_rows_is_zero_and_of_nothing_an_error() {
        assert_eq!(effective_rank(&Features::new(vec![0.0; 6], 2).unwrap()), Ok(0.0));
        let equal = Features::new([0.1, 0.7, 1e-3].repeat(7), 3).unwrap();
        assert_eq!(effective_rank(&equal), Ok(0.0));
        assert!(effective_rank(&Features::new(vec![], 2).unwrap()).is_err());
    }
}
