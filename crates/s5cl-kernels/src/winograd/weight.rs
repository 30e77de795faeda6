//! The weights at the 36 points, and their gradient back from there.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::tiles::{Grid, INPUTS, POINTS, Patch, Scatter, tile_len};
use super::transform;
use crate::conv2d::geometry::Geometry;
use crate::conv2d::weight_gradient::{Part, Run, Runs};
use crate::panels::Panels;
use crate::product::{read, write};
use crate::{scratch, simd};

/// Transformed tiles and gradients of a chunk, in values: they are read from all cores' cache.
const CHUNK_VALUES: usize = 2 * 1024 * 1024;

/// Tiles that one thread transforms at a time.
const PART_TILES: usize = 16;

/// Input channels of a part of the products.
const PART_INPUTS: usize = 96;

/// Which way a convolution is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From inputs to outputs.
    Forward,
    /// From the outputs' gradient to the inputs': the kernel is turned by half a circle.
    Backward,
}

/// Taps of the kernel.
const TAPS: usize = 9;

/// The weights at each point, rows by source channel, columns by target channel.
pub(super) fn transformed(
    geometry: &Geometry,
    weight: &[f32],
    direction: Direction,
) -> Vec<Panels> {
    let (inputs, outputs) = (geometry.input.channels, geometry.output.channels);
    let (sources, targets) = match direction {
        Direction::Forward => (inputs, outputs),
        Direction::Backward => (outputs, inputs),
    };
    let arch = simd::arch();
    let mut points: Vec<Panels> =
        (0..POINTS).map(|_| Panels::new(arch, sources, targets)).collect();
    let Some(width) = points.first().map(Panels::width) else { return points };
    // Regrouped as one column of panels after the other, all points of it.
    let mut columns: Vec<(usize, Vec<&mut [f32]>)> = Vec::new();
    for panels in &mut points {
        for (index, (first, panel)) in panels.panels_mut().enumerate() {
            if columns.len() <= index {
                columns.push((first, Vec::with_capacity(POINTS)));
            }
            columns[index].1.push(panel);
        }
    }
    columns.into_par_iter().for_each(|(first, mut panels)| {
        let targets = first..(first + width).min(targets);
        for source in 0..sources {
            let rows = panels.iter_mut().map(|panel| &mut panel[source * width..][..targets.len()]);
            let work = TransformRow {
                weight,
                direction,
                source,
                targets: targets.clone(),
                inputs,
                rows: rows.collect(),
            };
            arch.dispatch(work);
        }
    });
    points
}

/// The weights of one source channel and some target channels, at all points.
struct TransformRow<'a> {
    weight: &'a [f32],
    direction: Direction,
    source: usize,
    targets: Range<usize>,
    inputs: usize,
    rows: Vec<&'a mut [f32]>,
}

impl WithSimd for TransformRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut taps = [[0.0; 16]; TAPS];
        let zero = simd.splat_f32s(0.0);
        for at in (0..self.targets.len()).step_by(S::F32_LANES) {
            for (lane, target) in (self.targets.start + at..).take(S::F32_LANES).enumerate() {
                let (output, input) = match self.direction {
                    Direction::Forward => (target, self.source),
                    Direction::Backward => (self.source, target),
                };
                let kernel = &self.weight[(output * self.inputs + input) * TAPS..][..TAPS];
                for (tap, values) in taps.iter_mut().enumerate() {
                    values[lane] = match self.direction {
                        Direction::Forward => kernel[tap],
                        Direction::Backward => kernel[TAPS - 1 - tap],
                    };
                }
            }
            let mut kernel = [[zero; 3]; 3];
            for (value, lanes) in kernel.as_flattened_mut().iter_mut().zip(&taps) {
                *value = read(simd, &lanes[..S::F32_LANES]);
            }
            let points = transform::both_axes(
                kernel,
                zero,
                #[inline(always)]
                |g: [S::f32s; 3]| transform::weight(simd, g),
            );
            for (row, &values) in self.rows.iter_mut().zip(points.as_flattened()) {
                write(simd, &mut row[at..at + S::F32_LANES], values);
            }
        }
    }
}

