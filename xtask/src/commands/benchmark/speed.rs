//! Speeds beside a peer's in the same run: what of a speed holds on another machine too.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::figure::{Figure, Kind};
use super::turns::{Side, in_turns};
use crate::system::machine;
use crate::table::Table;

/// Work and its speed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SpeedRow {
    pub(super) work: String,
    /// A second.
    pub(super) ours: f64,
    /// A second.
    pub(super) peer: f64,
    pub(super) unit: &'static str,
    pub(super) peer_name: String,
    /// Above 1 ours is faster.
    pub(super) ratio: f64,
}

/// Somebody who does work, and how much of it in one call.
pub(super) struct Worker<'a> {
    pub(super) name: &'static str,
    pub(super) side: Side<'a>,
    /// In the unit of the row.
    pub(super) per_call: usize,
}

/// Takes the first worker beside each of the others, all in turns: one row for each of those.
pub(super) fn beside(
    work: &str,
    unit: &'static str,
    workers: Vec<Worker<'_>>,
    turns: u32,
) -> Result<Vec<SpeedRow>> {
    let mut names = Vec::new();
    let mut sides = Vec::new();
    for Worker { name, side, per_call } in workers {
        names.push((name, per_call));
        sides.push(side);
    }
    let speeds: Vec<f64> = in_turns(&mut sides, turns)?
        .iter()
        .zip(&names)
        .map(|(timing, (_, per_call))| 1e3 * *per_call as f64 / timing.median)
        .collect();
    let (&ours, peers) = speeds.split_first().context("nobody works")?;
    let row = |(&peer, (name, _)): (&f64, &(&str, usize))| SpeedRow {
        work: work.to_owned(),
        ours,
        peer,
        unit,
        peer_name: (*name).to_owned(),
        ratio: ours / peer,
    };
    Ok(peers.iter().zip(&names[1..]).map(row).collect())
}

impl SpeedRow {
    /// For the gate: the ratio, never the speed.
    pub(super) fn figure(&self) -> Figure {
        let name = format!("{} over {}", self.work, self.peer_name);
        Figure { name, kind: Kind::Ratio, value: self.ratio }
    }
}

/// The rows for people.
pub(super) fn table(rows: &[SpeedRow]) -> Table {
    let mut table = Table::new(&["work", "ours", "peer", "unit", "ratio", "peer is"]);
    for row in rows {
        table.row(vec![
            row.work.clone(),
            format!("{:.0}", row.ours),
            format!("{:.0}", row.peer),
            row.unit.to_owned(),
            format!("{:.2}", row.ratio),
            row.peer_name.clone(),
        ]);
    }
    table
}

/// The rows for programs.
pub(super) fn results(suite: &str, rows: &[SpeedRow]) -> Value {
    json!({ "schema": 1, "suite": suite, "machine": machine(), "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::{Worker, beside};

    #[test]
    fn beside_divides_the_speeds_of_first_and_others() {
        let worker = |name: &'static str, seconds_a_call: f64, per_call: usize| Worker {
            name,
            side: Box::new(move |calls| Ok(seconds_a_call * f64::from(calls))),
            per_call,
        };
        let workers =
            vec![worker("ours", 0.5, 64), worker("slow", 1.0, 32), worker("fast", 0.25, 64)];
        let rows = beside("it", "views/s", workers, 3).unwrap();
        let found: Vec<(&str, f64, f64)> =
            rows.iter().map(|row| (row.peer_name.as_str(), row.ours, row.ratio)).collect();
        assert_eq!(found, [("slow", 128.0, 4.0), ("fast", 128.0, 0.5)]);
        assert_eq!(rows[0].figure().name, "it over slow");
    }
}
