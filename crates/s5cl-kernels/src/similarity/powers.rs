//! A tile of similarities on its way to softmax sums: its powers of two and their sums by row and
//! by column.
//!
//! Everything is in powers of two: `exp(s / t) = 2^(scale * s)` with `scale = log2(e) / t`.

use pulp::{Simd, WithSimd};

use super::tile::{BLOCK, EXCLUDED, Epilogue, LANES, Operands, STRIDE, Sum};
use crate::exp2::exp2;
use crate::microkernel::Tile;

/// How the powers are kept in the range of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    /// All by the largest similarity that there can be, 1: a tile holds `2^(scale * (s - 1))`,
    /// the same for its row and its column.
    Common,
    /// Each row by its own largest similarity, as a common shift would lose rows at a small
    /// temperature: a tile holds the exponents `scale * s`.
    Own,
}

/// The smallest temperature at which no power of a cosine falls below f32's normal numbers:
/// `2 log2(e) / t <= 126`, with room for rounding.
const SMALLEST_COMMON: f64 = 0.023;

impl Shift {
    pub(super) fn at(temperature: f64) -> Self {
        if temperature >= SMALLEST_COMMON { Self::Common } else { Self::Own }
    }
}

/// The sums of a tile's powers by row and by column.
pub(super) struct TileSums {
    pub(super) rows: [Sum; BLOCK],
    pub(super) cols: [Sum; BLOCK],
}

impl TileSums {
    pub(super) const EMPTY: Self = Self { rows: [Sum::EMPTY; BLOCK], cols: [Sum::EMPTY; BLOCK] };
}

/// Fills a tile and sums it. The columns of a tile on the diagonal are not summed: they are its
/// rows.
pub(super) struct Powers<'a> {
    pub(super) operands: Operands<'a>,
    pub(super) scale: f32,
    pub(super) shift: Shift,
    /// Whether row and column of the same index are one image, which is left out.
    pub(super) is_diagonal: bool,
    pub(super) tile: &'a mut [f32],
    pub(super) sums: &'a mut TileSums,
}

impl WithSimd for Powers<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.shift {
            Shift::Common => self.common(simd),
            Shift::Own => self.own(simd),
        }
    }
}

impl Powers<'_> {
    #[inline(always)]
    fn common<S: Simd>(self, simd: S) {
        let Self { operands, scale, is_diagonal, tile, sums, .. } = self;
        let (rows, cols) = (operands.rows, operands.cols);
        let mut epilogue = Common {
            exponents: Exponents { scale, bias: bias(-scale, cols), is_diagonal, tile },
            row_sums: [0.0; BLOCK * LANES],
            col_sums: [0.0; BLOCK],
        };
        operands.multiply(simd, &mut epilogue);
        let (vectors, _) = S::as_simd_f32s(&epilogue.row_sums);
        for (sum, &vector) in sums.rows[..rows].iter_mut().zip(vectors) {
            *sum = Sum { max: scale, sum: f64::from(simd.reduce_sum_f32s(vector)) };
        }
        for (sum, &value) in sums.cols[..cols].iter_mut().zip(&epilogue.col_sums) {
            *sum = Sum { max: scale, sum: f64::from(value) };
        }
    }

    #[inline(always)]
    fn own<S: Simd>(self, simd: S) {
        let Self { operands, scale, is_diagonal, tile, sums, .. } = self;
        let (rows, cols) = (operands.rows, operands.cols);
        let mut exponents = Exponents { scale, bias: bias(0.0, cols), is_diagonal, tile };
        operands.multiply(simd, &mut exponents);
        let tile = exponents.tile;
        let n_vectors = cols.div_ceil(S::F32_LANES);
        for (row, sum) in tile.chunks_exact(STRIDE).zip(&mut sums.rows[..rows]) {
            *sum = sum_of(simd, &S::as_simd_f32s(row).0[..n_vectors]);
        }
        for vector in 0..n_vectors {
            let mut max = simd.splat_f32s(EXCLUDED);
            for row in tile.chunks_exact(STRIDE).take(rows) {
                max = simd.max_f32s(max, S::as_simd_f32s(row).0[vector]);
            }
            let mut total = simd.splat_f32s(0.0);
            for row in tile.chunks_exact(STRIDE).take(rows) {
                let exponent = S::as_simd_f32s(row).0[vector];
                total = simd.add_f32s(total, exp2(simd, simd.sub_f32s(exponent, max)));
            }
            let (mut maxima, mut totals) = ([0.0; LANES], [0.0; LANES]);
            S::as_mut_simd_f32s(&mut maxima).0[0] = max;
            S::as_mut_simd_f32s(&mut totals).0[0] = total;
            let sums = &mut sums.cols[..cols][vector * S::F32_LANES..];
            for (sum, (max, total)) in
                sums.iter_mut().zip(maxima.into_iter().zip(totals)).take(S::F32_LANES)
            {
                *sum = taking_part(max, total);
            }
        }
    }
}

