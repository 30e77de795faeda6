//! Convolution with 3x3 kernels of stride 1 by Winograd's F(4x4, 3x3): a quarter of the
//! multiplications.
//!
//! Tiles of 4x4 outputs are carried to 36 points, at each of which the convolution is a product
//! of matrices, tiles by input channels times input by output channels. The gradient of the input
//! is the same with the kernel turned; the gradient of the weight is, at each point, the
//! transposed tiles times the tiles of gradients.
//!
//! # Source
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016; the points are ours
//! (see `transform`). The error against f64 is pinned in the tests of `conv2d`.

mod tiles;
mod transform;
mod weight;

use std::ops::Range;

use rayon::prelude::*;

use crate::conv2d::geometry::{Geometry, Map};
use crate::panels::Panels;
use crate::product::{Finish, Product, Segment, Start};
use crate::{scratch, simd};
use tiles::{Collect, Grid, POINTS, Patch, Scatter, tile_len};

pub(crate) use weight::weight_gradient;

/// Channels must be a multiple of this: the longest vector.
const CHANNELS: usize = 16;

/// Transformed values of a part, about what a core's own cache holds.
const PART_VALUES: usize = 160 * 1024;

/// Tiles of a part for which the transformed weights are read once from farther memory.
const PART_TILES: Range<usize> = 24..96;

/// Whether a convolution is of the kind that this module computes, and pays: fewer
/// multiplications than the taps that meet the map, and tiles enough for the weights' transform.
pub(crate) fn pays(geometry: &Geometry) -> bool {
    let Geometry { batch, input, output, kernel, config } = geometry;
    let is_known = *kernel == (3, 3)
        && (config.stride, config.dilation, config.groups) == (1, 1, 1)
        && config.padding <= 2
        && input.channels.is_multiple_of(CHANNELS)
        && output.channels.is_multiple_of(CHANNELS);
    if !is_known {
        return false;
    }
    let grid = Grid::new(*output);
    let (rows, cols) = geometry.axes();
    let met = |axis: &crate::conv2d::geometry::Axis| -> usize {
        axis.positions.iter().map(|p| axis.patterns[p.pattern].len()).sum()
    };
    let direct = batch * met(&rows) * met(&cols);
    // The weights' own transform costs about as much as this many tiles.
    let transformed = (batch * grid.rows * grid.cols + 64) * POINTS;
    // The transforms of the tiles cost about as much as the products of 48 channels.
    let channels = input.channels.min(output.channels);
    direct * channels > transformed * (channels + 48)
}

/// A convolution with transformed weights.
pub(crate) struct Winograd {
    source: Map,
    grid: Grid,
    batch: usize,
    padding: usize,
    /// One for each point.
    weights: Vec<Panels>,
}

impl Winograd {
    /// From the input's maps to the output's, with a weight in PyTorch's layout.
    pub(crate) fn forward(geometry: &Geometry, weight: &[f32]) -> Self {
        let Geometry { batch, input, output, config, .. } = *geometry;
        let weights = weight::transformed(geometry, weight, weight::Direction::Forward);
        Self { source: input, grid: Grid::new(output), batch, padding: config.padding, weights }
    }

    /// From the output's gradient to the input's.
    pub(crate) fn input_gradient(geometry: &Geometry, weight: &[f32]) -> Self {
        let Geometry { batch, input, output, config, .. } = *geometry;
        let weights = weight::transformed(geometry, weight, weight::Direction::Backward);
        Self { source: output, grid: Grid::new(input), batch, padding: 2 - config.padding, weights }
    }

    /// Computes the whole target; `finish`'s other start is of the target's length.
    pub(crate) fn run(&self, source: &[f32], target: &mut [f32], finish: Finish<'_>) {
        assert_eq!(source.len(), self.batch * self.source.len(), "values of the source");
        assert_eq!(target.len(), self.batch * self.grid.map.len(), "values of the target");
        let per_tile = tile_len(self.source.channels) + tile_len(self.grid.map.channels);
        let tiles = (PART_VALUES / per_tile).clamp(PART_TILES.start, PART_TILES.end);
        let part_rows = (tiles / self.grid.cols).max(1);
        parts(&self.grid, self.batch, part_rows, target).into_par_iter().for_each(|(rows, out)| {
            let finish = match finish.start {
                Start::Other(other) => {
                    let from = self.grid.start(rows.start);
                    Finish { start: Start::Other(&other[from..from + out.len()]), ..finish }
                }
                Start::Zero | Start::Output => finish,
            };
            self.part(source, rows, out, finish);
        });
    }

    fn part(&self, source: &[f32], rows: Range<usize>, out: &mut [f32], finish: Finish<'_>) {
        let n_tiles = rows.len() * self.grid.cols;
        let (inputs, outputs) = (self.source.channels, self.grid.map.channels);
        let (input_len, output_len) = (tile_len(inputs), tile_len(outputs));
        scratch::with(n_tiles * (input_len + output_len), |values| {
            let (tiles, products) = values.split_at_mut(n_tiles * input_len);
            simd::dispatch(Scatter {
                grid: self.grid,
                source: self.source,
                values: source,
                padding: self.padding,
                first_row: rows.start,
                out: tiles,
                patch: Patch::Inputs,
            });
            let (mut tile_rows, mut product_rows) = (Vec::new(), Vec::new());
            for (point, weights) in self.weights.iter().enumerate() {
                tile_rows.clear();
                product_rows.clear();
                tile_rows.extend((0..n_tiles).map(|tile| tile * input_len + point * inputs));
                product_rows.extend((0..n_tiles).map(|tile| tile * output_len + point * outputs));
                Product {
                    lhs: tiles,
                    lhs_rows: &tile_rows,
                    segments: &[Segment { lhs: 0, rhs: 0, depth: inputs }],
                    rhs: weights,
                    out: products,
                    out_rows: &product_rows,
                    finish: Finish::OVERWRITE,
                    first_affine: 0,
                }
                .run();
            }
            let first_row = rows.start;
            simd::dispatch(Collect { grid: self.grid, products, first_row, out, finish });
        });
    }
}

/// The maps cut into rows of tiles, `part_rows` at a time.
fn parts<'a>(
    grid: &Grid,
    batch: usize,
    part_rows: usize,
    mut values: &'a mut [f32],
) -> Vec<(Range<usize>, &'a mut [f32])> {
    let n_rows = batch * grid.rows;
    let mut parts = Vec::with_capacity(n_rows.div_ceil(part_rows));
    for first in (0..n_rows).step_by(part_rows) {
        let end = (first + part_rows).min(n_rows);
        let (part, rest) = values.split_at_mut(grid.start(end) - grid.start(first));
        parts.push((first..end, part));
        values = rest;
    }
    parts
}
