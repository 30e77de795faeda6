//! From powers to the weights with which two images pull and push each other.

use pulp::{Simd, WithSimd};

use super::powers::Shift;
use super::tile::{BLOCK, STRIDE};
use crate::exp2::exp2;

/// What the gradient needs to know of every row, each list filled up to whole blocks with rows
/// that take no part.
pub(super) struct Anchors {
    /// The shift of the powers in [`Self::shares`]; infinite for a row that takes no part, as only
    /// then every power is 0, and not beyond f32, however small the temperature.
    pub(super) max: Vec<f32>,
    /// Weight of the anchor over its softmax sum.
    pub(super) shares: Vec<f32>,
    /// Weight of the anchor over the number of its positives.
    pub(super) pulls: Vec<f32>,
    pub(super) classes: Vec<u32>,
}

impl Anchors {
    pub(super) fn new(classes: &[u32]) -> Self {
        let len = classes.len().next_multiple_of(BLOCK);
        let mut padded = classes.to_vec();
        padded.resize(len, u32::MAX);
        let max = vec![f32::INFINITY; len];
        Self { max, shares: vec![0.0; len], pulls: vec![0.0; len], classes: padded }
    }
}

/// Turns a tile of powers (or exponents) `E` into weights, in place:
///
/// ```text
/// W_ij = E_ij (share_i + share_j) - [same class] (pull_i + pull_j),   W_ii = 0
/// ```
pub(super) struct Pull<'a> {
    pub(super) tile: &'a mut [f32],
    pub(super) anchors: &'a Anchors,
    pub(super) shift: Shift,
    /// Index and number of the rows and of the columns.
    pub(super) rows: (usize, usize),
    pub(super) cols: (usize, usize),
}

impl WithSimd for Pull<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.shift {
            Shift::Common => self.apply::<S, false>(simd),
            Shift::Own => self.apply::<S, true>(simd),
        }
    }
}

impl Pull<'_> {
    #[inline(always)]
    fn apply<S: Simd, const IS_OWN: bool>(self, simd: S) {
        let Self { tile, anchors, rows: (start, n_rows), cols: (first, n_cols), .. } = self;
        let n_vectors = n_cols.div_ceil(S::F32_LANES);
        let maxima = &S::as_simd_f32s(&anchors.max[first..]).0[..n_vectors];
        let shares = &S::as_simd_f32s(&anchors.shares[first..]).0[..n_vectors];
        let pulls = &S::as_simd_f32s(&anchors.pulls[first..]).0[..n_vectors];
        let classes = &S::as_simd_u32s(&anchors.classes[first..]).0[..n_vectors];
        let zero = simd.splat_f32s(0.0);
        for (row, values) in (start..start + n_rows).zip(tile.chunks_exact_mut(STRIDE)) {
            let max = simd.splat_f32s(anchors.max[row]);
            let share = simd.splat_f32s(anchors.shares[row]);
            let pull = simd.splat_f32s(anchors.pulls[row]);
            let class = simd.splat_u32s(anchors.classes[row]);
            let values = &mut S::as_mut_simd_f32s(values).0[..n_vectors];
            for n in 0..n_vectors {
                let push = if IS_OWN {
                    let of_row = exp2(simd, simd.sub_f32s(values[n], max));
                    let of_col = exp2(simd, simd.sub_f32s(values[n], maxima[n]));
                    simd.mul_add_e_f32s(of_row, share, simd.mul_f32s(of_col, shares[n]))
                } else {
                    simd.mul_f32s(values[n], simd.add_f32s(share, shares[n]))
                };
                let is_positive = simd.equal_u32s(class, classes[n]);
                let pull = simd.add_f32s(pull, pulls[n]);
                values[n] = simd.sub_f32s(push, simd.select_f32s(is_positive, pull, zero));
            }
        }
        if start == first {
            for (index, values) in tile.chunks_exact_mut(STRIDE).take(n_rows).enumerate() {
                values[index] = 0.0;
            }
        }
    }
}
