//! Views of tiles that stay in the memory of a GPU.

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod launch;
#[cfg(any(feature = "cuda", test))]
mod program;
#[cfg(test)]
mod tests;

use candle_core::{DType, Device, Result, Tensor};

#[cfg(not(feature = "cuda"))]
use absent::OnDevice;
#[cfg(feature = "cuda")]
use cuda::OnDevice;

/// What to make of which tile.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewRequest {
    /// The place of the tile among those that were pushed.
    pub tile_idx: usize,
    /// What happens to it, one step after another; none gives the tile itself.
    pub steps: Vec<ViewStep>,
}

/// One step of a view: an image in, an image of the same size out, in whole levels from 0 to 255.
///
/// Each is the function of the same meaning in `s5cl-augment`, to the last bit. Numbers must be
/// finite.
#[derive(Clone, Debug, PartialEq)]
pub enum ViewStep {
    /// A transposition, which takes an image as wide as high, then flips.
    Symmetry {
        /// Rows become columns.
        transposed: bool,
        /// Left and right are exchanged.
        flipped_x: bool,
        /// Top and bottom are exchanged.
        flipped_y: bool,
    },
    /// A part of the image, not empty, scaled to the size of the image: bilinear, along x first.
    Crop {
        /// Column of the first pixel.
        left: u32,
        /// Row of the first pixel.
        top: u32,
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The pixel at `(x, y)` comes from `matrix * (x, y, 1)`, bilinear, the image mirrored at its
    /// border without repeating it; less than 2^30 pixels away.
    Affine([[f64; 3]; 2]),
    /// Every value times this factor.
    Brightness(f32),
    /// The distance of every value from the image's mean grey level times this factor.
    Contrast(f32),
    /// The distance of every value from the grey level of its pixel times this factor.
    Saturation(f32),
    /// A turn of the hue by a share of the circle, cut to whole steps of 1/255.
    Hue(f32),
    /// `log2(output) = matrix * log2(input) + offset`, of intensities in `[1e-6, 1]`.
    Stains {
        /// Rows are for the output's colors, columns for the input's.
        matrix: [[f32; 3]; 3],
        /// Is added for each of the output's colors.
        offset: [f32; 3],
    },
    /// `stains = max(to_stains * log2(input), 0)`,
    /// `log2(output) = from_stains * (alpha * stains + beta)`, of intensities in `[1e-6, 1]`, the
    /// output stretched so that its lowest value becomes 0 and its highest 255.
    StretchedStains {
        /// Rows are for the stains.
        to_stains: [[f32; 3]; 3],
        /// Scales each stain.
        alpha: [f32; 3],
        /// Is added to each scaled stain.
        beta: [f32; 3],
        /// Rows are for the colors.
        from_stains: [[f32; 3]; 3],
    },
}

/// Tiles in the memory of a CUDA device, and views of them that are made there.
///
/// The host sends the few numbers of each view and no pixel. On the CPU `s5cl-augment` makes the
/// same views.
pub struct ResidentTiles(OnDevice);

impl ResidentTiles {
    /// Takes the memory for so many tiles, which [`ResidentTiles::push`] fills.
    ///
    /// `kept_free` bytes of the device must stay free beside them.
    ///
    /// # Errors
    ///
    /// If they do not fit, the device is not a CUDA device, or a tile has no pixels, 2^28 and more,
    /// or a side above 2^16 - 32.
    pub fn new(
        n_tiles: usize,
        height: usize,
        width: usize,
        kept_free: u64,
        device: &Device,
    ) -> Result<Self> {
        OnDevice::new(n_tiles, [height, width], kept_free, device).map(Self)
    }

    /// Copies the next tiles to the device, any whole number of them: u8
    /// `[n, height, width, 3]`, row after row.
    ///
    /// # Errors
    ///
    /// If the bytes are not those of whole tiles, or there are more tiles than memory was taken
    /// for.
    pub fn push(&mut self, tiles: &[u8]) -> Result<()> {
        self.0.push(tiles)
    }

    /// Tiles that are on the device.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no tile is on the device.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes views, all together, without waiting for them.
    ///
    /// # Shapes
    ///
    /// - result: u8 `[n_requests, height, width, 3]`, on the device of the tiles
    ///
    /// # Errors
    ///
    /// If there is no request, a tile was not pushed, a step does not fit the tiles, or the device
    /// has no memory for the result and two images a view in the making.
    pub fn views(&self, requests: &[ViewRequest]) -> Result<Tensor> {
        self.0.views(requests)
    }

    /// [`ResidentTiles::views`] with each byte times `scale` plus `shift`, for red, green and blue.
    ///
    /// # Shapes
    ///
    /// - result: `dtype` `[n_requests, height, width, 3]`, on the device of the tiles
    ///
    /// # Errors
    ///
    /// As for [`ResidentTiles::views`], or if `dtype` is other than f32, bf16 and f16.
    pub fn normalized_views(
        &self,
        requests: &[ViewRequest],
        scale: [f32; 3],
        shift: [f32; 3],
        dtype: DType,
    ) -> Result<Tensor> {
        self.0.normalized_views(requests, scale, shift, dtype)
    }
}