/// The gradient of the weight, in PyTorch's layout.
pub(crate) fn weight_gradient(geometry: &Geometry, maps: &[f32], gradient: &[f32]) -> Vec<f32> {
    let Geometry { batch, input, output, config, .. } = *geometry;
    let (inputs, outputs) = (input.channels, output.channels);
    let (input_len, output_len) = (tile_len(inputs), tile_len(outputs));
    let grid = Grid::new(output);
    let chunk_rows = (CHUNK_VALUES / ((input_len + output_len) * grid.cols)).max(1);
    let n_rows = batch * grid.rows;
    // By point, input, output.
    let mut sums = scratch::take(POINTS * inputs * outputs);
    sums.fill(0.0);
    let chunk_tiles = chunk_rows.min(n_rows) * grid.cols;
    scratch::with(chunk_tiles * (input_len + output_len), |values| {
        let (tiles, gradients) = values.split_at_mut(chunk_tiles * input_len);
        for first in (0..n_rows).step_by(chunk_rows) {
            let rows = first..(first + chunk_rows).min(n_rows);
            let n_tiles = rows.len() * grid.cols;
            let (tiles, gradients) =
                (&mut tiles[..n_tiles * input_len], &mut gradients[..n_tiles * output_len]);
            scatter(grid, input, maps, config.padding, rows.clone(), Patch::Inputs, tiles);
            scatter(grid, output, gradient, 0, rows, Patch::OutputGradients, gradients);
            add_products(geometry, n_tiles, tiles, gradients, &mut sums);
        }
    });
    let mut weight = vec![0.0; outputs * inputs * TAPS];
    let part = inputs * TAPS * super::CHANNELS;
    weight.par_chunks_mut(part).enumerate().for_each(|(part, weight)| {
        let first_output = part * super::CHANNELS;
        simd::dispatch(Gather { sums: &sums, first_output, inputs, outputs, weight });
    });
    scratch::give(sums);
    weight
}

/// Transforms all tiles of some rows, in parallel.
fn scatter(
    grid: Grid,
    source: crate::conv2d::geometry::Map,
    values: &[f32],
    padding: usize,
    rows: Range<usize>,
    patch: Patch,
    out: &mut [f32],
) {
    let part_rows = (PART_TILES / grid.cols).max(1);
    let part_len = part_rows * grid.cols * tile_len(source.channels);
    out.par_chunks_mut(part_len).enumerate().for_each(|(part, out)| {
        let first_row = rows.start + part * part_rows;
        simd::dispatch(Scatter { grid, source, values, padding, first_row, out, patch });
    });
}

/// Adds, at each point, the transposed tiles times the gradients.
fn add_products(
    geometry: &Geometry,
    n_tiles: usize,
    tiles: &[f32],
    gradients: &[f32],
    sums: &mut [f32],
) {
    let (inputs, outputs) = (geometry.input.channels, geometry.output.channels);
    let parts: Vec<(usize, usize, &mut [f32])> = sums
        .chunks_mut(inputs * outputs)
        .enumerate()
        .flat_map(|(point, sums)| {
            let parts = sums.chunks_mut(PART_INPUTS * outputs).enumerate();
            parts.map(move |(part, sums)| (point, part * PART_INPUTS, sums))
        })
        .collect();
    parts.into_par_iter().for_each(|(point, first_input, sums)| {
        let run = Run { maps: point * inputs, gradient: point * outputs, len: n_tiles };
        let runs =
            Runs { runs: vec![run], maps_step: tile_len(inputs), gradient_step: tile_len(outputs) };
        let first_output = 0;
        let part = Part {
            maps: tiles,
            gradient: gradients,
            first_input,
            first_output,
            runs,
            sums,
            outputs,
        };
        simd::dispatch(part);
    });
}

/// Brings the gradient of 16 outputs' weights back from the points.
struct Gather<'a> {
    /// By point, input, output.
    sums: &'a [f32],
    first_output: usize,
    inputs: usize,
    outputs: usize,
    /// By output, input, tap.
    weight: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        let mut lanes = [0.0; 16];
        for at in (0..super::CHANNELS).step_by(S::F32_LANES) {
            for input in 0..self.inputs {
                let mut points = [[zero; INPUTS]; INPUTS];
                for (point, value) in points.as_flattened_mut().iter_mut().enumerate() {
                    let row = (point * self.inputs + input) * self.outputs;
                    let from = row + self.first_output + at;
                    *value = read(simd, &self.sums[from..from + S::F32_LANES]);
                }
                let kernel = transform::both_axes(
                    points,
                    zero,
                    #[inline(always)]
                    |u: [S::f32s; INPUTS]| transform::weight_gradient(simd, u),
                );
                for (tap, &values) in kernel.as_flattened().iter().enumerate() {
                    write(simd, &mut lanes[..S::F32_LANES], values);
                    for (lane, &value) in lanes[..S::F32_LANES].iter().enumerate() {
                        self.weight[((at + lane) * self.inputs + input) * TAPS + tap] = value;
                    }
                }
            }
        }
    }
}
