//! What the suite measured, as a table and as JSON.

use serde_json::{Value, json};

use super::checks::Check;
use crate::table::Table;

/// Milliseconds below which no version of SupCon of rows of 128 numbers runs on an H200: 4.5 n^2 128
/// products at 790 TFLOP/s, and the powers.
const FLOORS: [(&str, f64); 3] =
    [("supcon-4096", 0.0136), ("supcon-16384", 0.217), ("supcon-65536", 3.48)];

/// Who is compared with, and what they do.
pub(super) struct Peers<'a> {
    pub(super) work: Value,
    /// By name, and by how much ours is to be faster.
    pub(super) sides: &'a [(&'a str, Option<f64>)],
}

/// The time of a peer.
pub(super) struct PeerTime {
    pub(super) name: String,
    pub(super) milliseconds: Option<f64>,
    pub(super) memory_mib: Option<f64>,
    pub(super) target: Option<f64>,
}

/// One work.
pub(super) struct Row {
    name: String,
    milliseconds: f64,
    memory_mib: Option<f64>,
    peers: Vec<PeerTime>,
}

impl Row {
    pub(super) fn new(
        name: &str,
        milliseconds: f64,
        memory_mib: Option<f64>,
        peers: Vec<PeerTime>,
    ) -> Self {
        Self { name: name.to_owned(), milliseconds, memory_mib, peers }
    }

    fn floor(&self) -> Option<f64> {
        FLOORS.iter().find(|(name, _)| *name == self.name).map(|(_, floor)| *floor)
    }

    pub(super) fn line(&self) -> String {
        let mut line = format!("{}: {:.3} ms", self.name, self.milliseconds);
        for peer in &self.peers {
            line += &match peer.milliseconds {
                Some(ms) => format!(", {} {ms:.3} ms ({:.1}x)", peer.name, ms / self.milliseconds),
                None => format!(", {} failed", peer.name),
            };
        }
        line
    }

    /// One object for each peer, or one without any.
    fn json(&self) -> Vec<Value> {
        let floor = self.floor();
        let ours = json!({
            "work": self.name, "ours": self.milliseconds, "unit": "ms",
            "memory_mib": self.memory_mib, "floor": floor,
            "floor_share": floor.map(|floor| floor / self.milliseconds),
        });
        let beside = |peer: Option<&PeerTime>| {
            let mut row = ours.clone();
            let time = peer.and_then(|peer| peer.milliseconds);
            let ratio = time.map(|time| time / self.milliseconds);
            let target = peer.and_then(|peer| peer.target);
            row["peer"] = json!(time);
            row["peer_name"] = json!(peer.map(|peer| &peer.name));
            row["peer_memory_mib"] = json!(peer.and_then(|peer| peer.memory_mib));
            row["ratio"] = json!(ratio);
            row["target"] = json!(target);
            row["met"] = json!(ratio.zip(target).map(|(ratio, target)| ratio >= target));
            row
        };
        match self.peers.as_slice() {
            [] => vec![beside(None)],
            peers => peers.iter().map(|peer| beside(Some(peer))).collect(),
        }
    }
}

/// Everything as one object.
pub(super) fn report(
    device: &str,
    machine: &str,
    checks: &[Check],
    rows: &[Row],
    peers: Value,
) -> Value {
    let checks = checks.iter().map(|check| {
        json!({
            "name": check.name, "error": check.error, "tolerance": check.tolerance,
            "good": check.is_good(),
        })
    });
    json!({
        "schema": 1, "suite": "gpu", "device": device, "machine": machine, "peers": peers,
        "checks": checks.collect::<Vec<Value>>(),
        "rows": rows.iter().flat_map(Row::json).collect::<Vec<Value>>(),
    })
}

/// Works by peer, for people.
pub(super) fn table(rows: &[Row]) -> Table {
    let header = ["work", "ms", "MiB", "of the floor", "peer", "its ms", "times faster", "target"];
    let mut table = Table::new(&header);
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    for row in rows {
        let share = row.floor().map(|floor| floor / row.milliseconds);
        let ours = [
            row.name.clone(),
            format!("{:.3}", row.milliseconds),
            number(row.memory_mib, 1),
            number(share, 2),
        ];
        if row.peers.is_empty() {
            table.row(ours.to_vec());
        }
        for (index, peer) in row.peers.iter().enumerate() {
            let mut cells = if index == 0 { ours.to_vec() } else { vec![String::new(); 4] };
            cells.push(peer.name.clone());
            cells.push(number(peer.milliseconds, 3));
            cells.push(number(peer.milliseconds.map(|ms| ms / row.milliseconds), 1));
            cells.push(number(peer.target, 1));
            table.row(cells);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{PeerTime, Row, report, table};

    fn row() -> Row {
        let peer = |name: &str, milliseconds, target| PeerTime {
            name: name.to_owned(),
            milliseconds,
            memory_mib: None,
            target,
        };
        let peers = vec![peer("dense", Some(4.0), Some(10.0)), peer("pml", None, None)];
        Row::new("supcon-16384", 0.5, Some(8.0), peers)
    }

    #[test]
    fn report_has_a_row_for_each_peer_with_ratio_and_target() {
        let report = report("cuda:0", "8 x CPU", &[], &[row()], json!({}));
        let rows = report["rows"].as_array().unwrap();
        assert_eq!((rows[0]["ratio"].as_f64(), &rows[0]["met"]), (Some(8.0), &json!(false)));
        assert_eq!((&rows[1]["peer"], &rows[1]["met"]), (&json!(null), &json!(null)));
        assert_eq!(rows[0]["floor_share"], 0.434);
    }

    #[test]
    fn table_shows_ours_once() {
        let text = table(&[row()]).text();
        assert_eq!(text.matches("supcon-16384").count(), 1);
        assert!(text.contains("0.43") && text.contains("dense") && text.contains("8.0"), "{text}");
    }
}
