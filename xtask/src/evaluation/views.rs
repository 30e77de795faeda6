//! The views that a run trains on, as one picture.

use anyhow::Result;
use serde::Serialize;

use super::sheet::{jpeg_base64, sheet};
use crate::batches::BatchMaker;

/// Images that are shown.
const COLUMNS: usize = 8;
/// Pixels between views.
const GAP: u32 = 2;

/// One row a kind of view.
#[derive(Debug, Serialize)]
pub(crate) struct Views {
    mime: &'static str,
    base64: String,
    rows: [&'static str; 3],
    columns: usize,
}

impl Views {
    /// Draws the first images of the run's first step.
    pub(crate) fn new(maker: &BatchMaker) -> Result<Self> {
        let rows = maker.example_views(COLUMNS)?;
        let columns = rows[0].len();
        let base64 = jpeg_base64(&sheet(&rows.concat(), columns, GAP))?;
        Ok(Self { mime: "image/jpeg", base64, rows: ["original", "weak", "strong"], columns })
    }
}