/// The sum of the powers of a row of exponents.
#[inline(always)]
pub(super) fn sum_of<S: Simd>(simd: S, exponents: &[S::f32s]) -> Sum {
    let mut max = simd.splat_f32s(EXCLUDED);
    for &exponent in exponents {
        max = simd.max_f32s(max, exponent);
    }
    let largest = simd.reduce_max_f32s(max);
    let max = simd.splat_f32s(largest);
    let mut total = simd.splat_f32s(0.0);
    for &exponent in exponents {
        total = simd.add_f32s(total, exp2(simd, simd.sub_f32s(exponent, max)));
    }
    taking_part(largest, simd.reduce_sum_f32s(total))
}

/// A sum, unless no pair in it takes part.
fn taking_part(max: f32, sum: f32) -> Sum {
    if max > EXCLUDED / 2.0 { Sum { max, sum: f64::from(sum) } } else { Sum::EMPTY }
}

/// What is added to the exponents of each column: the columns behind the last take no part.
fn bias(value: f32, cols: usize) -> [f32; BLOCK] {
    let mut bias = [EXCLUDED; BLOCK];
    bias[..cols].fill(value);
    bias
}

/// Writes exponents into a tile.
pub(super) struct Exponents<'a> {
    pub(super) scale: f32,
    /// What is added to the exponents of a column.
    pub(super) bias: [f32; BLOCK],
    /// Whether row and column of the same index are one image, which is left out.
    pub(super) is_diagonal: bool,
    pub(super) tile: &'a mut [f32],
}

impl Exponents<'_> {
    /// `scale * product + bias`, with an image and itself excluded.
    #[inline(always)]
    fn of<S: Simd, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        mut products: Tile<S, MR, NV>,
        row: usize,
        col: usize,
    ) -> Tile<S, MR, NV> {
        let scale = simd.splat_f32s(self.scale);
        let bias = &S::as_simd_f32s(&self.bias).0[col / S::F32_LANES..][..NV];
        for products in &mut products {
            for (product, &bias) in products.iter_mut().zip(bias) {
                *product = simd.mul_add_e_f32s(*product, scale, bias);
            }
        }
        if self.is_diagonal && row < col + NV * S::F32_LANES && col < row + MR {
            for (m, products) in products.iter_mut().enumerate() {
                let Some(lane) = (row + m).checked_sub(col) else { continue };
                let Some(product) = products.get_mut(lane / S::F32_LANES) else { continue };
                let mut lanes = [0.0; LANES];
                S::as_mut_simd_f32s(&mut lanes).0[0] = *product;
                lanes[lane % S::F32_LANES] = EXCLUDED;
                *product = S::as_simd_f32s(&lanes).0[0];
            }
        }
        products
    }

    #[inline(always)]
    fn write<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        values: &Tile<S, MR, NV>,
        row: usize,
        col: usize,
    ) {
        for (values, out) in values.iter().zip(self.tile[row * STRIDE..].chunks_exact_mut(STRIDE)) {
            let out = &mut S::as_mut_simd_f32s(out).0[col / S::F32_LANES..][..NV];
            for (out, &value) in out.iter_mut().zip(values) {
                *out = value;
            }
        }
    }
}

impl<S: Simd> Epilogue<S> for Exponents<'_> {
    #[inline(always)]
    fn take<const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        products: Tile<S, MR, NV>,
        row: usize,
        col: usize,
    ) {
        let exponents = self.of(simd, products, row, col);
        self.write::<S, MR, NV>(&exponents, row, col);
    }
}

/// Writes powers into a tile, and sums them while they are in registers.
struct Common<'a> {
    exponents: Exponents<'a>,
    /// One vector for each row.
    row_sums: [f32; BLOCK * LANES],
    col_sums: [f32; BLOCK],
}

impl<S: Simd> Epilogue<S> for Common<'_> {
    #[inline(always)]
    fn take<const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        products: Tile<S, MR, NV>,
        row: usize,
        col: usize,
    ) {
        let mut powers = self.exponents.of(simd, products, row, col);
        let row_sums = &mut S::as_mut_simd_f32s(&mut self.row_sums).0[row..row + MR];
        let col_sums = &mut S::as_mut_simd_f32s(&mut self.col_sums).0[col / S::F32_LANES..][..NV];
        for (powers, row_sum) in powers.iter_mut().zip(row_sums) {
            for (power, col_sum) in powers.iter_mut().zip(col_sums.iter_mut()) {
                *power = exp2(simd, *power);
                *row_sum = simd.add_f32s(*row_sum, *power);
                *col_sum = simd.add_f32s(*col_sum, *power);
            }
        }
        self.exponents.write::<S, MR, NV>(&powers, row, col);
    }
}
