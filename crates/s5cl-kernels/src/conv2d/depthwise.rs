//! Convolution of each channel by itself, as mobile networks and ConvNeXt have it.
//!
//! There is no product of matrices in it: vectors lie along the channels, and a weight in a
//! register meets some neighboring pixels at once.
#![expect(unsafe_code, reason = "pixels are walked by pointer; bounds are checked once a row")]

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::geometry::{Axis, Geometry, Map, Tap};
use crate::microkernel::load;
use crate::product::{Finish, Start, read, write};
use crate::values::sum_in_order;
use crate::{scratch, simd};

/// Pixels that a weight in a register meets.
const TILE_PIXELS: usize = 6;

/// Values of the images whose weight gradients are summed in f32.
const CHUNK_VALUES: usize = 256 * 1024;

/// Whether each output channel reads one input channel of its own.
pub(crate) fn is_depthwise(geometry: &Geometry) -> bool {
    geometry.groups() > 1
        && geometry.groups() == geometry.input.channels
        && geometry.input.channels == geometry.output.channels
}

/// From source maps to target maps, whose pixels gather by the axes.
struct Gather<'a> {
    source: Map,
    target: Map,
    rows: Axis,
    /// Target pixels of a row that lie side by side and gather alike.
    runs: Vec<Run>,
    kernel_width: usize,
    /// `[taps, channels]`.
    weight: &'a [f32],
}

/// Neighboring target pixels of the same taps, whose sources lie a fixed step apart.
struct Run {
    first: usize,
    len: usize,
    source: usize,
    source_step: usize,
    taps: Vec<Tap>,
}

fn runs(cols: &Axis) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (target, position) in cols.positions.iter().enumerate() {
        let taps = &cols.patterns[position.pattern];
        if let Some(run) = runs.last_mut()
            && run.taps == *taps
            && let Some(step) = position.source.checked_sub(run.source)
            && (run.len == 1 || step == run.source_step * run.len)
        {
            run.source_step = step / run.len;
            run.len += 1;
            continue;
        }
        let (source, taps) = (position.source, taps.clone());
        runs.push(Run { first: target, len: 1, source, source_step: 0, taps });
    }
    runs
}

/// The output's maps.
pub(crate) fn forward(
    geometry: &Geometry,
    maps: &[f32],
    weight: &[f32],
    out: &mut [f32],
    finish: Finish<'_>,
) {
    let (rows, cols) = geometry.axes();
    run(geometry, (geometry.input, geometry.output), (rows, &cols), weight, (maps, out), finish);
}

/// The gradient of the input's maps.
pub(crate) fn input_gradient(
    geometry: &Geometry,
    weight: &[f32],
    gradient: &[f32],
    out: &mut [f32],
    finish: Finish<'_>,
) {
    let (rows, cols) = geometry.transposed_axes();
    let maps = (geometry.output, geometry.input);
    run(geometry, maps, (rows, &cols), weight, (gradient, out), finish);
}

fn run(
    geometry: &Geometry,
    (source, target): (Map, Map),
    (rows, cols): (Axis, &Axis),
    weight: &[f32],
    (maps, out): (&[f32], &mut [f32]),
    finish: Finish<'_>,
) {
    let channels = source.channels;
    assert_eq!(maps.len(), geometry.batch * source.len(), "values of the source");
    assert_eq!(out.len(), geometry.batch * target.len(), "values of the target");
    assert!(finish.has_columns(channels), "an affine map for each channel");
    let row_len = target.width * channels;
    scratch::with(weight.len(), |turned| {
        for (channel, kernel) in weight.chunks_exact(geometry.taps()).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                turned[tap * channels + channel] = value;
            }
        }
        let (runs, kernel_width) = (runs(cols), geometry.kernel.1);
        let gather = Gather { source, target, rows, runs, kernel_width, weight: turned };
        out.par_chunks_mut(row_len.max(1)).enumerate().for_each(|(row, out)| {
            let finish = match finish.start {
                Start::Other(other) => {
                    Finish { start: Start::Other(&other[row * row_len..][..row_len]), ..finish }
                }
                Start::Zero | Start::Output => finish,
            };
            simd::dispatch(Row { gather: &gather, maps, row, out, finish });
        });
    });
}

/// One row of target pixels, counted through the batch.
struct Row<'a> {
    gather: &'a Gather<'a>,
    maps: &'a [f32],
    row: usize,
    out: &'a mut [f32],
    finish: Finish<'a>,
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Gather { source, target, rows, runs, .. } = self.gather;
        let image = &self.maps[self.row / target.height * source.len()..][..source.len()];
        let y = rows.positions[self.row % target.height];
        let row_taps = &rows.patterns[y.pattern];
        let last_row = row_taps.iter().map(|tap| tap.source).max().unwrap_or(0);
        for run in runs {
            let last = run.taps.iter().map(|tap| tap.source).max().unwrap_or(0);
            let reach = run.source + (run.len - 1) * run.source_step + last;
            assert!(
                run.taps.is_empty()
                    || row_taps.is_empty()
                    || (y.source + last_row < source.height && reach < source.width),
                "a tap lies outside"
            );
            for pixel in (0..run.len).step_by(TILE_PIXELS) {
                let place = (y.source, pixel);
                match run.len - pixel {
                    1 => self.tile::<S, 1>(simd, image, run, row_taps, place),
                    2 => self.tile::<S, 2>(simd, image, run, row_taps, place),
                    3 => self.tile::<S, 3>(simd, image, run, row_taps, place),
                    4 => self.tile::<S, 4>(simd, image, run, row_taps, place),
                    5 => self.tile::<S, 5>(simd, image, run, row_taps, place),
                    _ => self.tile::<S, TILE_PIXELS>(simd, image, run, row_taps, place),
                }
            }
        }
    }
}

