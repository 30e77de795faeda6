//! What a finished benchmark leaves: the figures for programs, the tables for documents.

use std::path::{Path, PathBuf};

use anyhow::Result;
use s5cl_trainer::write_atomic;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cells::Cell;
use super::settings::Settings;
use super::summary::{Row, table};
use crate::failure::BadInput;
use crate::system::machine;

/// Raised when the fields of `results.json` mean something else.
const SCHEMA: u64 = 1;

/// The part of `results.json` that a finished benchmark is shown again from.
#[derive(Deserialize)]
pub(super) struct Finished {
    settings: Settings,
    rows: Vec<Cell>,
}

impl Finished {
    /// The cells of the benchmark that finished in this folder, if one did; fails where it had
    /// other settings.
    pub(super) fn read(out: &Path, settings: &Settings) -> Result<Option<Vec<Cell>>> {
        let path = path(out);
        let Ok(bytes) = std::fs::read(&path) else { return Ok(None) };
        let refused =
            |what: &str| BadInput::new(format!("{} {what}: give another --out", path.display()));
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|e| refused(&format!("is damaged ({e})")))?;
        if value["schema"].as_u64() != Some(SCHEMA) {
            return Err(refused("is of another schema").into());
        }
        let finished: Self =
            serde_json::from_value(value).map_err(|e| refused(&format!("is damaged ({e})")))?;
        if finished.settings != *settings {
            return Err(refused("is of a benchmark with other settings").into());
        }
        Ok(Some(finished.rows))
    }
}

/// Where the figures are.
pub(super) fn path(out: &Path) -> PathBuf {
    out.join("results.json")
}

/// All figures: the settings, a row a run, and a row a method and number of labels.
pub(super) fn results(settings: &Settings, cells: &[Cell], summary: &[Row]) -> Value {
    json!({
        "schema": SCHEMA,
        "suite": super::SUITE,
        "machine": machine(),
        "settings": settings,
        "rows": cells,
        "summary": summary,
    })
}

/// Writes `results.json` and `results.md`; the first comes last, as it says that all is there.
pub(super) fn write(out: &Path, settings: &Settings, results: &Value, rows: &[Row]) -> Result<()> {
    write_atomic(&out.join("results.md"), table(settings, rows).markdown().as_bytes())?;
    write_atomic(&path(out), &serde_json::to_vec_pretty(results)?)?;
    Ok(())
}
