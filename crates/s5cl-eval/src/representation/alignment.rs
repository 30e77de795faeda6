//! How near the two of a positive pair are.

use std::collections::BTreeMap;

use crate::error::{EvalError, same_length, same_width};
use crate::features::Features;
use crate::vectors::{squared_distance, unit_rows};

/// Mean squared distance between the two of a positive pair, on the unit sphere, in `[0, 4]`:
///
/// `1 / n * sum_i |x_i / |x_i| - y_i / |y_i||^2`
///
/// Pairs are given: row `i` of `left` belongs to row `i` of `right`, as two views of an image do.
/// 0 is perfect, 2 is what unrelated directions have on average. Rows of zeros stay zero.
///
/// # Shapes
///
/// `left`, `right`: `f32 [n, width]`, n at least 1.
///
/// # Errors
///
/// When the tables differ in shape or are empty.
///
/// # Source
///
/// Wang and Isola, "Understanding contrastive representation learning through alignment and
/// uniformity on the hypersphere", ICML 2020, equation 5 with exponent 2.
pub fn alignment(left: &Features, right: &Features) -> Result<f64, EvalError> {
    same_length(("left", left.n()), ("right", right.n()))?;
    same_width(left.width(), right.width())?;
    if left.n() == 0 {
        return Err(EvalError::Empty { what: "left" });
    }
    let (n, width) = (left.n(), left.width());
    let (left, right) = (unit_rows(left), unit_rows(right));
    let pairs = left.chunks_exact(width).zip(right.chunks_exact(width));
    Ok(pairs.map(|(left, right)| squared_distance(left, right)).sum::<f64>() / n as f64)
}

/// [`alignment`] where the positive pairs are all pairs of different samples of the same class;
/// every pair counts the same, so that larger classes count more.
///
/// # Shapes
///
/// `features`: `f32 [n, width]`; `labels`: `u32 [n]`, any numbers.
///
/// # Errors
///
/// When the labels do not fit, or no class has two samples.
pub fn class_alignment(features: &Features, labels: &[u32]) -> Result<f64, EvalError> {
    same_length(("labels", labels.len()), ("features", features.n()))?;
    let width = features.width();
    let units = unit_rows(features);
    let mut classes: BTreeMap<u32, Class> = BTreeMap::new();
    for (row, &label) in units.chunks_exact(width).zip(labels) {
        let class = classes.entry(label).or_insert_with(|| Class::new(width));
        class.n += 1;
        for (sum, &value) in class.sum.iter_mut().zip(row) {
            *sum += f64::from(value);
            class.squares += f64::from(value).powi(2);
        }
    }
    // Over all ordered pairs of a class, sum |x - y|^2 = 2 n sum |x|^2 - 2 |sum x|^2.
    let pairs = |class: &Class| (class.n * (class.n - 1)) as f64;
    let distances = |class: &Class| {
        let length: f64 = class.sum.iter().map(|value| value * value).sum();
        (2.0 * (class.n as f64 * class.squares - length)).max(0.0)
    };
    let n_pairs: f64 = classes.values().map(pairs).sum();
    if n_pairs == 0.0 {
        return Err(EvalError::TooFew { what: "pairs of one class", found: 0, needed: 1 });
    }
    Ok(classes.values().map(distances).sum::<f64>() / n_pairs)
}

struct Class {
    n: usize,
    sum: Vec<f64>,
    /// Sum of the squared lengths of the rows.
    squares: f64,
}

impl Class {
    fn new(width: usize) -> Self {
        Self { n: 0, sum: vec![0.0; width], squares: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows are unit to the precision of f32.
    const TOLERANCE: f64 = 1e-6;

    fn plane(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 2).unwrap()
    }

    #[test]
    fn alignment_is_zero_for_equal_directions_and_four_for_opposite_ones() {
        let rows = plane(&[3.0, 4.0, 0.0, 2.0]);
        assert!(alignment(&rows, &plane(&[6.0, 8.0, 0.0, 0.1])).unwrap() < TOLERANCE);
        let opposite = alignment(&rows, &plane(&[-3.0, -4.0, 0.0, -9.0])).unwrap();
        assert!((opposite - 4.0).abs() < TOLERANCE, "{opposite}");
    }

    #[test]
    fn class_alignment_is_the_mean_over_all_pairs() {
        let values: Vec<f32> = (0..24).map(|i| (i as f32 * 1.7).sin()).collect();
        let features = plane(&values);
        let labels: Vec<u32> = (0..12).map(|i| [4, 4, 9, 4, 1, 9][i % 6]).collect();
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for i in 0..12 {
            for j in (0..12).filter(|&j| j != i && labels[i] == labels[j]) {
                left.extend_from_slice(&values[2 * i..2 * i + 2]);
                right.extend_from_slice(&values[2 * j..2 * j + 2]);
            }
        }
        let expected = alignment(&plane(&left), &plane(&right)).unwrap();
        let found = class_alignment(&features, &labels).unwrap();
        assert!((found - expected).abs() < TOLERANCE, "{found} is not {expected}");
    }

    #[test]
    fn alignment_refuses_bad_input() {
        let (one, two, none) = (plane(&[1.0, 0.0]), plane(&[1.0; 4]), plane(&[]));
        assert!(matches!(alignment(&one, &two), Err(EvalError::LengthMismatch { .. })));
        assert_eq!(alignment(&none, &none), Err(EvalError::Empty { what: "left" }));
        assert_eq!(
            class_alignment(&two, &[0, 1]).unwrap_err().to_string(),
            "there are 0 pairs of one class, but at least 1 are needed"
        );
        assert!(class_alignment(&two, &[0]).is_err());
    }
}
