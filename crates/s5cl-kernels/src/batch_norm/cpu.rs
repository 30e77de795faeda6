//! The passes over memory of batch normalization; rows are pixels, columns are channels.

use rayon::prelude::*;

/// Values in one block of rows. Sums are f32 within a block and f64 across blocks, in order.
const BLOCK_VALUES: usize = 16 * 1024;

/// What the maps are normalized by, one value a channel.
#[derive(Debug)]
pub(super) struct Statistics {
    pub(super) mean: Vec<f64>,
    /// Biased variance.
    pub(super) variance: Vec<f64>,
    /// Values a channel.
    pub(super) rows: usize,
    epsilon: f64,
    is_from_batch: bool,
}

impl Statistics {
    /// Leaves the maps as they are.
    pub(super) fn identity(channels: usize) -> Self {
        let (mean, variance) = (vec![0.0; channels], vec![1.0; channels]);
        Self { mean, variance, rows: 1, epsilon: 0.0, is_from_batch: false }
    }

    pub(super) fn of(maps: &[f32], channels: usize, epsilon: f64) -> Self {
        // The first row is taken off before squaring: where the mean is far from zero, the plain
        // sum of squares would lose the variance to rounding.
        let shift = &maps[..channels];
        let rows = maps.len() / channels;
        let (sums, squares) = column_sums(maps.par_chunks(block(channels)), channels, |block| {
            let (mut sums, mut squares) = (vec![0.0_f32; channels], vec![0.0_f32; channels]);
            for row in block.chunks_exact(channels) {
                for c in 0..channels {
                    let centered = row[c] - shift[c];
                    sums[c] += centered;
                    squares[c] += centered * centered;
                }
            }
            (sums, squares)
        });
        let n = rows as f64;
        let variance = sums.iter().zip(&squares).map(|(s, q)| (q / n - (s / n).powi(2)).max(0.0));
        let mean = sums.iter().zip(shift).map(|(s, &shift)| s / n + f64::from(shift));
        let (mean, variance) = (mean.collect(), variance.collect());
        Self { mean, variance, rows, epsilon, is_from_batch: true }
    }

    fn channels(&self) -> usize {
        self.mean.len()
    }

    fn inverse_deviation(&self, channel: usize) -> f64 {
        (self.variance[channel] + self.epsilon).sqrt().recip()
    }
}

/// The gradients of one normalization.
pub(super) struct Gradients {
    pub(super) maps: Vec<f32>,
    /// Of weight, then of bias.
    pub(super) parameters: Vec<f32>,
    /// The gradient behind the ReLU; `None` without one, where it is the incoming gradient.
    pub(super) residual: Option<Vec<f32>>,
}

pub(super) fn forward(
    maps: &[f32],
    parameters: &[f32],
    residual: Option<&[f32]>,
    statistics: &Statistics,
    relu: bool,
) -> Vec<f32> {
    let channels = statistics.channels();
    let (weight, bias) = parameters.split_at(channels);
    // One multiplication and one addition a value.
    let scale: Vec<f32> = (0..channels)
        .map(|c| (f64::from(weight[c]) * statistics.inverse_deviation(c)) as f32)
        .collect();
    let shift: Vec<f32> = (0..channels)
        .map(|c| {
            let scale = f64::from(weight[c]) * statistics.inverse_deviation(c);
            (f64::from(bias[c]) - statistics.mean[c] * scale) as f32
        })
        .collect();
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let block = block(channels);
    let mut out = vec![0.0; maps.len()];
    out.par_chunks_mut(block).zip(maps.par_chunks(block)).enumerate().for_each(
        |(i, (out, maps))| {
            let rows = out.chunks_exact_mut(channels).zip(maps.chunks_exact(channels));
            match residual {
                None => {
                    for (out, row) in rows {
                        for c in 0..channels {
                            out[c] = at_least(floor, row[c] * scale[c] + shift[c]);
                        }
                    }
                }
                Some(residual) => {
                    let residual = residual[i * block..].chunks_exact(channels);
                    for ((out, row), residual) in rows.zip(residual) {
                        for c in 0..channels {
                            out[c] = at_least(floor, row[c] * scale[c] + shift[c] + residual[c]);
                        }
                    }
                }
            }
        },
    );
    out
}

