//! Tiles of any size, scaled to one.

use std::sync::Arc;

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};

use crate::{DataError, Tiles};

/// Scales a tile to `size_pixels` by `size_pixels`.
///
/// Bilinear, with the filter widened by the scale when shrinking (as Pillow does), so that
/// nothing aliases. The whole tile is kept: one that is not square is squeezed, not cropped.
///
/// # Errors
///
/// If either size is zero.
pub fn resize(tile: &RgbImage, size_pixels: u32) -> Result<RgbImage, DataError> {
    let (width, height) = tile.dimensions();
    if width.min(height).min(size_pixels) == 0 {
        return Err(DataError::CannotResize { width, height, size_pixels });
    }
    // Not generic over the pixels: the scaling stays compiled where it is.
    let tile = DynamicImage::from(tile.clone());
    Ok(tile.resize_exact(size_pixels, size_pixels, FilterType::Triangle).into_rgb8())
}

/// Tiles that are scaled as they are read.
pub(crate) struct Resized {
    pub(crate) tiles: Arc<dyn Tiles>,
    pub(crate) size_pixels: u32,
}

impl Tiles for Resized {
    fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
        let tile = self.tiles.tile(sample_idx)?;
        if tile.dimensions() == (self.size_pixels, self.size_pixels) {
            return Ok(tile);
        }
        resize(&tile, self.size_pixels)
    }

    fn size(&self, _: usize) -> Result<(u32, u32), DataError> {
        Ok((self.size_pixels, self.size_pixels))
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::resize;

    #[test]
    fn resize_keeps_a_flat_tile_flat() {
        let flat = RgbImage::from_pixel(37, 19, Rgb([200, 100, 7]));
        let scaled = resize(&flat, 16).unwrap();
        assert_eq!(scaled, RgbImage::from_pixel(16, 16, Rgb([200, 100, 7])));
    }

    #[test]
    fn resize_averages_when_it_shrinks() {
        // A fine checkerboard has to become gray: without a widened filter it would alias.
        let board = RgbImage::from_fn(64, 64, |x, y| Rgb([255 * ((x + y) % 2) as u8; 3]));
        let gray = resize(&board, 8).unwrap();
        assert!(gray.pixels().all(|pixel| pixel[0].abs_diff(128) <= 2), "{gray:?}");
    }

    #[test]
    fn resize_refuses_zero_pixels() {
        let message = resize(&RgbImage::new(4, 4), 0).unwrap_err().to_string();
        assert!(message.contains("4x4 px") && message.contains("0 px"), "{message}");
        assert!(resize(&RgbImage::new(0, 4), 4).is_err());
    }
}