impl Row<'_> {
    /// Some pixels of a run from `pixel` on, all channels.
    #[inline(always)]
    fn tile<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        image: &[f32],
        run: &Run,
        row_taps: &[Tap],
        (y, pixel): (usize, usize),
    ) {
        let Gather { source, kernel_width, weight, .. } = *self.gather;
        let channels = source.channels;
        let at = |row: &Tap, col: &Tap, n: usize| {
            let x = run.source + (pixel + n) * run.source_step + col.source;
            ((y + row.source) * source.width + x) * channels
        };
        for first in (0..channels).step_by(S::F32_LANES) {
            let len = S::F32_LANES.min(channels - first);
            let is_whole = len == S::F32_LANES;
            let mut sums = [simd.splat_f32s(0.0); N];
            for row in row_taps {
                for col in &run.taps {
                    let tap = row.kernel * kernel_width + col.kernel;
                    let weights = read(simd, &weight[tap * channels + first..][..len]);
                    for (n, sum) in sums.iter_mut().enumerate() {
                        let from = at(row, col, n) + first;
                        let values = if is_whole {
                            // SAFETY: `with_simd` checked that the tap of the run's last pixel lies
                            // in the map, and a whole vector lies in the pixel's channels.
                            unsafe { load::<S>(image.as_ptr().add(from)) }
                        } else {
                            read(simd, &image[from..from + len])
                        };
                        *sum = simd.mul_add_e_f32s(values, weights, *sum);
                    }
                }
            }
            for (n, sum) in sums.into_iter().enumerate() {
                let to = (run.first + pixel + n) * channels + first;
                let columns = first..first + len;
                let value = self.finish.apply(simd, sum, columns, to..to + len, self.out);
                write(simd, &mut self.out[to..to + len], value);
            }
        }
    }
}

/// The weight's gradient in PyTorch's layout.
pub(crate) fn weight_gradient(geometry: &Geometry, maps: &[f32], gradient: &[f32]) -> Vec<f32> {
    let Geometry { batch, input, output, .. } = *geometry;
    assert_eq!(maps.len(), batch * input.len(), "values of the maps");
    assert_eq!(gradient.len(), batch * output.len(), "values of the gradient");
    let channels = input.channels;
    let images = (CHUNK_VALUES / (input.len() + output.len()).max(1)).max(1);
    let axes = geometry.axes();
    let runs = runs(&axes.1);
    let chunks = maps.par_chunks((images * input.len()).max(1));
    let parts: Vec<Vec<f32>> = chunks
        .zip(gradient.par_chunks((images * output.len()).max(1)))
        .map(|(maps, gradient)| {
            let mut sums = vec![0.0; geometry.taps() * channels];
            let images = maps
                .chunks_exact(input.len().max(1))
                .zip(gradient.chunks_exact(output.len().max(1)));
            for (image, gradient) in images {
                let (geometry, rows, runs) = (*geometry, &axes.0, &runs);
                let sums = &mut sums;
                simd::dispatch(WeightGradient { geometry, rows, runs, image, gradient, sums });
            }
            sums
        })
        .collect();
    let sums = sum_in_order(&parts, geometry.taps() * channels);
    let kernels =
        (0..channels).flat_map(|channel| sums.iter().skip(channel).step_by(channels).copied());
    kernels.collect()
}

/// What one image adds to the gradient of each tap, `[taps, channels]`.
struct WeightGradient<'a> {
    geometry: Geometry,
    rows: &'a Axis,
    runs: &'a [Run],
    image: &'a [f32],
    gradient: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Geometry { input, output, kernel, .. } = self.geometry;
        let channels = input.channels;
        for (y, position) in self.rows.positions.iter().enumerate() {
            for row in &self.rows.patterns[position.pattern] {
                let source_row = (position.source + row.source) * input.width;
                for run in self.runs {
                    for col in &run.taps {
                        let tap = row.kernel * kernel.1 + col.kernel;
                        for first in (0..channels).step_by(S::F32_LANES) {
                            let range = first..(first + S::F32_LANES).min(channels);
                            let sums = &mut self.sums[tap * channels..][range.clone()];
                            let mut sum = read(simd, sums);
                            for n in 0..run.len {
                                let x = run.source + n * run.source_step + col.source;
                                let image = &self.image[(source_row + x) * channels..];
                                let target = (y * output.width + run.first + n) * channels;
                                let values = read(simd, &image[range.clone()]);
                                let gradient = read(simd, &self.gradient[target..][range.clone()]);
                                sum = simd.mul_add_e_f32s(values, gradient, sum);
                            }
                            write(simd, sums, sum);
                        }
                    }
                }
            }
        }
    }
}
