//! PyTorch and pytorch-metric-learning, in a Python process that is asked line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use candle_core::utils::get_num_threads;
use serde_json::{Map, Value, json};

use super::rows::Work;
use crate::failure::BadInput;
use crate::system::workspace_root;

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
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Of Python and the packages.
    pub(super) versions: Map<String, Value>,
}

impl Peer {
    /// Starts one, with as many threads as are used here.
    pub(super) fn start(python: &Path) -> Result<Self> {
        let script = workspace_root().join("benches/peers.py");
        if !script.is_file() {
            let message = format!("{} does not exist: run this in a checkout", script.display());
            return Err(BadInput::new(message).into());
        }
        let threads = get_num_threads();
        let mut command = Command::new(python);
        command.arg(script).env("OMP_NUM_THREADS", threads.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let shown = python.display();
        let mut process = command.spawn().map_err(|error| {
            BadInput::new(format!("--vs-pytorch: cannot start {shown}: {error}"))
        })?;
        let pipes = (process.stdin.take(), process.stdout.take());
        let (Some(questions), Some(answers)) = pipes else { bail!("{shown} has no pipes") };
        let mut peer =
            Self { process, questions, answers: BufReader::new(answers), versions: Map::new() };
        let hello = peer.ask(&json!({ "ask": "hello", "threads": threads })).map_err(|error| {
            BadInput::new(format!("--vs-pytorch: {shown} does not run the peers: {error}"))
        })?;
        if let Some(missing) = hello["missing"].as_array().filter(|missing| !missing.is_empty()) {
            let missing: Vec<&str> = missing.iter().filter_map(Value::as_str).collect();
            let message = format!(
                "--vs-pytorch: {shown} has no {}; install: \
                 {shown} -m pip install torch torchvision pytorch-metric-learning",
                missing.join(", ")
            );
            return Err(BadInput::new(message).into());
        }
        peer.versions = hello["versions"].as_object().cloned().unwrap_or_default();
        Ok(peer)
    }

    /// Makes the weights and inputs of a row, beside those that it has.
    pub(super) fn prepare(&mut self, work: Work, layout: Layout) -> Result<()> {
        let question = json!({ "ask": "prepare", "layout": layout.name(), "work": work });
        self.ask(&question).map(drop)
    }

    /// Lets go of everything that was prepared.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.ask(&json!({ "ask": "forget" })).map(drop)
    }

    /// Seconds that a number of calls take.
    pub(super) fn run(&mut self, layout: Layout, calls: u32) -> Result<f64> {
        let answer = self.ask(&json!({ "ask": "run", "layout": layout.name(), "calls": calls }))?;
        answer["seconds"].as_f64().context("the peer says no time")
    }

    /// Peak of memory over a few calls in MiB, above what is there before them.
    pub(super) fn memory(&mut self, layout: Layout, calls: u32) -> Result<Option<f64>> {
        let question = json!({ "ask": "memory", "layout": layout.name(), "calls": calls });
        Ok(self.ask(&question)?["mib"].as_f64())
    }

    fn ask(&mut self, question: &Value) -> Result<Value> {
        writeln!(self.questions, "{question}").context("the peer has ended")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the peer has ended");
        }
        let answer: Value = serde_json::from_str(&line).context("the peer's answer is no JSON")?;
        if let Some(error) = answer["error"].as_str() {
            bail!("the peer failed: {error}");
        }
        Ok(answer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may be gone already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
