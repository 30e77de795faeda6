//! The innermost loop of every matrix product: a tile of sums held in vector registers.
#![expect(unsafe_code, reason = "operands are walked by pointer; each caller checks its bounds")]

use pulp::Simd;

/// The most rows of a tile: with four vectors of columns, 24 of 32 registers.
pub(crate) const TILE_ROWS: usize = 6;

/// `MR` rows by `NV` vectors of sums.
pub(crate) type Tile<S, const MR: usize, const NV: usize> = [[<S as Simd>::f32s; NV]; MR];

/// All sums zero.
#[inline(always)]
pub(crate) fn zeros<S: Simd, const MR: usize, const NV: usize>(simd: S) -> Tile<S, MR, NV> {
    [[simd.splat_f32s(0.0); NV]; MR]
}

/// Adds `sum over k of lhs[m][k * lhs_step] * rhs[k * rhs_step + n]` to each element of a tile, in
/// the order of `k`.
///
/// Every row of the left operand has a pointer of its own, so rows may lie anywhere: the pixels
/// under a window, the columns of a transposed matrix.
///
/// # Safety
///
/// Each of `lhs` must be readable at `depth` places `lhs_step` apart, and `rhs` in `depth` rows of
/// `NV` vectors `rhs_step` apart.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    tile: &mut Tile<S, MR, NV>,
    depth: usize,
    lhs: [*const f32; MR],
    lhs_step: usize,
    rhs: *const f32,
    rhs_step: usize,
) {
    let mut sums = *tile;
    for k in 0..depth {
        let mut columns = [simd.splat_f32s(0.0); NV];
        for (n, column) in columns.iter_mut().enumerate() {
            // SAFETY: row `k` of the right operand holds `NV` vectors.
            *column = unsafe { load::<S>(rhs.add(k * rhs_step + n * S::F32_LANES)) };
        }
        for (sums, row) in sums.iter_mut().zip(lhs) {
            // SAFETY: `k < depth`.
            let value = simd.splat_f32s(unsafe { *row.add(k * lhs_step) });
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                *sum = simd.mul_add_e_f32s(value, column, *sum);
            }
        }
    }
    *tile = sums;
}

/// One vector, at any alignment.
///
/// # Safety
///
/// As many values as the vector holds must be readable.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: the caller's; vectors are plain data.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// Writes one vector, at any alignment.
///
/// # Safety
///
/// As many values as the vector holds must be writable.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(to: *mut f32, values: S::f32s) {
    // SAFETY: the caller's; vectors are plain data.
    unsafe { to.cast::<S::f32s>().write_unaligned(values) }
}
