//! How many dimensions embeddings really use.

use crate::error::EvalError;
use crate::features::Features;
use crate::singular::singular;

/// Exponential of the entropy of the normalized singular values, in `[1, min(n, width)]`:
///
/// `exp(-sum_i p_i ln p_i)`, `p_i = sigma_i / sum_j sigma_j`
///
/// The matrix is taken as it is, with its mean: features that are all the same have 1, which is
/// what a collapsed encoder gives. Features that are all zero have 0.
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
/// Roy and Vetterli, "The effective rank", EUSIPCO 2007, definition 1.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Features, effective_rank};
///
/// let collapsed = Features::new([1.0, 2.0, 3.0].repeat(10), 3)?;
/// assert!((effective_rank(&collapsed)? - 1.0).abs() < 1e-6);
/// let even = Features::new(vec![1.0, 0.0, 0.0, 1.0], 2)?;
/// assert!((effective_rank(&even)? - 2.0).abs() < 1e-12);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn effective_rank(features: &Features) -> Result<f64, EvalError> {
    if features.n() == 0 {
        return Err(EvalError::Empty { what: "features" });
    }
    let matrix: Vec<f64> = features.as_slice().iter().map(|&value| f64::from(value)).collect();
    let values = singular(&matrix, features.width()).values;
    let total: f64 = values.iter().sum();
    if total == 0.0 {
        return Ok(0.0);
    }
    let shares = values.iter().map(|value| value / total).filter(|&share| share > 0.0);
    Ok((-shares.map(|share| share * share.ln()).sum::<f64>()).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    // s = np.linalg.svd(X)[1]; p = s / s.sum(); np.exp(-(p * np.log(p)).sum())
    // with X = np.array([[2, 0, 1, 1], [1, 3, 0, -1], [0, 1, 2, 4]])
    #[test]
    fn effective_rank_is_numpys() {
        let values = vec![2.0, 0.0, 1.0, 1.0, 1.0, 3.0, 0.0, -1.0, 0.0, 1.0, 2.0, 4.0];
        let found = effective_rank(&Features::new(values, 4).unwrap()).unwrap();
        assert!((found - 2.814_423_565_867_368).abs() < 1e-12, "{found}");
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
    fn effective_rank_of_zeros_is_zero_and_of_nothing_an_error() {
        assert_eq!(effective_rank(&Features::new(vec![0.0; 6], 2).unwrap()), Ok(0.0));
        assert!(effective_rank(&Features::new(vec![], 2).unwrap()).is_err());
    }
}
