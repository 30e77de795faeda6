//! What happens to the scores of a head between its matrix products.

use std::f32::consts::LOG2_E;

use pulp::{Simd, WithSimd};

use crate::exp2::exp2;
use crate::product::{read, write};

/// Softmax of each row of `n_tokens` scores, times the scale, in place.
pub(super) struct Softmax<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) n_tokens: usize,
    pub(super) scale: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let factor = simd.splat_f32s(self.scale * LOG2_E);
        for row in self.scores.chunks_exact_mut(self.n_tokens) {
            let (most, is_finite) = largest(simd, row);
            let largest = simd.splat_f32s(most);
            let mut sums = simd.splat_f32s(0.0);
            let (vectors, tail) = S::as_mut_simd_f32s(row);
            for vector in vectors.iter_mut() {
                *vector = power(simd, *vector, largest, factor);
                sums = simd.add_f32s(sums, *vector);
            }
            let mut sum = simd.reduce_sum_f32s(sums);
            if !tail.is_empty() {
                let powers = power(simd, read(simd, tail), largest, factor);
                write(simd, tail, powers);
                sum += tail.iter().sum::<f32>();
            }
            // What exp2 makes of NaN is unspecified.
            if !is_finite {
                sum = f32::NAN;
            }
            let inverse = simd.splat_f32s(sum.recip());
            for vector in vectors.iter_mut() {
                *vector = simd.mul_f32s(*vector, inverse);
            }
            tail.iter_mut().for_each(|value| *value /= sum);
        }
    }
}

/// `2^((score - largest) * factor)`.
#[inline(always)]
fn power<S: Simd>(simd: S, score: S::f32s, largest: S::f32s, factor: S::f32s) -> S::f32s {
    exp2(simd, simd.mul_f32s(simd.sub_f32s(score, largest), factor))
}

/// The largest of some scores, and whether all are finite.
#[inline(always)]
fn largest<S: Simd>(simd: S, row: &[f32]) -> (f32, bool) {
    let zero = simd.splat_f32s(0.0);
    let (mut most, mut products) = (simd.splat_f32s(f32::NEG_INFINITY), zero);
    let (vectors, tail) = S::as_simd_f32s(row);
    for &scores in vectors {
        most = simd.max_f32s(most, scores);
        // Zero times what is not finite is no number.
        products = simd.mul_add_e_f32s(scores, zero, products);
    }
    let of_tail = tail.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let is_finite = simd.reduce_sum_f32s(products) == 0.0 && tail.iter().all(|s| s.is_finite());
    (simd.reduce_max_f32s(most).max(of_tail), is_finite)
}

/// From the gradients of the weights, which softmax gave, to those of the scores, in place:
///
/// ```text
/// ds_j = scale * w_j * (dw_j - sum_i w_i dw_i)
/// ```
pub(super) struct ScoreGradients<'a> {
    pub(super) weights: &'a [f32],
    pub(super) of_weights: &'a mut [f32],
    pub(super) n_tokens: usize,
    pub(super) scale: f32,
}

impl WithSimd for ScoreGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.weights.chunks_exact(self.n_tokens);
        for (gradients, weights) in self.of_weights.chunks_exact_mut(self.n_tokens).zip(rows) {
            let mut sums = simd.splat_f32s(0.0);
            let vectors = gradients.chunks(S::F32_LANES).zip(weights.chunks(S::F32_LANES));
            for (gradient, weight) in vectors {
                sums = simd.mul_add_e_f32s(read(simd, gradient), read(simd, weight), sums);
            }
            let mean = simd.splat_f32s(simd.reduce_sum_f32s(sums));
            let scale = simd.splat_f32s(self.scale);
            let vectors = gradients.chunks_mut(S::F32_LANES).zip(weights.chunks(S::F32_LANES));
            for (gradient, weight) in vectors {
                let weight = simd.mul_f32s(read(simd, weight), scale);
                let centered = simd.sub_f32s(read(simd, gradient), mean);
                write(simd, gradient, simd.mul_f32s(weight, centered));
            }
        }
    }
}
