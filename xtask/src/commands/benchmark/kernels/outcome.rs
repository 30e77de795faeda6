//! The rows as a table for people and as JSON for programs.

use serde_json::{Map, Value, json};

use super::rows::Row;
use crate::commands::benchmark::figure::{Figure, Kind};
use crate::commands::benchmark::turns::Timing;
use crate::system::{machine, workspace_root};
use crate::table::Table;

/// What was measured of one row.
pub(super) struct Measured {
    pub(super) row: Row,
    pub(super) ours: Timing,
    pub(super) pytorch: Option<Timing>,
    pub(super) pytorch_default_layout: Option<Timing>,
    pub(super) plain_candle: Option<Timing>,
    /// That ours is the same work as plain candle's.
    pub(super) agreement: Option<Figure>,
    /// MiB.
    pub(super) our_memory: Option<f64>,
    /// MiB.
    pub(super) pytorch_memory: Option<f64>,
}

impl Measured {
    /// Above 1 ours is faster.
    pub(super) fn ratio(&self, peer: Option<Timing>) -> Option<f64> {
        peer.map(|peer| peer.median / self.ours.median)
    }

    /// All medians as one line.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{}: {:.2} ms", self.row.name, self.ours.median);
        for (name, timing) in self.peers() {
            if let (Some(peer), Some(ratio)) = (timing, self.ratio(timing)) {
                line += &format!(", {name} {:.2} ms ({ratio:.2}x)", peer.median);
            }
        }
        line
    }

    /// The ratios to every peer and the agreement, for the gate.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let of = |(peer, timing): (&str, Option<Timing>)| {
            let value = self.ratio(timing)?;
            let name = format!("{} over {peer}", self.row.name);
            Some(Figure { name, kind: Kind::Ratio, value })
        };
        self.peers().into_iter().filter_map(of).chain(self.agreement.clone()).collect()
    }

    fn peers(&self) -> [(&'static str, Option<Timing>); 3] {
        [
            ("PyTorch", self.pytorch),
            ("PyTorch, default layout", self.pytorch_default_layout),
            ("plain candle", self.plain_candle),
        ]
    }

    pub(super) fn json(&self) -> Value {
        let side = |timing: Option<Timing>| {
            timing.map(|timing| {
                let Timing { median, min, max } = timing;
                let ratio = self.ratio(Some(timing));
                json!({ "median": median, "min": min, "max": max, "ratio": ratio })
            })
        };
        let ratio = self.ratio(self.pytorch);
        json!({
            "work": self.row.name,
            "what": self.row.work,
            "unit": "ms",
            "ours": self.ours.median,
            "peer": self.pytorch.map(|peer| peer.median),
            "peer_name": self.pytorch.map(|_| self.row.work.peer_name()),
            "ratio": ratio,
            "target": self.row.target,
            "met": ratio.zip(self.row.target).map(|(ratio, target)| ratio >= target),
            "times": {
                "ours": self.ours,
                "pytorch": side(self.pytorch),
                "pytorch_default_layout": side(self.pytorch_default_layout),
                "plain_candle": side(self.plain_candle),
            },
            "agreement": self.agreement.as_ref().map(|figure| figure.value),
            "peak_memory_mib": { "ours": self.our_memory, "pytorch": self.pytorch_memory },
        })
    }
}

/// One object with everything; `load` is the machine's before and after.
pub(super) fn json(
    rows: &[Measured],
    turns: u32,
    load: [Option<f64>; 2],
    peers: Map<String, Value>,
) -> Value {
    let mut versions = peers;
    versions.insert("s5cl".into(), env!("CARGO_PKG_VERSION").into());
    versions.extend(locked_version("candle-core").map(|v| ("candle".to_owned(), v)));
    json!({
        "schema": 1,
        "suite": "kernels",
        "machine": machine(),
        "threads": candle_core::utils::get_num_threads(),
        "versions": versions,
        "load": { "before": load[0], "after": load[1] },
        "runs": turns,
        "rows": rows.iter().map(Measured::json).collect::<Vec<_>>(),
    })
}

/// The version that the checkout's lock file names.
fn locked_version(package: &str) -> Option<Value> {
    let text = std::fs::read_to_string(workspace_root().join("Cargo.lock")).ok()?;
    let lock: toml::Table = text.parse().ok()?;
    let packages = lock.get("package")?.as_array()?;
    let found = packages.iter().find(|entry| entry["name"].as_str() == Some(package))?;
    Some(found.get("version")?.as_str()?.into())
}

/// Milliseconds, and the ratios behind each peer that has any.
pub(super) fn table(rows: &[Measured]) -> Table {
    let columns: Vec<usize> = (0..3)
        .filter(|&column| rows.iter().any(|measured| measured.peers()[column].1.is_some()))
        .collect();
    let has_memory = rows.iter().any(|row| row.row.work.has_memory());
    let has_peer_memory = has_memory && rows.iter().any(|row| row.pytorch.is_some());
    let mut header = vec!["row", "ours ms"];
    for &column in &columns {
        header.push(["PyTorch ms", "default layout ms", "plain candle ms"][column]);
        header.push("ratio");
    }
    header.extend(has_memory.then_some("ours MiB"));
    header.extend(has_peer_memory.then_some("PyTorch MiB"));
    let mut table = Table::new(&header);
    for measured in rows {
        let mut cells = vec![measured.row.name.clone(), number(Some(measured.ours.median))];
        for &column in &columns {
            let timing = measured.peers()[column].1;
            cells.push(number(timing.map(|timing| timing.median)));
            cells.push(measured.ratio(timing).map_or_else(|| "-".into(), |r| format!("{r:.2}")));
        }
        cells.extend(has_memory.then(|| number(measured.our_memory)));
        cells.extend(has_peer_memory.then(|| number(measured.pytorch_memory)));
        table.row(cells);
    }
    table
}

/// Three digits, or `-` for what there is not.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::rows;
    use super::{Measured, json, table};
    use crate::commands::benchmark::turns::Timing;

    fn measured(pytorch: Option<f64>) -> Measured {
        let timing = |median: f64| Timing { median, min: median / 2.0, max: median * 2.0 };
        Measured {
            row: rows().swap_remove(0),
            ours: timing(5.0),
            pytorch: pytorch.map(timing),
            pytorch_default_layout: None,
            plain_candle: Some(timing(10.0)),
            agreement: None,
            our_memory: Some(12.25),
            pytorch_memory: None,
        }
    }

    #[test]
    fn table_has_the_columns_that_were_measured() {
        let text = table(&[measured(Some(20.0))]).text();
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["supcon-320", "5.00", "20.0", "4.00", "10.0", "2.00", "12.2", "-"]);
        assert!(!text.contains("default layout"));
        assert!(!table(&[measured(None)]).text().contains("PyTorch"));
    }

    #[test]
    fn json_says_ratio_and_whether_the_target_is_met() {
        let value =
            json(&[measured(Some(20.0)), measured(None)], 7, [None; 2], serde_json::Map::new());
        let (with, without) = (&value["rows"][0], &value["rows"][1]);
        assert_eq!(with["ratio"], 4.0);
        assert_eq!(with["met"], true);
        assert_eq!(with["times"]["plain_candle"]["ratio"], 2.0);
        assert_eq!(with["times"]["ours"]["min"], 2.5);
        assert!(without["ratio"].is_null() && without["peer"].is_null());
        assert!(without["met"].is_null());
    }
}
