//! `benchmark --quick`: a little of every suite in one go, for CI.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use s5cl_trainer::write_atomic;
use serde_json::{Map, Value, json};

use super::figure::Figure;
use super::gate::{Gate, require_place};
use super::speed::SpeedRow;
use super::{data, kernels, label_efficiency, train_speed};
use crate::failure::{Abandoned, Interrupted};
use crate::system::{machine, stop_on_signal};

/// The name of the suite.
const SUITE: &str = "quick";

/// Runs a few cells and rows of every suite; `out` gets all of it as JSON.
pub(super) fn run(gate: &Gate, out: Option<&Path>, prints_json: bool) -> Result<()> {
    if let Some(out) = out {
        require_place("--out", out)?;
    }
    let gate = gate.open(SUITE, measured()?)?;
    let should_stop = stop_on_signal()?;
    let (mut parts, mut figures) = (Map::new(), Vec::new());
    let mut timed = |name: &str, part: &mut dyn FnMut() -> Result<(Value, Vec<Figure>)>| {
        if should_stop() {
            return Err(Abandoned.into());
        }
        let started = Instant::now();
        let (value, found) = gate.steady(&mut *part)?;
        let seconds = started.elapsed().as_secs_f64();
        eprintln!("{name}: {seconds:.0} s");
        parts.insert(name.to_owned(), json!({ "seconds": seconds, "results": value }));
        figures.extend(found);
        anyhow::Ok(())
    };
    timed("kernels", &mut kernels::quick)?;
    timed("data", &mut || Ok(speeds(&data::quick()?)))?;
    timed("train-speed", &mut || Ok(speeds(&train_speed::quick()?)))?;
    timed(label_efficiency::SUITE, &mut || {
        let folder = tempfile::tempdir()?;
        let outcome = label_efficiency::quick(folder.path(), &should_stop).map_err(|error| {
            // Its folder goes away with everything in it.
            if error.is::<Interrupted>() { Abandoned.into() } else { error }
        })?;
        println!("\n{}", outcome.table.text());
        Ok((outcome.results, outcome.figures))
    })?;
    for figure in &figures {
        println!("{}: {:.3}", figure.name, figure.value);
    }
    let rows: Vec<Value> = figures
        .iter()
        .map(|figure| json!({ "work": figure.name, "value": figure.value }))
        .collect();
    let all =
        json!({ "schema": 1, "suite": SUITE, "machine": machine(), "rows": rows, "parts": parts });
    if let Some(out) = out {
        write_atomic(out, &serde_json::to_vec_pretty(&all)?)?;
        println!("results  {}", out.display());
    }
    if prints_json {
        println!("{all}");
    }
    gate.judge(&figures)
}

/// Checks what is in the repository against a baseline in it.
pub(crate) fn check(baseline: &Path) -> Result<()> {
    run(&Gate::check(baseline), None, false)
}

/// What every part is of, for the gate.
fn measured() -> Result<Value> {
    Ok(json!({
        "kernels": kernels::quick_measured()?,
        "data": data::measured(),
        "train-speed": train_speed::measured()?,
        label_efficiency::SUITE: label_efficiency::quick_measured()?,
    }))
}

fn speeds(rows: &[SpeedRow]) -> (Value, Vec<Figure>) {
    for row in rows {
        eprintln!(
            "{}: {:.0} {}, {} {:.0} ({:.2}x)",
            row.work, row.ours, row.unit, row.peer_name, row.peer, row.ratio
        );
    }
    (json!(rows), rows.iter().map(SpeedRow::figure).collect())
}
