//! The pixels of one batch, in one piece.

use image::RgbImage;

use crate::DataError;

/// Tiles of one size behind each other.
///
/// # Shapes
///
/// `pixels` is u8 `[n, height, width, 3]` in 0..=255, red first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileBatch {
    /// All pixels.
    pub pixels: Vec<u8>,
    /// Height of every tile in pixels.
    pub height: u32,
    /// Width of every tile in pixels.
    pub width: u32,
}

impl TileBatch {
    /// An empty batch with room for `n` tiles.
    #[must_use]
    pub fn with_capacity(n: usize, height: u32, width: u32) -> Self {
        let bytes = n * height as usize * width as usize * 3;
        Self { pixels: Vec::with_capacity(bytes), height, width }
    }

    /// Adds a tile behind the others.
    ///
    /// # Errors
    ///
    /// If the tile has another size than the batch.
    pub fn push(&mut self, tile: &RgbImage) -> Result<(), DataError> {
        let (width, height) = tile.dimensions();
        if (width, height) != (self.width, self.height) {
            let (batch_width, batch_height) = (self.width, self.height);
            return Err(DataError::TileSize { width, height, batch_width, batch_height });
        }
        self.pixels.extend_from_slice(tile.as_raw());
        Ok(())
    }

    /// The number of tiles.
    #[must_use]
    pub fn n(&self) -> usize {
        let tile_bytes = self.height as usize * self.width as usize * 3;
        self.pixels.len().checked_div(tile_bytes).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::TileBatch;

    #[test]
    fn tile_batch_holds_rows_of_pixels_behind_each_other() {
        let mut batch = TileBatch::with_capacity(2, 2, 3);
        let tile = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 9]));
        batch.push(&tile).unwrap();
        batch.push(&RgbImage::new(3, 2)).unwrap();
        assert_eq!(batch.n(), 2);
        // NHWC: the byte of (n=0, y=1, x=2, c=0).
        assert_eq!(batch.pixels[(3 + 2) * 3..][..3], [2, 1, 9]);
        assert_eq!(batch.pixels.len(), 2 * 2 * 3 * 3);
    }

    #[test]
    fn tile_batch_refuses_another_size() {
        let mut batch = TileBatch::with_capacity(1, 2, 3);
        let message = batch.push(&RgbImage::new(2, 3)).unwrap_err().to_string();
        assert!(message.contains("2x3 px in a batch of 3x2 px"), "{message}");
        assert_eq!(batch.n(), 0);
    }
}
