//! The three passes of a convolution as matrix products over gathered patches.
//!
//! A patch is the part of the map under the kernel at one output pixel, zeros outside the map:
//! `kernel_height * kernel_width * in_channels` values in this order. Patches are gathered for a
//! tile of output pixels at a time, small enough to stay in the second-level cache.

use rayon::prelude::*;

use crate::gemm::{Matrix, Output, matmul};
use crate::window::Window;

/// Values of one tile of patches: 256 KiB, half of a common second-level cache.
const TILE_VALUES: usize = 64 * 1024;
/// Partial weight gradients, which are summed in order; more parts than cores for balance.
const WEIGHT_PARTS: usize = 8;

/// The shapes of one convolution.
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) window: Window,
}

impl Geometry {
    fn patch_len(&self) -> usize {
        self.window.kernel.0 * self.window.kernel.1 * self.in_channels
    }

    /// Output pixels of the batch: the rows of every product.
    fn rows(&self) -> usize {
        self.batch * self.window.out_pixels()
    }

    /// Rows gathered at a time.
    fn tile_rows(&self) -> usize {
        (TILE_VALUES / self.patch_len()).clamp(32, 1024)
    }

    /// A 1x1 convolution of stride 1 reads each pixel once: the maps are the patches.
    fn patches_are_pixels(&self) -> bool {
        self.window.kernel == (1, 1) && self.window.stride == 1 && self.window.padding == 0
    }
}

/// `y = patches * weight`.
pub(super) fn forward(geometry: &Geometry, maps: &[f32], weight: &[f32]) -> Vec<f32> {
    let (patch_len, out_channels) = (geometry.patch_len(), geometry.out_channels);
    let weight = pack_weight(geometry, weight);
    let weight = Matrix::row_major(&weight, patch_len, out_channels);
    let tile_rows = geometry.tile_rows();
    let mut out = vec![0.0; geometry.rows() * out_channels];
    out.par_chunks_mut(tile_rows * out_channels).enumerate().for_each_init(
        Vec::new,
        |buffer, (tile, out)| {
            let n_rows = out.len() / out_channels;
            let patches = gather(geometry, maps, tile * tile_rows, n_rows, buffer);
            let patches = Matrix::row_major(patches, n_rows, patch_len);
            matmul(out, patches, weight, Output::Overwrite);
        },
    );
    out
}

/// `dw = patches^T * dy`, in PyTorch's layout.
pub(super) fn weight_gradient(geometry: &Geometry, maps: &[f32], gradient: &[f32]) -> Vec<f32> {
    let (patch_len, out_channels) = (geometry.patch_len(), geometry.out_channels);
    let (rows, tile_rows) = (geometry.rows(), geometry.tile_rows());
    let part_rows = rows.div_ceil(WEIGHT_PARTS).next_multiple_of(tile_rows);
    let parts: Vec<Vec<f32>> = gradient
        .par_chunks(part_rows * out_channels)
        .enumerate()
        .map(|(part, gradient)| {
            let mut sum = vec![0.0; patch_len * out_channels];
            let mut buffer = Vec::new();
            for (tile, gradient) in gradient.chunks(tile_rows * out_channels).enumerate() {
                let n_rows = gradient.len() / out_channels;
                let first_row = part * part_rows + tile * tile_rows;
                let patches = gather(geometry, maps, first_row, n_rows, &mut buffer);
                let patches = Matrix::row_major(patches, n_rows, patch_len).transposed();
                let gradient = Matrix::row_major(gradient, n_rows, out_channels);
                matmul(&mut sum, patches, gradient, Output::Accumulate);
            }
            sum
        })
        .collect();
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_else(|| vec![0.0; patch_len * out_channels]);
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    unpack_weight(geometry, &total)
}

/// `dx = scatter(dy * weight^T)`: each patch's gradient is added to where it was gathered.
pub(super) fn input_gradient(geometry: &Geometry, weight: &[f32], gradient: &[f32]) -> Vec<f32> {
    let Geometry { batch, in_channels, out_channels, window } = geometry;
    let patch_len = geometry.patch_len();
    let weight = pack_weight(geometry, weight);
    let weight = Matrix::row_major(&weight, patch_len, *out_channels).transposed();
    // Whole images, so that no two tasks add to the same pixel.
    let images = geometry.tile_rows().div_ceil(window.out_pixels());
    let mut out = vec![0.0; batch * window.in_pixels() * in_channels];
    out.par_chunks_mut(images * window.in_pixels() * in_channels).enumerate().for_each_init(
        Vec::new,
        |patches, (task, out)| {
            let first_row = task * images * window.out_pixels();
            let n_images = out.len() / (window.in_pixels() * in_channels);
            let n_rows = n_images * window.out_pixels();
            let tile_rows = geometry.tile_rows();
            for start in (0..n_rows).step_by(tile_rows) {
                let n_rows = tile_rows.min(n_rows - start);
                let from = (first_row + start) * out_channels;
                let gradient = &gradient[from..from + n_rows * out_channels];
                patches.resize(tile_rows * patch_len, 0.0);
                let gradient = Matrix::row_major(gradient, n_rows, *out_channels);
                matmul(patches, gradient, weight, Output::Overwrite);
                scatter(geometry, &patches[..n_rows * patch_len], start, out);
            }
        },
    );
    out
}

