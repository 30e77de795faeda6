//! The gradient of a convolution's weight: for each tap, the input's channels times the output
//! gradient's, summed over all pixels where the tap meets the map.
#![expect(unsafe_code, reason = "pixels are walked by pointer; bounds are checked once a run")]

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::geometry::{Axis, Geometry};
use crate::microkernel::{TILE_ROWS, accumulate, zeros};
use crate::panels::vectors_per_panel;
use crate::product::{read, write};
use crate::{scratch, simd};

/// Input and output gradient of a chunk of images, in values: about what the caches hold.
const CHUNK_VALUES: usize = 512 * 1024;

/// Input channels of a part, a multiple of the tile's rows.
const PART_INPUTS: usize = 48;

/// Output channels whose weights are turned at a time: a line of cache.
const TURN_OUTPUTS: usize = 16;

/// Pixels that lie a fixed step apart in both maps.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) maps: usize,
    pub(crate) gradient: usize,
    pub(crate) len: usize,
}

/// The weight's gradient in PyTorch's layout.
pub(crate) fn weight_gradient(geometry: &Geometry, maps: &[f32], gradient: &[f32]) -> Vec<f32> {
    let Geometry { batch, input, output, .. } = *geometry;
    assert_eq!(maps.len(), batch * input.len(), "values of the maps");
    assert_eq!(gradient.len(), batch * output.len(), "values of the gradient");
    let (inputs, outputs) = (geometry.group_inputs(), geometry.group_outputs());
    let taps = geometry.met_taps();
    // By group, met tap, input, output; turned into the weight's layout at the end.
    let mut sums = scratch::take(geometry.groups() * taps.len() * inputs * outputs);
    sums.fill(0.0);
    let per_image = input.len() + output.len();
    let chunk_images = (CHUNK_VALUES / per_image.max(1)).clamp(1, batch.max(1));
    let axes = geometry.axes();
    for first in (0..batch).step_by(chunk_images) {
        let images = first..(first + chunk_images).min(batch);
        let parts: Vec<(usize, usize, &mut [f32])> = sums
            .chunks_mut(inputs * outputs)
            .enumerate()
            .flat_map(|(of, sums)| {
                let parts = sums.chunks_mut(PART_INPUTS * outputs).enumerate();
                parts.map(move |(part, sums)| (of, part * PART_INPUTS, sums))
            })
            .collect();
        parts.into_par_iter().for_each(|(of, first_input, sums)| {
            let (group, tap) = (of / taps.len(), of % taps.len());
            let runs = Runs::of(geometry, &axes, taps[tap], images.clone());
            let part = Part {
                maps,
                gradient,
                first_input: group * inputs + first_input,
                first_output: group * outputs,
                runs,
                sums,
                outputs,
            };
            simd::dispatch(part);
        });
    }
    let weight = turned(geometry, &taps, &sums);
    scratch::give(sums);
    weight
}

/// From group, met tap, input, output to output, input, tap; taps that meet nothing get zero.
fn turned(geometry: &Geometry, taps: &[usize], sums: &[f32]) -> Vec<f32> {
    let (inputs, outputs, n_taps) =
        (geometry.group_inputs(), geometry.group_outputs(), geometry.taps());
    let len = inputs * n_taps;
    let mut weight = vec![0.0; geometry.output.channels * len];
    // Some outputs at a time, which lie beside each other in the sums.
    weight.par_chunks_mut(TURN_OUTPUTS * len).enumerate().for_each(|(part, weight)| {
        let first = part * TURN_OUTPUTS;
        // Where each output's sums begin, and its kernels.
        let start = |o: usize| o / outputs * taps.len() * inputs * outputs + o % outputs;
        let mut kernels: Vec<(usize, &mut [f32])> =
            (first..).map(start).zip(weight.chunks_exact_mut(len)).collect();
        for input in 0..inputs {
            for (place, &tap) in taps.iter().enumerate() {
                let sums = &sums[(place * inputs + input) * outputs..];
                for (start, kernels) in &mut kernels {
                    kernels[input * n_taps + tap] = sums[*start];
                }
            }
        }
    });
    weight
}

/// The pixels where one tap meets the map.
pub(crate) struct Runs {
    pub(crate) runs: Vec<Run>,
    /// Values from one pixel of a run to the next.
    pub(crate) maps_step: usize,
    pub(crate) gradient_step: usize,
}

