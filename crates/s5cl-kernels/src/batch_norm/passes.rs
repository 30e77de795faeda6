//! The passes over memory of batch normalization; rows are pixels, columns are channels.
//!
//! Work is cut into blocks of rows by the shape alone. Sums are f32 within a block and f64 across
//! blocks, in order.

use rayon::prelude::*;

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
        let (sums, squares) = column_sums(
            maps.par_chunks(block(channels)),
            channels,
            |maps, sums: &mut [f32], squares: &mut [f32]| {
                for row in maps.chunks_exact(channels) {
                    let totals = sums.iter_mut().zip(&mut *squares);
                    for ((&x, &origin), (sum, square)) in row.iter().zip(origin).zip(totals) {
                        let centered = x - origin;
                        *sum += centered;
                        *square += centered * centered;
                    }
                }
            },
        );
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

/// One multiplication and one addition a value: a normalization with known statistics.
#[derive(Clone, Debug)]
pub(crate) struct Affine {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

impl Affine {
    pub(crate) fn new(
        weight: &[f32],
        bias: &[f32],
        mean: &[f64],
        variance: &[f64],
        epsilon: f64,
    ) -> Self {
        let scale = |c: usize| f64::from(weight[c]) / (variance[c] + epsilon).sqrt();
        let shift = |c: usize| f64::from(bias[c]) - mean[c] * scale(c);
        let channels = 0..weight.len();
        Self {
            scale: channels.clone().map(|c| scale(c) as f32).collect(),
            shift: channels.map(|c| shift(c) as f32).collect(),
        }
    }

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
            simd::dispatch(|| match residual {
                Some(residual) => {
                    let rows = out.chunks_exact_mut(channels).zip(maps.chunks_exact(channels));
                    for ((out, maps), residual) in rows.zip(residual.chunks_exact(channels)) {
                        let affine = self.scale.iter().zip(&self.shift);
                        let values = out.iter_mut().zip(maps).zip(residual).zip(affine);
                        for (((out, &x), &residual), (&scale, &shift)) in values {
                            *out = at_least(floor, x.mul_add(scale, shift) + residual);
                        }
                    }
                }
                None => {
                    let rows = out.chunks_exact_mut(channels).zip(maps.chunks_exact(channels));
                    for (out, maps) in rows {
                        let affine = self.scale.iter().zip(&self.shift);
                        for ((out, &x), (&scale, &shift)) in out.iter_mut().zip(maps).zip(affine) {
                            *out = at_least(floor, x.mul_add(scale, shift));
                        }
                    }
                }
            });
        });
    }
}

/// The larger of the two; a NaN stays, where `f32::max` would hide that a network diverged.
#[inline(always)]
fn at_least(floor: f32, value: f32) -> f32 {
    if value < floor { floor } else { value }
}

/// Where the gradient passes the ReLU behind a normalization.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a> {
    /// There is none.
    Open,
    /// Where the affine map, computed once more, is above zero.
    Affine(&'a Affine),
    /// Where the result, which has a residual in it, is above zero.
    Result(&'a [f32]),
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
        let (bias, products) = column_sums(
            blocks,
            channels,
            |(i, (gradient, maps)), sums: &mut [f32], products: &mut [f32]| {
                if let Mask::Result(result) = self.mask {
                    let result = &result[i * block..][..gradient.len()];
                    for (g, &result) in gradient.iter_mut().zip(result) {
                        *g = if result > 0.0 { *g } else { 0.0 };
                    }
                }
                let rows = gradient.chunks_exact(channels).zip(maps.chunks_exact(channels));
                for (gradient, maps) in rows {
                    let values = gradient.iter().zip(maps).zip(&mean);
                    let totals = sums.iter_mut().zip(&mut *products);
                    if let Mask::Affine(Affine { scale, shift }) = self.mask {
                        let affine = scale.iter().zip(shift);
                        for ((((&g, &x), &mean), (sum, product)), (&scale, &shift)) in
                            values.zip(totals).zip(affine)
                        {
                            let g = if x.mul_add(scale, shift) > 0.0 { g } else { 0.0 };
                            *sum += g;
                            *product += g * (x - mean);
                        }
                    } else {
                        for (((&g, &x), &mean), (sum, product)) in values.zip(totals) {
                            *sum += g;
                            *product += g * (x - mean);
                        }
                    }
                }
            },
        );
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
        let line = Line { mask: self.mask, scale: &scale, slope: &slope, offset: &offset };
        let block = block(self.weight.len());
        let maps = self.maps.par_chunks(block);
        match out {
            Some(out) => {
                let blocks = out.par_chunks_mut(block).zip(gradient.par_chunks(block)).zip(maps);
                blocks.for_each(|((out, gradient), maps)| {
                    simd::dispatch(|| line.apply(out, maps, |i, _| gradient[i]));
                });
            }
            None => {
                let blocks = gradient.par_chunks_mut(block).zip(maps);
                blocks.for_each(|(gradient, maps)| {
                    simd::dispatch(|| line.apply(gradient, maps, |_, g| g));
                });
            }
        }
    }
}

/// `scale * gradient + slope * x + offset` in each channel.
struct Line<'a> {
    mask: Mask<'a>,
    scale: &'a [f32],
    slope: &'a [f32],
    offset: &'a [f32],
}

impl Line<'_> {
    /// `gradient` is given the index of a value and what `out` holds there.
    #[inline(always)]
    fn apply(&self, out: &mut [f32], maps: &[f32], gradient: impl Fn(usize, f32) -> f32 + Copy) {
        let channels = self.scale.len();
        let rows = out.chunks_exact_mut(channels).zip(maps.chunks_exact(channels));
        for (row, (out, maps)) in rows.enumerate() {
            let first = row * channels;
            let (scale, slope, offset) =
                (&self.scale[..channels], &self.slope[..channels], &self.offset[..channels]);
            match self.mask {
                Mask::Affine(affine) => {
                    let (factor, shift) = (&affine.scale[..channels], &affine.shift[..channels]);
                    for c in 0..channels {
                        let g = gradient(first + c, out[c]);
                        let g = if maps[c].mul_add(factor[c], shift[c]) > 0.0 { g } else { 0.0 };
                        out[c] = scale[c].mul_add(g, slope[c].mul_add(maps[c], offset[c]));
                    }
                }
                Mask::Open | Mask::Result(_) => {
                    for c in 0..channels {
                        let g = gradient(first + c, out[c]);
                        out[c] = scale[c].mul_add(g, slope[c].mul_add(maps[c], offset[c]));
                    }
                }
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
            simd::dispatch(|| of_block(block, first, second));
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
