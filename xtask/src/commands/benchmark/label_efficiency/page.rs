//! What a finished benchmark leaves: the figures for programs, the tables for documents.

use std::path::{Path, PathBuf};

use anyhow::Result;
use s5cl_eval::Interval;
use s5cl_report::{BenchmarkPage, BenchmarkTable, Curve, CurveLine, CurvePoint, write_benchmark};
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

/// The page for people.
pub(super) fn report(out: &Path) -> PathBuf {
    out.join("report.html")
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

/// Writes `results.json`, `results.md` and `report.html`; the first comes last, as it says that all
/// is there.
pub(super) fn write(out: &Path, settings: &Settings, results: &Value, rows: &[Row]) -> Result<()> {
    write_atomic(&out.join("results.md"), table(settings, rows).markdown().as_bytes())?;
    write_benchmark(&page(settings, rows), &report(out))?;
    write_atomic(&path(out), &serde_json::to_vec_pretty(results)?)?;
    Ok(())
}

fn page(settings: &Settings, rows: &[Row]) -> BenchmarkPage {
    let data = settings.data.clone().unwrap_or_else(|| "the synthetic tissue set".to_owned());
    let (metric, seeds) = (settings.metric.name(), settings.seeds);
    let (header, cells) = table(settings, rows).cells();
    let mut lines: Vec<CurveLine> = Vec::new();
    for row in rows {
        let interval = row.result.interval.map(|Interval { low, high }| (low, high));
        let (labels_per_class, value) = (row.labels_per_class, row.result.mean);
        let point = CurvePoint { labels_per_class, value, interval };
        match lines.iter_mut().find(|line| line.name == row.method) {
            Some(line) => line.points.push(point),
            None => lines.push(CurveLine { name: row.method.clone(), points: vec![point] }),
        }
    }
    let rates: Vec<String> = settings.learning_rates.iter().map(f64::to_string).collect();
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![
        fact("data", data.clone()),
        fact("seeds", seeds.to_string()),
        fact("learning rates", rates.join(", ")),
        fact("machine", machine()),
    ];
    if !settings.set.is_empty() {
        facts.push(fact("settings", settings.set.join(", ")));
    }
    let curve = Curve {
        title: format!("Test {metric} by labels"),
        note: "Means over the seeds, with their 95 % intervals (Student's t)".to_owned(),
        lines,
        levels: Vec::new(),
    };
    let results = BenchmarkTable {
        title: "Results".to_owned(),
        note: "Every method has the same splits, views and steps, and the learning rate that was \
               best on validation with seed 0. Differences are paired over the seeds (Student's \
               t test)."
            .to_owned(),
        header,
        rows: cells,
    };
    BenchmarkPage {
        title: "Label efficiency".to_owned(),
        subtitle: data,
        warnings: Vec::new(),
        facts,
        curve: Some(curve),
        tables: vec![results],
    }
}