/// The patches of rows `first_row..first_row + n_rows`, gathered into the buffer where needed.
fn gather<'a>(
    geometry: &Geometry,
    maps: &'a [f32],
    first_row: usize,
    n_rows: usize,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let patch_len = geometry.patch_len();
    if geometry.patches_are_pixels() {
        return &maps[first_row * patch_len..(first_row + n_rows) * patch_len];
    }
    buffer.resize(geometry.tile_rows().max(n_rows) * patch_len, 0.0);
    for (row, patch) in buffer.chunks_exact_mut(patch_len).take(n_rows).enumerate() {
        let spans = spans(geometry, first_row + row);
        if spans.is_clipped {
            patch.fill(0.0);
        }
        for (in_patch, in_maps) in spans.starts() {
            let values = &maps[in_maps..in_maps + spans.len];
            patch[in_patch..in_patch + spans.len].copy_from_slice(values);
        }
    }
    &buffer[..n_rows * patch_len]
}

/// Adds patches to the maps they were gathered from; rows count from the first of these maps.
fn scatter(geometry: &Geometry, patches: &[f32], first_row: usize, maps: &mut [f32]) {
    for (row, patch) in patches.chunks_exact(geometry.patch_len()).enumerate() {
        let spans = spans(geometry, first_row + row);
        for (in_patch, in_maps) in spans.starts() {
            let sums = &mut maps[in_maps..in_maps + spans.len];
            let values = &patch[in_patch..in_patch + spans.len];
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    }
}

/// Where one patch lies in the maps: `n` runs of `len` values, one a kernel row.
struct Spans {
    len: usize,
    n: usize,
    in_patch: usize,
    in_maps: usize,
    patch_stride: usize,
    maps_stride: usize,
    is_clipped: bool,
}

impl Spans {
    /// The first value of each run, in the patch and in the maps.
    fn starts(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (in_patch, patch_stride) = (self.in_patch, self.patch_stride);
        let (in_maps, maps_stride) = (self.in_maps, self.maps_stride);
        (0..self.n).map(move |i| (in_patch + i * patch_stride, in_maps + i * maps_stride))
    }
}

fn spans(geometry: &Geometry, row: usize) -> Spans {
    let Geometry { in_channels, window, .. } = geometry;
    let (image, pixel) = (row / window.out_pixels(), row % window.out_pixels());
    let (rows, map_y) = window.rows(pixel / window.out_width());
    let (cols, map_x) = window.cols(pixel % window.out_width());
    Spans {
        len: cols.len() * in_channels,
        n: rows.len(),
        in_patch: (rows.start * window.kernel.1 + cols.start) * in_channels,
        in_maps: ((image * window.height + map_y) * window.width + map_x) * in_channels,
        patch_stride: window.kernel.1 * in_channels,
        maps_stride: window.width * in_channels,
        is_clipped: rows.len() * cols.len() < window.kernel.0 * window.kernel.1,
    }
}

/// `[out, in, kernel_height, kernel_width]` to `[kernel_height, kernel_width, in, out]`.
fn pack_weight(geometry: &Geometry, weight: &[f32]) -> Vec<f32> {
    let mut packed = vec![0.0; weight.len()];
    for_each_weight(geometry, |torch_idx, packed_idx| packed[packed_idx] = weight[torch_idx]);
    packed
}

/// The inverse of [`pack_weight`].
fn unpack_weight(geometry: &Geometry, packed: &[f32]) -> Vec<f32> {
    let mut weight = vec![0.0; packed.len()];
    for_each_weight(geometry, |torch_idx, packed_idx| weight[torch_idx] = packed[packed_idx]);
    weight
}

fn for_each_weight(geometry: &Geometry, mut visit: impl FnMut(usize, usize)) {
    let taps = geometry.window.kernel.0 * geometry.window.kernel.1;
    let mut torch_idx = 0;
    for out in 0..geometry.out_channels {
        for channel in 0..geometry.in_channels {
            for tap in 0..taps {
                let row = tap * geometry.in_channels + channel;
                visit(torch_idx, row * geometry.out_channels + out);
                torch_idx += 1;
            }
        }
    }
}
