//! What a finished benchmark leaves: the figures for programs, the tables for documents.

use std::path::{Path, PathBuf};

use anyhow::Result;
use s5cl_eval::{Interval, chance};
use s5cl_report::{
    BenchmarkPage, BenchmarkTable, Curve, CurveLevel, CurveLine, CurvePoint, write_benchmark,
};
use s5cl_trainer::write_atomic;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cells::Cells;
use super::metric::Metric;
use super::settings::Settings;
use super::summary::{MINUS, Row, table};
use crate::commands::benchmark::statistics::possible;
use crate::failure::BadInput;
use crate::system::machine;

/// Raised when the fields of `results.json` mean something else.
const SCHEMA: u64 = 1;

/// The part of `results.json` that a finished benchmark is shown again from.
#[derive(Deserialize)]
pub(super) struct Finished {
    settings: Settings,
    #[serde(flatten)]
    cells: Cells,
}

impl Finished {
    /// The cells of the benchmark that finished in this folder, if one did that had as many; fails
    /// where it had other settings.
    pub(super) fn read(out: &Path, settings: &Settings) -> Result<Option<Cells>> {
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
        if finished.settings == *settings {
            return Ok(Some(finished.cells));
        }
        if settings.extends(&finished.settings) {
            eprintln!("{} goes on with more cells", out.display());
            return Ok(None);
        }
        let what = "is of a benchmark with other settings, or with cells that are not asked for";
        Err(refused(what).into())
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
pub(super) fn results(settings: &Settings, cells: &Cells, summary: &[Row]) -> Result<Value> {
    Ok(json!({
        "schema": SCHEMA,
        "suite": super::SUITE,
        "machine": machine(),
        "settings": settings,
        "warnings": settings.warnings()?,
        "rows": cells.finished,
        "diverged": cells.diverged,
        "summary": summary,
    }))
}

/// Writes `results.json`, `results.md` and `report.html`; the first comes last, as it says that all
/// is there.
pub(super) fn write(
    out: &Path,
    settings: &Settings,
    cells: &Cells,
    rows: &[Row],
    results: &Value,
) -> Result<()> {
    write_atomic(&out.join("results.md"), table(settings, rows).markdown().as_bytes())?;
    write_benchmark(&page(settings, cells, rows)?, &report(out))?;
    write_atomic(&path(out), &serde_json::to_vec_pretty(results)?)?;
    Ok(())
}

fn page(settings: &Settings, cells: &Cells, rows: &[Row]) -> Result<BenchmarkPage> {
    let spec = settings.first_config()?.data.spec;
    let dataset = cells.finished.first().map_or(&spec, |cell| &cell.dataset).clone();
    let metric = settings.metric.name();
    let mut warnings = settings.warnings()?;
    warnings.extend(cells.diverged.iter().map(ToString::to_string));
    let rates: Vec<String> = settings.learning_rates.iter().map(f64::to_string).collect();
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![
        fact("data", spec),
        fact("seeds", settings.seeds.to_string()),
        fact("learning rates", rates.join(", ")),
        fact("machine", machine()),
    ];
    if !settings.set.is_empty() {
        facts.push(fact("settings", settings.set.join(", ")));
    }
    Ok(BenchmarkPage {
        title: format!("Label efficiency on {dataset}"),
        subtitle: format!("Test {metric} of {}", settings.methods.join(", ")),
        warnings,
        facts,
        curve: Some(curve(settings, cells, rows)),
        tables: tables(settings, rows).into(),
    })
}

/// The columns of the one table in two, which a page is wide enough for: the results, and the runs
/// and differences that they come from.
fn tables(settings: &Settings, rows: &[Row]) -> [BenchmarkTable; 2] {
    const NAMES: [&str; 2] = ["method", "labels"];
    const OF_RUNS: [&str; 3] = ["learning rate", "seeds", "seconds a run"];
    let (header, cells) = table(settings, rows).cells();
    let of_runs = |name: &str| OF_RUNS.contains(&name) || name.ends_with(MINUS);
    let part = |title: &str, note: &str, is_wanted: &dyn Fn(&str) -> bool| {
        let wanted = |row: &[String]| -> Vec<String> {
            let named = header.iter().zip(row);
            named.filter(|(name, _)| is_wanted(name)).map(|(_, cell)| cell.clone()).collect()
        };
        BenchmarkTable {
            title: title.to_owned(),
            note: note.to_owned(),
            header: wanted(&header),
            rows: cells.iter().map(|row| wanted(row)).collect(),
        }
    };
    [
        part(
            "Results",
            "Mean and standard deviation over the seeds, with the 95 % interval of the mean \
             (Student's t).",
            &|name| !of_runs(name),
        ),
        part(
            "Runs and differences",
            "Every method has the same splits, views and steps, and the learning rate that was \
             best on validation with seed 0. Differences are paired over the seeds (Student's t \
             test).",
            &|name| of_runs(name) || NAMES.contains(&name),
        ),
    ]
}

/// Every method, and what its paper found, by labels; chance where it is known.
fn curve(settings: &Settings, cells: &Cells, rows: &[Row]) -> Curve {
    let mut lines: Vec<CurveLine> = Vec::new();
    let mut add =
        |name: String, point: CurvePoint| match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(CurveLine { name, points: vec![point] }),
        };
    for row in rows {
        let interval = row.result.interval.map(possible).map(|Interval { low, high }| (low, high));
        let labels_per_class = row.labels_per_class;
        let point = CurvePoint { labels_per_class, value: row.result.mean, interval };
        add(row.method.clone(), point);
    }
    for row in rows {
        let Some(value) = row.published else { continue };
        let point = CurvePoint { labels_per_class: row.labels_per_class, value, interval: None };
        add(format!("{}, published", row.method), point);
    }
    let classes = cells.finished.first().filter(|_| settings.metric == Metric::BalancedAccuracy);
    let level = |value| CurveLevel { name: "chance".to_owned(), value };
    Curve {
        title: format!("Test {} by labels", settings.metric.name()),
        note: "Means over the seeds, with their 95 % intervals (Student's t)".to_owned(),
        lines,
        levels: classes.map(|cell| level(chance(cell.n_classes as usize))).into_iter().collect(),
    }
}
