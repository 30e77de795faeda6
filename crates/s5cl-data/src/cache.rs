//! Decoded tiles that stay in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use image::RgbImage;

use crate::{DataError, Tiles};

/// Tiles that are kept once they were asked for, until the bytes are used up.
///
/// What a caller gets never depends on whether it was kept.
pub(crate) struct Cached {
    tiles: Arc<dyn Tiles>,
    kept: Vec<OnceLock<RgbImage>>,
    bytes_left: AtomicUsize,
}

impl Cached {
    pub(crate) fn new(tiles: Arc<dyn Tiles>, n_samples: usize, max_bytes: usize) -> Self {
        let kept = (0..n_samples).map(|_| OnceLock::new()).collect();
        Self { tiles, kept, bytes_left: AtomicUsize::new(max_bytes) }
    }

    fn reserve(&self, bytes: usize) -> bool {
        self.bytes_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }

    fn keep(&self, slot: &OnceLock<RgbImage>, tile: &RgbImage) {
        let bytes = tile.as_raw().len();
        if self.reserve(bytes) && slot.set(tile.clone()).is_err() {
            // Another thread was faster: its tile is kept, these bytes are free again.
            self.bytes_left.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Tiles for Cached {
    fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
        let slot = self.kept.get(sample_idx);
        if let Some(tile) = slot.and_then(OnceLock::get) {
            return Ok(tile.clone());
        }
        let tile = self.tiles.tile(sample_idx)?;
        if let Some(slot) = slot {
            self.keep(slot, &tile);
        }
        Ok(tile)
    }

    fn size(&self, sample_idx: usize) -> Result<(u32, u32), DataError> {
        match self.kept.get(sample_idx).and_then(OnceLock::get) {
            Some(tile) => Ok(tile.dimensions()),
            None => self.tiles.size(sample_idx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tiles of 12 bytes that count how often they are drawn.
    struct Counting(AtomicUsize);

    impl Tiles for Counting {
        fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(RgbImage::from_pixel(2, 2, image::Rgb([sample_idx as u8; 3])))
        }
    }

    #[test]
    fn cached_draws_once_what_fits_and_changes_no_tile() {
        let counting = Arc::new(Counting(AtomicUsize::new(0)));
        let cached = Cached::new(counting.clone(), 3, 2 * 12);
        for _ in 0..4 {
            for sample_idx in 0..3 {
                let direct = RgbImage::from_pixel(2, 2, image::Rgb([sample_idx as u8; 3]));
                assert_eq!(cached.tile(sample_idx).unwrap(), direct);
            }
        }
        // Two fit and are drawn once each; the third is drawn each time.
        assert_eq!(counting.0.load(Ordering::Relaxed), 2 + 4);
        assert_eq!(cached.size(0).unwrap(), (2, 2));
        assert_eq!(counting.0.load(Ordering::Relaxed), 2 + 4);
    }
}
