//! PyTorch on the same device, in a process that is asked line by line.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::outcome::{PeerTime, Peers};
use crate::commands::benchmark::python::Python;

/// What the peers need.
const PACKAGES: &str = "torch torchvision triton pytorch-metric-learning numpy pillow";

/// The peers; the process ends with this value.
pub(super) struct Peer {
    python: Python,
    /// What it says of itself: versions, device, sides.
    pub(super) hello: Value,
}

impl Peer {
    /// Starts them on a GPU, or on the processor.
    pub(super) fn start(path: &Path, is_cuda: bool) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut python = Python::start(path, "benches/gpu_peers", threads)?;
        let device = if is_cuda { "cuda" } else { "cpu" };
        let hello = json!({ "ask": "hello", "device": device, "threads": threads });
        let hello = python.greet(path, &hello, PACKAGES)?;
        Ok(Self { python, hello })
    }

    /// The median time of a call of each side; a side that fails, as for want of memory, has none.
    pub(super) fn medians(&mut self, peers: &Peers<'_>, runs: u32) -> Result<Vec<PeerTime>> {
        let mut times = Vec::new();
        for &(side, target) in peers.sides {
            let name = side.to_owned();
            match self.median(&peers.work, side, runs) {
                Ok((milliseconds, memory_mib)) => times.push(PeerTime {
                    name,
                    milliseconds: Some(milliseconds),
                    memory_mib,
                    target,
                }),
                Err(error) => {
                    eprintln!("{name}: {error:#}");
                    times.push(PeerTime { name, milliseconds: None, memory_mib: None, target });
                }
            }
            self.python.ask(&json!({ "ask": "forget" }))?;
        }
        Ok(times)
    }

    fn median(&mut self, work: &Value, side: &str, runs: u32) -> Result<(f64, Option<f64>)> {
        self.python.ask(&json!({ "ask": "prepare", "work": work, "side": side }))?;
        let run = json!({ "ask": "run", "side": side, "repetitions": 4 * runs });
        let answer = self.python.ask(&run)?;
        // The better of both ways to start the work, where there are both.
        let times = ["milliseconds", "graph_milliseconds"].map(|key| median(&answer[key]));
        let best = times.into_iter().flatten().min_by(f64::total_cmp);
        let memory = self.python.ask(&json!({ "ask": "memory", "side": side, "calls": 2 }))?;
        Ok((best.context("the peer says no time")?, memory["mib"].as_f64()))
    }
}

fn median(times: &Value) -> Option<f64> {
    let mut times: Vec<f64> = times.as_array()?.iter().filter_map(Value::as_f64).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::median;

    #[test]
    fn median_is_the_middle_of_what_was_told() {
        assert_eq!(median(&json!([3.0, 1.0, 2.0])), Some(2.0));
        assert_eq!(median(&json!(null)), None);
        assert_eq!(median(&json!([])), None);
    }
}