/// The larger of the two; a NaN stays, where `f32::max` would hide that a network diverged.
#[inline(always)]
fn at_least(floor: f32, value: f32) -> f32 {
    if value < floor { floor } else { value }
}

/// `result` is given when a ReLU followed: where it is zero, no gradient passes.
pub(super) fn backward(
    maps: &[f32],
    parameters: &[f32],
    result: Option<&[f32]>,
    gradient: &[f32],
    statistics: &Statistics,
) -> Gradients {
    let channels = statistics.channels();
    let masked = result.map(|result| mask(result, gradient));
    let gradient = masked.as_deref().unwrap_or(gradient);
    let mean: Vec<f32> = statistics.mean.iter().map(|&m| m as f32).collect();
    let inverse: Vec<f32> = (0..channels).map(|c| statistics.inverse_deviation(c) as f32).collect();
    let block = block(channels);

    let pairs = gradient.par_chunks(block).zip(maps.par_chunks(block));
    let (for_bias, for_weight) = column_sums(pairs, channels, |(gradient, maps)| {
        let (mut sums, mut products) = (vec![0.0_f32; channels], vec![0.0_f32; channels]);
        for (g, x) in gradient.chunks_exact(channels).zip(maps.chunks_exact(channels)) {
            for c in 0..channels {
                sums[c] += g[c];
                products[c] += g[c] * ((x[c] - mean[c]) * inverse[c]);
            }
        }
        (sums, products)
    });

    // dx = weight * inverse * (g - mean(g) - xhat * mean(g * xhat)); constants without statistics.
    let n = if statistics.is_from_batch { statistics.rows as f64 } else { f64::INFINITY };
    let scale: Vec<f32> = (0..channels).map(|c| parameters[c] * inverse[c]).collect();
    let offset: Vec<f32> = for_bias.iter().map(|sum| (sum / n) as f32).collect();
    let slope: Vec<f32> =
        for_weight.iter().zip(&inverse).map(|(sum, &i)| (sum / n) as f32 * i).collect();
    let mut out = vec![0.0; maps.len()];
    out.par_chunks_mut(block).zip(maps.par_chunks(block).zip(gradient.par_chunks(block))).for_each(
        |(out, (maps, gradient))| {
            let rows = maps.chunks_exact(channels).zip(gradient.chunks_exact(channels));
            for (out, (x, g)) in out.chunks_exact_mut(channels).zip(rows) {
                for c in 0..channels {
                    out[c] = scale[c] * (g[c] - offset[c] - (x[c] - mean[c]) * slope[c]);
                }
            }
        },
    );
    let parameters = for_weight.iter().chain(&for_bias).map(|&sum| sum as f32).collect();
    Gradients { maps: out, parameters, residual: masked }
}

fn mask(result: &[f32], gradient: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; gradient.len()];
    out.par_chunks_mut(BLOCK_VALUES)
        .zip(result.par_chunks(BLOCK_VALUES).zip(gradient.par_chunks(BLOCK_VALUES)))
        .for_each(|(out, (result, gradient))| {
            for ((out, &result), &gradient) in out.iter_mut().zip(result).zip(gradient) {
                *out = if result > 0.0 { gradient } else { 0.0 };
            }
        });
    out
}

/// Whole rows that make about one block.
fn block(channels: usize) -> usize {
    (BLOCK_VALUES / channels).max(1) * channels
}

/// Two sums a channel over all blocks, each block's in f32, their total in f64 and in order.
fn column_sums<T: Send>(
    blocks: impl IndexedParallelIterator<Item = T>,
    channels: usize,
    of_block: impl Fn(T) -> (Vec<f32>, Vec<f32>) + Send + Sync,
) -> (Vec<f64>, Vec<f64>) {
    let parts: Vec<(Vec<f32>, Vec<f32>)> = blocks.map(of_block).collect();
    let (mut first, mut second) = (vec![0.0_f64; channels], vec![0.0_f64; channels]);
    for part in &parts {
        for c in 0..channels {
            first[c] += f64::from(part.0[c]);
            second[c] += f64::from(part.1[c]);
        }
    }
    (first, second)
}
