//! Arithmetic on rows that several measures share.

use crate::features::Features;

/// Sums that are kept side by side, so that additions do not wait for each other.
const LANES: usize = 8;

/// Rows of smaller norm are divided by this: their direction is not known.
const SMALLEST_NORM: f64 = 1e-12;

/// `sum_i (left_i - right_i)^2`, in `f64`, in which finite features give a finite sum.
pub(crate) fn squared_distance(left: &[f32], right: &[f32]) -> f64 {
    sum_terms(left, right, |a, b| (a - b) * (a - b))
}

/// `sum_i left_i * right_i`, in `f64`.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f64 {
    sum_terms(left, right, |a, b| a * b)
}

fn sum_terms(left: &[f32], right: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let ((left, left_rest), (right, right_rest)) =
        (left.as_chunks::<LANES>(), right.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += term(f64::from(left[lane]), f64::from(right[lane]));
        }
    }
    let rest = left_rest.iter().zip(right_rest);
    let rest: f64 = rest.map(|(&a, &b)| term(f64::from(a), f64::from(b))).sum();
    sums.iter().sum::<f64>() + rest
}

/// `sum_i left_i * right_i`, in `f32`: for rows of unit length, of which there are many.
pub(crate) fn dot_f32(left: &[f32], right: &[f32]) -> f32 {
    let ((left, left_rest), (right, right_rest)) =
        (left.as_chunks::<{ 2 * LANES }>(), right.as_chunks::<{ 2 * LANES }>());
    let mut sums = [0.0; 2 * LANES];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..2 * LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `sum_i left_i * right_i` of values that are `f64` themselves.
pub(crate) fn dot_f64(left: &[f64], right: &[f64]) -> f64 {
    let ((left, left_rest), (right, right_rest)) =
        (left.as_chunks::<LANES>(), right.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Mean of each column, `[width]`; zeros if there is no row.
pub(crate) fn column_means(features: &Features) -> Vec<f64> {
    let n = features.n() as f64;
    let mut means = vec![0.0; features.width()];
    for row in features.rows() {
        means.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value) / n);
    }
    means
}

/// All rows at unit length, row after row; a row of zeros stays zero, and one that is shorter than
/// 1e-12 is divided by that.
pub(crate) fn unit_rows(features: &Features) -> Vec<f32> {
    let mut units = Vec::with_capacity(features.as_slice().len());
    for row in features.rows() {
        let norm = dot(row, row).sqrt().max(SMALLEST_NORM);
        units.extend(row.iter().map(|&value| (f64::from(value) / norm) as f32));
    }
    units
}

/// The position of the largest value, of equal ones the first.
pub(crate) fn argmax(values: &[f64]) -> usize {
    let better = |best: usize, idx: usize| if values[idx] > values[best] { idx } else { best };
    (1..values.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of 21 products of integers, which every type here holds exactly.
    #[test]
    fn sums_take_whole_chunks_and_the_rest() {
        for n in [0, 1, 7, 8, 15, 16, 21] {
            let left: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let right: Vec<f32> = (0..n).map(|i| (2 * i % 5) as f32).collect();
            let expected: i32 = (0..n).map(|i| i * (2 * i % 5)).sum();
            assert_eq!(dot(&left, &right), f64::from(expected));
            assert_eq!(f64::from(dot_f32(&left, &right)), f64::from(expected));
            let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            assert_eq!(dot_f64(&wide(&left), &wide(&right)), f64::from(expected));
            let expected: i32 = (0..n).map(|i| (i - 2 * i % 5).pow(2)).sum();
            assert_eq!(squared_distance(&left, &right), f64::from(expected));
        }
    }

    #[test]
    fn unit_rows_keep_zeros_and_extreme_rows() {
        let rows = Features::new(vec![3.0, 4.0, 0.0, 0.0, 3e38, 0.0, -1e-9, 0.0], 2).unwrap();
        assert_eq!(unit_rows(&rows), [0.6, 0.8, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0]);
    }

    #[test]
    fn argmax_takes_the_first_of_equal_values() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
    }
}
