//! PyTorch and pytorch-metric-learning, in a Python process that is asked line by line.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::utils::get_num_threads;
use serde_json::{Map, Value, json};

use super::rows::Work;
use crate::commands::benchmark::python::Python;

/// How the peer holds its maps in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    ChannelsLast,
    Default,
}

impl Layout {
    fn name(self) -> &'static str {
        match self {
            Self::ChannelsLast => "channels_last",
            Self::Default => "default",
        }
    }
}

/// A Python process with the peers' packages; it ends with this value.
pub(super) struct Peer {
    python: Python,
    /// Of Python and the packages.
    pub(super) versions: Map<String, Value>,
}

impl Peer {
    /// Starts one, with as many threads as are used here.
    pub(super) fn start(path: &Path) -> Result<Self> {
        let threads = get_num_threads();
        let mut python = Python::start(path, "benches/peers.py", threads)?;
        let hello = json!({ "ask": "hello", "threads": threads });
        let hello = python.greet(path, &hello, "torch torchvision timm pytorch-metric-learning")?;
        let versions = hello["versions"].as_object().cloned().unwrap_or_default();
        Ok(Self { python, versions })
    }

    /// Makes the weights and inputs of a row, beside those that it has.
    pub(super) fn prepare(&mut self, work: Work, layout: Layout) -> Result<()> {
        let question = json!({ "ask": "prepare", "layout": layout.name(), "work": work });
        self.python.ask(&question).map(drop)
    }

    /// Lets go of everything that was prepared.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.python.ask(&json!({ "ask": "forget" })).map(drop)
    }

    /// Seconds that a number of calls take.
    pub(super) fn run(&mut self, layout: Layout, calls: u32) -> Result<f64> {
        let answer =
            self.python.ask(&json!({ "ask": "run", "layout": layout.name(), "calls": calls }))?;
        answer["seconds"].as_f64().context("the peer says no time")
    }

    /// Peak of memory over a few calls in MiB, above what is there before them.
    pub(super) fn memory(&mut self, layout: Layout, calls: u32) -> Result<Option<f64>> {
        let question = json!({ "ask": "memory", "layout": layout.name(), "calls": calls });
        Ok(self.python.ask(&question)?["mib"].as_f64())
    }
}