impl Runs {
    fn of(
        geometry: &Geometry,
        (rows, cols): &(Axis, Axis),
        tap: usize,
        images: std::ops::Range<usize>,
    ) -> Self {
        let Geometry { input, output, config, .. } = geometry;
        let ys = met(rows, tap / geometry.kernel.1);
        let xs = met(cols, tap % geometry.kernel.1);
        let at = |image: usize, y: (usize, usize), x: (usize, usize), len| Run {
            maps: image * input.len() + (y.1 * input.width + x.1) * input.channels,
            gradient: image * output.len() + (y.0 * output.width + x.0) * output.channels,
            len,
        };
        // Along the longer of the two: a row of the map, or one pixel through the images.
        if images.len() > xs.len() {
            let pixels = ys.iter().flat_map(|&y| xs.iter().map(move |&x| (y, x)));
            let runs = pixels.map(|(y, x)| at(images.start, y, x, images.len())).collect();
            return Self { runs, maps_step: input.len(), gradient_step: output.len() };
        }
        let (first, len) = (xs.first().copied(), xs.len());
        let runs = images
            .flat_map(|image| ys.iter().filter_map(move |&y| Some(at(image, y, first?, len))));
        Self {
            runs: runs.collect(),
            maps_step: config.stride * input.channels,
            gradient_step: output.channels,
        }
    }
}

/// Output and input coordinates along an axis where one tap meets the map: a stretch of outputs.
fn met(axis: &Axis, kernel: usize) -> Vec<(usize, usize)> {
    let of = |(target, position): (usize, &super::geometry::Position)| {
        let taps = &axis.patterns[position.pattern];
        let tap = taps.iter().find(|tap| tap.kernel == kernel)?;
        Some((target, position.source + tap.source))
    };
    axis.positions.iter().enumerate().filter_map(of).collect()
}

/// One tap of one group, some of its inputs, all of its outputs.
pub(crate) struct Part<'a> {
    pub(crate) maps: &'a [f32],
    pub(crate) gradient: &'a [f32],
    pub(crate) first_input: usize,
    pub(crate) first_output: usize,
    pub(crate) runs: Runs,
    /// By input and output.
    pub(crate) sums: &'a mut [f32],
    pub(crate) outputs: usize,
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let width = vectors_per_panel::<S>() * S::F32_LANES;
        for col in (0..self.outputs).step_by(width) {
            let n_cols = width.min(self.outputs - col);
            let full = n_cols / S::F32_LANES;
            match full {
                1 => self.columns::<S, 1>(simd, col),
                2 => self.columns::<S, 2>(simd, col),
                3 if vectors_per_panel::<S>() > 2 => self.columns::<S, 3>(simd, col),
                4 if vectors_per_panel::<S>() > 2 => self.columns::<S, 4>(simd, col),
                _ => {}
            }
            // What is left of less than a vector.
            for single in col + full * S::F32_LANES..col + n_cols {
                self.single_column(single);
            }
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn columns<S: Simd, const NV: usize>(&mut self, simd: S, col: usize) {
        let inputs = self.sums.len() / self.outputs;
        for input in (0..inputs).step_by(TILE_ROWS) {
            match inputs - input {
                1 => self.tile::<S, 1, NV>(simd, input, col),
                2 => self.tile::<S, 2, NV>(simd, input, col),
                3 => self.tile::<S, 3, NV>(simd, input, col),
                4 => self.tile::<S, 4, NV>(simd, input, col),
                5 => self.tile::<S, 5, NV>(simd, input, col),
                _ => self.tile::<S, TILE_ROWS, NV>(simd, input, col),
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        input: usize,
        col: usize,
    ) {
        let Runs { runs, maps_step, gradient_step } = &self.runs;
        let mut tile = zeros::<S, MR, NV>(simd);
        for run in runs {
            let maps = run.maps + self.first_input + input;
            let gradient = run.gradient + self.first_output + col;
            // An empty run counts nothing.
            let Some(last) = run.len.checked_sub(1) else { continue };
            assert!(
                maps + last * maps_step + MR <= self.maps.len()
                    && gradient + last * gradient_step + NV * S::F32_LANES <= self.gradient.len()
            );
            // SAFETY: the last pixel of the run, the farthest, was just checked in both maps.
            unsafe {
                let rows = std::array::from_fn(|m| self.maps.as_ptr().add(maps + m));
                let rhs = self.gradient.as_ptr().add(gradient);
                accumulate::<S, MR, NV>(
                    simd,
                    &mut tile,
                    run.len,
                    rows,
                    *maps_step,
                    rhs,
                    *gradient_step,
                );
            }
        }
        for (m, sums) in tile.into_iter().enumerate() {
            let row = &mut self.sums[(input + m) * self.outputs + col..];
            for (out, sum) in row.chunks_exact_mut(S::F32_LANES).zip(sums) {
                let total = simd.add_f32s(read(simd, out), sum);
                write(simd, out, total);
            }
        }
    }

    #[inline(always)]
    fn single_column(&mut self, col: usize) {
        let Runs { runs, maps_step, gradient_step } = &self.runs;
        for (input, sums) in self.sums.chunks_exact_mut(self.outputs).enumerate() {
            let mut sum = 0.0_f32;
            for run in runs {
                for k in 0..run.len {
                    let x = self.maps[run.maps + self.first_input + input + k * maps_step];
                    let g =
                        self.gradient[run.gradient + self.first_output + col + k * gradient_step];
                    // As the vectors do, so that every instruction set gives the same bits.
                    sum = x.mul_add(g, sum);
                }
            }
            sums[col] += sum;
        }
    }
}
