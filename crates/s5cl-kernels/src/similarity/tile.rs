//! The similarities between two blocks of rows, and what is made of them before they leave the
//! vector registers and the nearest cache.
#![expect(unsafe_code, reason = "operands are walked by pointer; bounds are checked before")]

use pulp::{Simd, WithSimd};

use super::pack::PANEL;
use crate::microkernel::{Tile, accumulate, store, zeros};

/// Most rows of a block.
pub(super) const BLOCK: usize = 128;
/// Values from one row of a tile to the next: not a power of two, so that a column of the tile is
/// spread over the sets of the cache.
pub(super) const STRIDE: usize = BLOCK + 16;
/// The logit of a pair that takes no part: its power of two is exactly 0.
pub(super) const EXCLUDED: f32 = -1e30;
/// Longest vector register, in f32 values.
pub(super) const LANES: usize = 16;

/// What becomes of the products of some rows and columns.
pub(super) trait Epilogue<S: Simd> {
    /// Takes the products of rows `row..row + MR` with columns `col..col + NV * S::F32_LANES`.
    fn take<const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        products: Tile<S, MR, NV>,
        row: usize,
        col: usize,
    );
}

/// Two blocks of rows as panels, up to [`BLOCK`] rows each.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) left: &'a [f32],
    pub(super) right: &'a [f32],
    pub(super) dim: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Operands<'_> {
    /// Multiplies every row of the left block with every row of the right one. The epilogue is
    /// also given the zeros that fill up the last panels.
    #[inline(always)]
    pub(super) fn multiply<S: Simd, E: Epilogue<S>>(&self, simd: S, epilogue: &mut E) {
        if S::REGISTER_COUNT >= 32 {
            self.multiply_by::<S, E, 8, 2>(simd, epilogue);
        } else {
            self.multiply_by::<S, E, 4, 2>(simd, epilogue);
        }
    }

    #[inline(always)]
    fn multiply_by<S: Simd, E: Epilogue<S>, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        epilogue: &mut E,
    ) {
        const { assert!(PANEL.is_multiple_of(MR) && PANEL.is_multiple_of(NV * S::F32_LANES)) };
        let Self { left, right, dim, .. } = *self;
        let (rows, cols) = (self.rows.next_multiple_of(PANEL), self.cols.next_multiple_of(PANEL));
        assert!(left.len() >= rows * dim && right.len() >= cols * dim);
        let start = |panels: &[f32], index: usize| {
            // SAFETY: the index is below the rows in the panels, whose length was checked; a
            // panel without columns is not read.
            unsafe { panels.as_ptr().add(index / PANEL * PANEL * dim + index % PANEL) }
        };
        for col in (0..cols).step_by(NV * S::F32_LANES) {
            for row in (0..rows).step_by(MR) {
                let first = start(left, row);
                let mut products = zeros::<S, MR, NV>(simd);
                // SAFETY: `MR` rows and `NV` vectors of columns lie in one panel each, whose
                // `dim` rows are `PANEL` values apart.
                unsafe {
                    let lhs = std::array::from_fn(|m| first.add(m));
                    accumulate(simd, &mut products, dim, lhs, PANEL, start(right, col), PANEL);
                }
                epilogue.take(simd, products, row, col);
            }
        }
    }
}

/// A product of a tile, or of its transpose, with rows of embeddings.
pub(super) struct TileProduct<'a> {
    /// `[rows, width]`.
    pub(super) out: &'a mut [f32],
    /// Rows of the output; the tile has more, up to the next multiple of 8.
    pub(super) rows: usize,
    /// A multiple of 16.
    pub(super) width: usize,
    pub(super) tile: &'a [f32],
    pub(super) is_transposed: bool,
    /// `[depth, width]`.
    pub(super) right: &'a [f32],
    pub(super) depth: usize,
}

impl WithSimd for TileProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.multiply::<S, 8>(simd);
        } else {
            self.multiply::<S, 4>(simd);
        }
    }
}

impl TileProduct<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const MR: usize>(&mut self, simd: S) {
        let two = 2 * S::F32_LANES;
        let pairs = self.width / two * two;
        for col in (0..pairs).step_by(two) {
            self.columns::<S, MR, 2>(simd, col);
        }
        for col in (pairs..self.width).step_by(S::F32_LANES) {
            self.columns::<S, MR, 1>(simd, col);
        }
    }

    #[inline(always)]
    fn columns<S: Simd, const MR: usize, const NV: usize>(&mut self, simd: S, col: usize) {
        let Self { rows, width, tile, right, depth, .. } = *self;
        let (row_step, step) = if self.is_transposed { (1, STRIDE) } else { (STRIDE, 1) };
        let rows = rows.next_multiple_of(MR);
        let (tile_rows, tile_cols) = if self.is_transposed { (depth, rows) } else { (rows, depth) };
        assert!(tile_cols <= STRIDE && tile.len() >= tile_rows * STRIDE);
        assert!(col + NV * S::F32_LANES <= width && width.is_multiple_of(S::F32_LANES));
        assert!(right.len() >= depth * width && self.out.len() >= rows * width);
        for row in (0..rows).step_by(MR) {
            let mut sums = zeros::<S, MR, NV>(simd);
            // SAFETY: the tile holds the rows and columns that are read, `rows` and `depth` or
            // the other way around; the length of every operand was checked.
            unsafe {
                let lhs = std::array::from_fn(|m| tile.as_ptr().add((row + m) * row_step));
                accumulate(simd, &mut sums, depth, lhs, step, right.as_ptr().add(col), width);
                for (m, sums) in sums.into_iter().enumerate() {
                    for (n, sum) in sums.into_iter().enumerate() {
                        let at = (row + m) * width + col + n * S::F32_LANES;
                        store::<S>(self.out.as_mut_ptr().add(at), sum);
                    }
                }
            }
        }
    }
}

/// A sum of powers of two, `sum * 2^max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sum {
    pub(super) max: f32,
    pub(super) sum: f64,
}

impl Sum {
    pub(super) const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };

    pub(super) fn add(&mut self, other: Self) {
        if other.sum == 0.0 {
            return;
        }
        if other.max == self.max {
            // The common case of one shift for all: no power is needed.
            self.sum += other.sum;
        } else if other.max > self.max {
            self.sum = other.sum + self.sum * f64::from(self.max - other.max).exp2();
            self.max = other.max;
        } else {
            self.sum += other.sum * f64::from(other.max - self.max).exp2();
        }
    }

    /// Natural logarithm of the whole.
    pub(super) fn ln(self) -> f64 {
        f64::from(self.max) * std::f64::consts::LN_2 + self.sum.ln()
    }
}
