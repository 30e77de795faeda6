//! The passes over memory of batch normalization; rows are pixels, columns are channels.
//!
//! Work is cut into blocks of rows by the shape alone. Sums are f32 within a block and f64 across
//! blocks, in order.

use rayon::prelude::*;

use super::affine::{Affine, Mask};
use super::rows::{Apply, GradientSums, Line, MomentSums};
use crate::simd;

/// Values in one block of rows.
const BLOCK_VALUES: usize = 16 * 1024;

/// Mean and biased variance of each channel.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    pub(crate) mean: Vec<f64>,
    pub(crate) variance: Vec<f64>,
    /// Values a channel.
    pub(crate) rows: usize,
}

impl Moments {
    /// Those that leave the maps as they are.
    pub(crate) fn standard(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], variance: vec![1.0; channels], rows: 1 }
    }

    /// `maps` is a positive number of rows of `channels` values.
    pub(crate) fn of(maps: &[f32], channels: usize) -> Self {
        // The first row is taken off before squaring: where the mean is far from zero, the plain
        // sum of squares would lose the variance to rounding.
        let origin = &maps[..channels];
        let rows = maps.len() / channels;
        let (sums, squares) =
            column_sums(maps.par_chunks(block(channels)), channels, |maps, sums, squares| {
                simd::dispatch(MomentSums { maps, origin, sums, squares })
            });
        let n = rows as f64;
        let variance = sums.iter().zip(&squares).map(|(s, q)| {
            let variance = q / n - (s / n).powi(2);
            // A NaN stays: the larger of it and zero would be zero.
            if variance < 0.0 { 0.0 } else { variance }
        });
        let mean = sums.iter().zip(origin).map(|(s, &origin)| s / n + f64::from(origin));
        Self { mean: mean.collect(), variance: variance.collect(), rows }
    }

    /// The variance as an estimate of the population's, PyTorch's running statistics; the biased
    /// one if a channel has a single value.
    pub(crate) fn unbiased_variance(&self) -> impl Iterator<Item = f64> {
        let factor = self.rows as f64 / (self.rows.saturating_sub(1)).max(1) as f64;
        self.variance.iter().map(move |variance| variance * factor)
    }
}

impl Affine {
    /// `out = relu(maps * scale + shift + residual)`, without what is not asked for.
    pub(crate) fn apply(
        &self,
        maps: &[f32],
        residual: Option<&[f32]>,
        relu: bool,
        out: &mut [f32],
    ) {
        let channels = self.scale.len();
        let block = block(channels);
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        let blocks = out.par_chunks_mut(block).zip(maps.par_chunks(block)).enumerate();
        blocks.for_each(|(i, (out, maps))| {
            let residual = residual.map(|residual| &residual[i * block..][..out.len()]);
            simd::dispatch(Apply { affine: self, maps, residual, floor, out });
        });
    }
}

/// The way back through a normalization.
pub(crate) struct Backward<'a> {
    pub(crate) maps: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) moments: &'a Moments,
    pub(crate) epsilon: f64,
    /// Whether the moments are the batch's, through which the gradient flows too.
    pub(crate) is_from_batch: bool,
    pub(crate) mask: Mask<'a>,
}

/// Gradients of weight and bias.
pub(crate) struct ParameterGradients {
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
}

impl Backward<'_> {
    fn inverse_deviation(&self) -> impl Iterator<Item = f64> {
        self.moments.variance.iter().map(|variance| (variance + self.epsilon).sqrt().recip())
    }

    /// The gradients of the parameters. With [`Mask::Result`] the gradient is masked in place, as
    /// it is the residual's too; the other masks leave it.
    pub(crate) fn parameters(&self, gradient: &mut [f32]) -> ParameterGradients {
        let channels = self.weight.len();
        let block = block(channels);
        let mean: Vec<f32> = self.moments.mean.iter().map(|&mean| mean as f32).collect();
        let blocks = gradient.par_chunks_mut(block).zip(self.maps.par_chunks(block)).enumerate();
        let (bias, products) =
            column_sums(blocks, channels, |(i, (gradient, maps)), sums, products| {
                let mask = match self.mask {
                    Mask::Result(result) => Mask::Result(&result[i * block..][..gradient.len()]),
                    other => other,
                };
                simd::dispatch(GradientSums { mask, mean: &mean, maps, gradient, sums, products });
            });
        let weight = products.iter().zip(self.inverse_deviation()).map(|(p, i)| p * i).collect();
        ParameterGradients { weight, bias }
    }

    /// The gradient of the maps, in place of the gradient or into `out`.
    ///
    /// ```text
    /// dx = weight * inverse * (g - mean(g) - xhat * mean(g * xhat))
    /// ```
    ///
    /// where the two means are 0 for moments that are constants.
    pub(crate) fn maps(
        &self,
        sums: &ParameterGradients,
        gradient: &mut [f32],
        out: Option<&mut [f32]>,
    ) {
        let n = if self.is_from_batch { self.moments.rows as f64 } else { f64::INFINITY };
        // dx = scale * g + slope * x + offset, in which the means and xhat's are taken together.
        let per_channel = self.inverse_deviation().zip(&self.moments.mean).enumerate();
        let coefficients = per_channel.map(|(c, (inverse, &mean))| {
            let scale = f64::from(self.weight[c]) * inverse;
            let slope = -scale * inverse * sums.weight[c] / n;
            let offset = -scale * sums.bias[c] / n - slope * mean;
            (scale as f32, (slope as f32, offset as f32))
        });
        let (scale, (slope, offset)): (Vec<f32>, (Vec<f32>, Vec<f32>)) = coefficients.unzip();
        let (scale, slope, offset) = (&scale, &slope, &offset);
        // A result's mask has been applied to the gradient already.
        let mask = match self.mask {
            Mask::Affine(affine) => Some(affine),
            Mask::Open | Mask::Result(_) => None,
        };
        let block = block(self.weight.len());
        let maps = self.maps.par_chunks(block);
        match out {
            Some(out) => {
                let blocks = out.par_chunks_mut(block).zip(gradient.par_chunks(block)).zip(maps);
                blocks.for_each(|((out, gradient), maps)| {
                    out.copy_from_slice(gradient);
                    simd::dispatch(Line { mask, scale, slope, offset, maps, out });
                });
            }
            None => {
                let blocks = gradient.par_chunks_mut(block).zip(maps);
                blocks.for_each(|(out, maps)| {
                    simd::dispatch(Line { mask, scale, slope, offset, maps, out });
                });
            }
        }
    }
}

/// Whole rows that make about one block.
fn block(channels: usize) -> usize {
    (BLOCK_VALUES / channels).max(1) * channels
}

/// Two sums a channel over all blocks, each block's in f32, their total in f64 and in order.
fn column_sums<T: Send>(
    blocks: impl IndexedParallelIterator<Item = T>,
    channels: usize,
    of_block: impl Fn(T, &mut [f32], &mut [f32]) + Send + Sync,
) -> (Vec<f64>, Vec<f64>) {
    let parts: Vec<Vec<f32>> = blocks
        .map(|block| {
            let mut sums = vec![0.0_f32; 2 * channels];
            let (first, second) = sums.split_at_mut(channels);
            of_block(block, first, second);
            sums
        })
        .collect();
    let mut totals = vec![0.0_f64; 2 * channels];
    for part in &parts {
        for (total, &sum) in totals.iter_mut().zip(part) {
            *total += f64::from(sum);
        }
    }
    let second = totals.split_off(channels);
    (totals, second)
}
