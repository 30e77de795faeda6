//! Matrix products on slices, on one thread.
//!
//! The callers cut their work into parts by shape and run the parts on rayon, so a product never
//! depends on the number of threads.
#![expect(unsafe_code, reason = "the gemm crate takes raw pointers; bounds are checked here")]

use gemm::Parallelism;

/// A matrix stored in a slice: `rows x cols`, element `(r, c)` at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub(crate) fn row_major(values: &'a [f32], rows: usize, cols: usize) -> Self {
        assert!(values.len() >= rows * cols, "{} values for {rows} x {cols}", values.len());
        Self { values, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The same values with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// What a product does with the values that the output already holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Overwrite,
    Accumulate,
}

/// `out = lhs * rhs`, or `out += lhs * rhs`; `out` is row-major.
pub(crate) fn matmul(out: &mut [f32], lhs: Matrix<'_>, rhs: Matrix<'_>, mode: Output) {
    assert_eq!(lhs.cols, rhs.rows, "inner dimensions differ");
    assert!(
        out.len() >= lhs.rows * rhs.cols,
        "{} outputs for {} x {}",
        out.len(),
        lhs.rows,
        rhs.cols
    );
    let accumulate = mode == Output::Accumulate;
    // SAFETY: `Matrix` is only made with enough values for its shape, the output was checked
    // above, and `&mut` keeps it apart from both inputs.
    unsafe {
        gemm::gemm(
            lhs.rows,
            rhs.cols,
            lhs.cols,
            out.as_mut_ptr(),
            1,
            rhs.cols as isize,
            accumulate,
            lhs.values.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.values.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            if accumulate { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Output, matmul};

    #[test]
    fn matmul_of_transposed_accumulates() {
        let lhs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // 3 x 2, used as 2 x 3
        let rhs = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]; // 3 x 2
        let mut out = [100.0; 4];
        let lhs = Matrix::row_major(&lhs, 3, 2).transposed();
        matmul(&mut out, lhs, Matrix::row_major(&rhs, 3, 2), Output::Accumulate);
        assert_eq!(out, [106.0, 108.0, 108.0, 110.0]);
        matmul(&mut out, lhs, Matrix::row_major(&rhs, 3, 2), Output::Overwrite);
        assert_eq!(out, [6.0, 8.0, 8.0, 10.0]);
    }
}
