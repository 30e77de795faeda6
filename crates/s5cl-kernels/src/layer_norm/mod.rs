//! Layer normalization over the channels of each pixel, with its way back.

#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;
#[cfg(test)]
mod tests;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::product::{read, write};
use crate::simd;

/// Values in one block of rows.
const BLOCK_VALUES: usize = 16 * 1024;

/// What the way forth leaves for the way back, of each row: mean and inverse deviation.
pub(crate) const KEPT: usize = 2;

/// A normalization of rows of as many values as it has weights.
#[derive(Clone, Copy)]
pub(crate) struct LayerNorm<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f64,
}

/// Gradients of weight and bias.
pub(crate) struct Gradients {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl LayerNorm<'_> {
    /// Whole rows that make about one block.
    fn block_rows(&self) -> usize {
        (BLOCK_VALUES / self.weight.len()).max(1)
    }

    /// `out = (maps - mean) / sqrt(variance + epsilon) * weight + bias`, with mean and biased
    /// variance of each row. Returns what the way back needs.
    pub(crate) fn forward(self, maps: &[f32], out: &mut [f32]) -> Vec<f32> {
        let (channels, rows) = (self.weight.len(), self.block_rows());
        let mut kept = vec![0.0; maps.len() / channels * KEPT];
        let blocks = maps.par_chunks(rows * channels).zip(kept.par_chunks_mut(rows * KEPT));
        out.par_chunks_mut(rows * channels).zip(blocks).for_each(|(out, (maps, kept))| {
            simd::dispatch(Forward { norm: self, maps, kept, out });
        });
        kept
    }

    /// Makes the gradient that of the maps in place, and returns those of the parameters.
    ///
    /// ```text
    /// dx = inverse * (g * weight - mean(g * weight) - xhat * mean(g * weight * xhat))
    /// ```
    pub(crate) fn backward(self, maps: &[f32], kept: &[f32], gradient: &mut [f32]) -> Gradients {
        let (channels, rows) = (self.weight.len(), self.block_rows());
        let blocks = maps.par_chunks(rows * channels).zip(kept.par_chunks(rows * KEPT));
        let parts: Vec<Vec<f32>> = gradient
            .par_chunks_mut(rows * channels)
            .zip(blocks)
            .map(|(gradient, (maps, kept))| {
                let mut sums = vec![0.0; 2 * channels];
                let (weight, bias) = sums.split_at_mut(channels);
                simd::dispatch(Backward { norm: self, maps, kept, gradient, weight, bias });
                sums
            })
            .collect();
        let mut weight = crate::values::sum_in_order(&parts, 2 * channels);
        let bias = weight.split_off(channels);
        Gradients { weight, bias }
    }
}

struct Forward<'a> {
    norm: LayerNorm<'a>,
    maps: &'a [f32],
    kept: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let LayerNorm { weight, bias, epsilon } = self.norm;
        let channels = weight.len();
        let rows = self.maps.chunks_exact(channels).zip(self.kept.chunks_exact_mut(KEPT));
        for (out, (row, kept)) in self.out.chunks_exact_mut(channels).zip(rows) {
            let mean = sum(simd, row) / channels as f32;
            let center = simd.splat_f32s(mean);
            let squares = sum_of_squares(simd, row, mean);
            let variance = f64::from(squares) / channels as f64;
            let inverse = (variance + epsilon).sqrt().recip() as f32;
            kept.copy_from_slice(&[mean, inverse]);
            let factor = simd.splat_f32s(inverse);
            for (at, out) in out.chunks_mut(S::F32_LANES).enumerate() {
                let range = at * S::F32_LANES..at * S::F32_LANES + out.len();
                let centered = simd.sub_f32s(read(simd, &row[range.clone()]), center);
                let normal = simd.mul_f32s(centered, factor);
                let (weight, bias) = (&weight[range.clone()], &bias[range]);
                let value = simd.mul_add_e_f32s(normal, read(simd, weight), read(simd, bias));
                write(simd, out, value);
            }
        }
    }
}

struct Backward<'a> {
    norm: LayerNorm<'a>,
    maps: &'a [f32],
    kept: &'a [f32],
    gradient: &'a mut [f32],
    weight: &'a mut [f32],
    bias: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.weight.len();
        let n = channels as f32;
        let rows = self.maps.chunks_exact(channels).zip(self.kept.chunks_exact(KEPT));
        for (gradient, (row, kept)) in self.gradient.chunks_exact_mut(channels).zip(rows) {
            let (mean, inverse) = (simd.splat_f32s(kept[0]), simd.splat_f32s(kept[1]));
            let (mut sums, mut products) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
            for at in (0..channels).step_by(S::F32_LANES) {
                let range = at..(at + S::F32_LANES).min(channels);
                let x = normal(simd, read(simd, &row[range.clone()]), mean, inverse);
                let g = read(simd, &gradient[range.clone()]);
                let bias = &mut self.bias[range.clone()];
                let sum = simd.add_f32s(read(simd, bias), g);
                write(simd, bias, sum);
                let weight = &mut self.weight[range.clone()];
                let sum = simd.mul_add_e_f32s(g, x, read(simd, weight));
                write(simd, weight, sum);
                // Beyond the end the gradient is zero, so nothing there counts.
                let scaled = simd.mul_f32s(g, read(simd, &self.norm.weight[range]));
                sums = simd.add_f32s(sums, scaled);
                products = simd.mul_add_e_f32s(scaled, x, products);
            }
            let sum = simd.splat_f32s(simd.reduce_sum_f32s(sums) / n);
            let product = simd.splat_f32s(simd.reduce_sum_f32s(products) / n);
            for at in (0..channels).step_by(S::F32_LANES) {
                let range = at..(at + S::F32_LANES).min(channels);
                let x = normal(simd, read(simd, &row[range.clone()]), mean, inverse);
                let gradient = &mut gradient[range.clone()];
                let scaled =
                    simd.mul_f32s(read(simd, gradient), read(simd, &self.norm.weight[range]));
                let rest = simd.sub_f32s(scaled, simd.mul_add_e_f32s(x, product, sum));
                write(simd, gradient, simd.mul_f32s(rest, inverse));
            }
        }
    }
}

#[inline(always)]
fn normal<S: Simd>(simd: S, x: S::f32s, mean: S::f32s, inverse: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.sub_f32s(x, mean), inverse)
}

/// Sums that are taken side by side, so that none waits for the one before.
const N_SUMS: usize = 4;

#[inline(always)]
fn sum<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let mut sums = [simd.splat_f32s(0.0); N_SUMS];
    for (at, values) in row.chunks(S::F32_LANES).enumerate() {
        let sum = &mut sums[at % N_SUMS];
        *sum = simd.add_f32s(*sum, read(simd, values));
    }
    total(simd, sums)
}

/// The sum of the squared distances from the mean.
#[inline(always)]
fn sum_of_squares<S: Simd>(simd: S, row: &[f32], mean: f32) -> f32 {
    let center = simd.splat_f32s(mean);
    let mut sums = [simd.splat_f32s(0.0); N_SUMS];
    let (vectors, tail) = S::as_simd_f32s(row);
    for (at, &vector) in vectors.iter().enumerate() {
        let (sum, centered) = (&mut sums[at % N_SUMS], simd.sub_f32s(vector, center));
        *sum = simd.mul_add_e_f32s(centered, centered, *sum);
    }
    let of_tail = tail.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
    total(simd, sums) + of_tail
}

#[inline(always)]
fn total<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; N_SUMS]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}
