//! The tiles that maps are cut into, and what carries them to the transformed side and back.
//!
//! A transformed tile is stored as its 36 points one after the other, all channels of each.
#![expect(unsafe_code, reason = "tiles are walked by pointer; bounds are checked once a tile")]

use pulp::{Simd, WithSimd};

use super::transform::{both_axes, input, output, output_gradient};
use crate::conv2d::geometry::Map;
use crate::microkernel::{load, store};
use crate::product::{Finish, write};

/// Outputs of a tile along an axis.
pub(super) const OUTPUTS: usize = 4;
/// Inputs under a tile along an axis, and points.
pub(super) const INPUTS: usize = 6;
/// Points of a tile.
pub(super) const POINTS: usize = INPUTS * INPUTS;

/// Values from one transformed tile to the next. The added line of cache keeps the same point of
/// all tiles from falling into a few sets of the cache.
pub(super) fn tile_len(channels: usize) -> usize {
    POINTS * channels + 16
}

/// The tiles of a map.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) map: Map,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Grid {
    pub(super) fn new(map: Map) -> Self {
        Self { map, rows: map.height.div_ceil(OUTPUTS), cols: map.width.div_ceil(OUTPUTS) }
    }

    /// Where the rows of tiles from `row` on, counted through the batch, begin in the maps.
    pub(super) fn start(&self, row: usize) -> usize {
        let (image, row) = (row / self.rows, row % self.rows);
        let y = (row * OUTPUTS).min(self.map.height);
        image * self.map.len() + y * self.map.width * self.map.channels
    }
}

/// Transforms `N x N` pixels around each tile of some rows of tiles.
pub(super) struct Scatter<'a> {
    pub(super) grid: Grid,
    /// The map that is read; its channels are a multiple of every vector's length.
    pub(super) source: Map,
    pub(super) values: &'a [f32],
    /// Pixels that the patch begins before the tile, up and left.
    pub(super) padding: usize,
    pub(super) first_row: usize,
    /// Transformed tiles.
    pub(super) out: &'a mut [f32],
    pub(super) patch: Patch,
}

/// What a patch is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patch {
    /// Six by six inputs.
    Inputs,
    /// Four by four gradients of outputs.
    OutputGradients,
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.patch {
            Patch::Inputs => self.each_tile::<S, INPUTS>(
                simd,
                #[inline(always)]
                |d| input(simd, d),
            ),
            Patch::OutputGradients => self.each_tile::<S, OUTPUTS>(
                simd,
                #[inline(always)]
                |y| output_gradient(simd, y),
            ),
        }
    }
}

impl Scatter<'_> {
    #[inline(always)]
    fn each_tile<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        transform: impl Fn([S::f32s; N]) -> [S::f32s; INPUTS] + Copy,
    ) {
        let channels = self.source.channels;
        assert!(channels.is_multiple_of(S::F32_LANES), "whole vectors of channels");
        let zero = simd.splat_f32s(0.0);
        let out = std::mem::take(&mut self.out);
        for (tile, out) in out.chunks_exact_mut(tile_len(channels)).enumerate() {
            let (row, col) = (self.first_row + tile / self.grid.cols, tile % self.grid.cols);
            let pixels = self.pixels::<N>(row, col);
            for channel in (0..channels).step_by(S::F32_LANES) {
                let mut patch = [[zero; N]; N];
                for (patch, pixels) in patch.iter_mut().zip(&pixels) {
                    for (value, pixel) in patch.iter_mut().zip(pixels) {
                        if let Some(pixel) = pixel {
                            // SAFETY: a slice of `channels` values.
                            *value = unsafe { load::<S>(pixel.as_ptr().add(channel)) };
                        }
                    }
                }
                let points = both_axes(patch, zero, transform);
                for (point, &values) in points.as_flattened().iter().enumerate() {
                    // SAFETY: a transformed tile has `channels` values for each point.
                    unsafe { store::<S>(out.as_mut_ptr().add(point * channels + channel), values) }
                }
            }
        }
    }

    /// The pixels of a patch, where they are on the map.
    fn pixels<const N: usize>(&self, row: usize, col: usize) -> [[Option<&[f32]>; N]; N] {
        let (image, row) = (row / self.grid.rows, row % self.grid.rows);
        let Map { height, width, channels } = self.source;
        let pixel = |y: usize, x: usize| {
            let y = (row * OUTPUTS + y).checked_sub(self.padding).filter(|&y| y < height)?;
            let x = (col * OUTPUTS + x).checked_sub(self.padding).filter(|&x| x < width)?;
            let at = ((image * height + y) * width + x) * channels;
            Some(&self.values[at..at + channels])
        };
        std::array::from_fn(|y| std::array::from_fn(|x| pixel(y, x)))
    }
}

/// Brings products back as pixels, for some rows of tiles.
pub(super) struct Collect<'a> {
    pub(super) grid: Grid,
    /// Transformed tiles.
    pub(super) products: &'a [f32],
    pub(super) first_row: usize,
    /// The pixels of these rows of tiles.
    pub(super) out: &'a mut [f32],
    /// Its other start is laid out as `out`.
    pub(super) finish: Finish<'a>,
}

impl WithSimd for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Map { height, width, channels } = self.grid.map;
        assert!(channels.is_multiple_of(S::F32_LANES), "whole vectors of channels");
        let zero = simd.splat_f32s(0.0);
        let origin = self.grid.start(self.first_row);
        for (tile, products) in self.products.chunks_exact(tile_len(channels)).enumerate() {
            let (row, col) = (self.first_row + tile / self.grid.cols, tile % self.grid.cols);
            let n_rows = OUTPUTS.min(height - row % self.grid.rows * OUTPUTS);
            let n_cols = OUTPUTS.min(width - col * OUTPUTS);
            let corner = self.grid.start(row) - origin + col * OUTPUTS * channels;
            for channel in (0..channels).step_by(S::F32_LANES) {
                let mut points = [[zero; INPUTS]; INPUTS];
                for (point, value) in points.as_flattened_mut().iter_mut().enumerate() {
                    let at = point * channels + channel;
                    // SAFETY: a transformed tile has `channels` values for each point.
                    *value = unsafe { load::<S>(products.as_ptr().add(at)) };
                }
                let outputs = both_axes(
                    points,
                    zero,
                    #[inline(always)]
                    |m: [S::f32s; INPUTS]| output(simd, m),
                );
                for (y, outputs) in outputs.iter().enumerate().take(n_rows) {
                    for (x, &value) in outputs.iter().enumerate().take(n_cols) {
                        let at = corner + (y * width + x) * channels + channel;
                        let place = at..at + S::F32_LANES;
                        let columns = channel..channel + S::F32_LANES;
                        let value =
                            self.finish.apply(simd, value, columns, place.clone(), self.out);
                        write(simd, &mut self.out[place], value);
                    }
                }
            }
        }
    }
}
