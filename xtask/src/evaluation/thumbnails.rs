//! The pictures that the report shows, each once, in one sheet.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use s5cl_data::{Dataset, Loader, resize};
use serde::Serialize;

use super::sheet::{jpeg_base64, sheet};
use crate::tiles::unwrap_loader_error;

/// Longest side of a thumbnail in pixels: what is recognized at a glance.
const LARGEST_SIDE: u32 = 48;
/// Thumbnails in a row of the sheet.
const COLUMNS: usize = 40;

/// Collects the images that are shown, by where their thumbnail stands in the sheet.
#[derive(Default)]
pub(crate) struct Thumbnails {
    samples: Vec<usize>,
    positions: BTreeMap<usize, usize>,
}

/// All thumbnails in one picture; tile i is at column `i % columns` of row `i / columns`.
#[derive(Debug, Serialize)]
pub(crate) struct ThumbnailSheet {
    side: u32,
    columns: usize,
    n: usize,
    mime: &'static str,
    base64: String,
}

impl Thumbnails {
    /// The position of an image's thumbnail.
    pub(crate) fn position(&mut self, sample_idx: usize) -> usize {
        *self.positions.entry(sample_idx).or_insert_with(|| {
            self.samples.push(sample_idx);
            self.samples.len() - 1
        })
    }

    /// Reads the images, whose side is `size` pixels, and draws the sheet.
    pub(crate) fn draw(
        self,
        dataset: &Arc<Dataset>,
        size: u32,
        workers: usize,
    ) -> Result<ThumbnailSheet> {
        let side = size.min(LARGEST_SIDE);
        let (reader, samples) = (dataset.clone(), self.samples);
        let n = samples.len();
        let tiles = Loader::new(0..n as u64, workers, 64, move |i| {
            resize(&reader.tile(samples[i as usize])?, side)
        });
        let tiles: Vec<_> = tiles.collect::<Result<_, _>>().map_err(unwrap_loader_error)?;
        let base64 = jpeg_base64(&sheet(&tiles, COLUMNS, 0))?;
        Ok(ThumbnailSheet { side, columns: COLUMNS, n, mime: "image/jpeg", base64 })
    }
}
