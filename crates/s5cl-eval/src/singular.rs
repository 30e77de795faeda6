//! Singular values and right singular vectors, by Jacobi rotations of rows.

use crate::vectors::dot_f64 as dot;

/// Sweeps after which it ends; every sweep squares what is left, so that ten are many.
const MOST_SWEEPS: usize = 60;
/// Cosine between two rows below which they are orthogonal.
const ORTHOGONAL: f64 = 1e-13;
/// Share of the longest row below which a row is rounding alone.
const NEGLIGIBLE: f64 = 1e-15;

/// Share of the longest turned row below which a row is what rounding left: its direction is that
/// of no singular vector.
const NULL: f64 = 1e-13;

/// Singular values, largest first, and the right singular vectors that belong to them.
pub(crate) struct Singular {
    pub(crate) values: Vec<f64>,
    /// `[values.len(), width]`, rows of unit length; zeros where the value is zero.
    pub(crate) vectors: Vec<f64>,
}

/// Decomposes a matrix of rows of `width`.
///
/// A matrix with fewer rows than columns is rotated itself; of one with more, the product
/// `matrix^T matrix` is, whose row norms are the squares of the singular values: those are exact
/// to about 1e-8 of the largest. What rounding cannot tell from zero is zero: values up to 1e-13 of
/// the largest, of a matrix with more rows than columns up to 3e-7.
pub(crate) fn singular(matrix: &[f64], width: usize) -> Singular {
    let n = matrix.len() / width;
    let is_tall = n > width;
    let mut rows = if is_tall { gram(matrix, width) } else { matrix.to_vec() };
    orthogonalize(&mut rows, width);
    let mut norms: Vec<f64> = rows.chunks_exact(width).map(|row| dot(row, row).sqrt()).collect();
    let longest = norms.iter().copied().fold(0.0, f64::max);
    norms.iter_mut().filter(|norm| **norm <= NULL * longest).for_each(|norm| *norm = 0.0);
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]));
    let value = |norm: f64| if is_tall { norm.sqrt() } else { norm };
    let values = order.iter().map(|&row| value(norms[row])).collect();
    let unit = |row: usize| {
        let scale = if norms[row] > 0.0 { 1.0 / norms[row] } else { 0.0 };
        rows[row * width..][..width].iter().map(move |value| value * scale)
    };
    Singular { values, vectors: order.iter().flat_map(|&row| unit(row)).collect() }
}

/// `matrix^T matrix`, `[width, width]`.
fn gram(matrix: &[f64], width: usize) -> Vec<f64> {
    let mut gram = vec![0.0; width * width];
    for row in matrix.chunks_exact(width) {
        for (left, sums) in row.iter().zip(gram.chunks_exact_mut(width)) {
            for (sum, right) in sums.iter_mut().zip(row) {
                *sum += left * right;
            }
        }
    }
    gram
}

/// Turns pairs of rows into each other until all are orthogonal (one-sided Jacobi).
///
/// A turn from the left changes neither the singular values nor the right singular vectors, and
/// rows that are orthogonal are these vectors, scaled.
fn orthogonalize(rows: &mut [f64], width: usize) {
    let n = rows.len() / width;
    for _ in 0..MOST_SWEEPS {
        let norms = rows.chunks_exact(width).map(|row| dot(row, row));
        let longest = norms.fold(0.0, f64::max);
        let negligible = longest * NEGLIGIBLE * NEGLIGIBLE;
        let mut has_turned = false;
        for left_idx in 0..n.saturating_sub(1) {
            let (head, tail) = rows.split_at_mut((left_idx + 1) * width);
            let left = &mut head[left_idx * width..];
            for right in tail.chunks_exact_mut(width) {
                has_turned |= turn(left, right, negligible);
            }
        }
        if !has_turned {
            return;
        }
    }
}

/// Makes two rows orthogonal; false if they were.
fn turn(left: &mut [f64], right: &mut [f64], negligible: f64) -> bool {
    let (a, b, c) = (dot(left, left), dot(right, right), dot(left, right));
    if a <= negligible || b <= negligible || c.abs() <= ORTHOGONAL * (a * b).sqrt() {
        return false;
    }
    // The smaller of the two angles that make the product of the turned rows zero.
    let zeta = (b - a) / (2.0 * c);
    let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = cosine * tangent;
    for (left, right) in left.iter_mut().zip(right) {
        let (l, r) = (*left, *right);
        (*left, *right) = (cosine * l - sine * r, sine * l + cosine * r);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few roundings of f64; the square roots of the tall case are as exact as here.
    const TOLERANCE: f64 = 1e-12;

    // X = np.array([[2, 0, 1, 1], [1, 3, 0, -1], [0, 1, 2, 4]]); np.linalg.svd(X)[1]
    const VALUES: [f64; 3] = [4.809_971_768_174_29, 3.345_322_770_518_51, 1.916_503_887_399_308];
    const MATRIX: [f64; 12] = [2.0, 0.0, 1.0, 1.0, 1.0, 3.0, 0.0, -1.0, 0.0, 1.0, 2.0, 4.0];

    #[test]
    fn singular_values_are_numpys() {
        let transposed: Vec<f64> =
            (0..4).flat_map(|col| (0..3).map(move |row| MATRIX[row * 4 + col])).collect();
        for found in [singular(&MATRIX, 4), singular(&transposed, 3)] {
            assert_eq!(found.values.len(), 3);
            for (found, expected) in found.values.iter().zip(VALUES) {
                assert!((found - expected).abs() < TOLERANCE, "{found} is not {expected}");
            }
        }
    }

    #[test]
    fn singular_vectors_are_orthonormal_and_span_the_rows() {
        let found = singular(&MATRIX, 4);
        let vectors: Vec<&[f64]> = found.vectors.chunks_exact(4).collect();
        for (i, left) in vectors.iter().enumerate() {
            for (j, right) in vectors.iter().enumerate() {
                let expected = f64::from(u8::from(i == j));
                assert!((dot(left, right) - expected).abs() < TOLERANCE);
            }
        }
        for row in MATRIX.chunks_exact(4) {
            let length: f64 = vectors.iter().map(|vector| dot(row, vector).powi(2)).sum();
            assert!((length - dot(row, row)).abs() < TOLERANCE * 10.0);
        }
    }

    #[test]
    fn singular_values_of_a_matrix_of_rank_one_are_one_and_zeros() {
        let matrix: Vec<f64> = (0..20).map(|i| f64::from(i / 4 + 1) * f64::from(i % 4)).collect();
        let found = singular(&matrix, 4);
        assert!((found.values[0] - (55.0_f64 * 14.0).sqrt()).abs() < TOLERANCE * 100.0);
        assert_eq!(found.values[1..], [0.0; 3]);
        assert_eq!(found.vectors[4..], [0.0; 12]);
        assert_eq!(singular(&[0.0; 6], 2).values, [0.0, 0.0]);
    }
}
