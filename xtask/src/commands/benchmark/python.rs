//! A Python process that is asked line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::failure::BadInput;
use crate::system::workspace_root;

/// A script in a process of its own, which ends with this value.
pub(super) struct Python {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// Starts a script of the checkout, which is where the program was built, or the folder that it
    /// is started in.
    pub(super) fn start(python: &Path, script: &str, threads: usize) -> Result<Self> {
        let places = [workspace_root(), PathBuf::from(".")].map(|root| root.join(script));
        let Some(script) = places.iter().find(|place| place.exists()) else {
            let message = format!("{} does not exist: run this in a checkout", places[0].display());
            return Err(BadInput::new(message).into());
        };
        let mut command = Command::new(python);
        command.arg(script).env("OMP_NUM_THREADS", threads.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let shown = python.display();
        let mut process = command.spawn().map_err(|error| {
            BadInput::new(format!("--vs-pytorch: cannot start {shown}: {error}"))
        })?;
        let pipes = (process.stdin.take(), process.stdout.take());
        let (Some(questions), Some(answers)) = pipes else { bail!("{shown} has no pipes") };
        Ok(Self { process, questions, answers: BufReader::new(answers) })
    }

    /// Asks the first question, and fails where packages are missing.
    pub(super) fn greet(&mut self, python: &Path, hello: &Value, packages: &str) -> Result<Value> {
        let shown = python.display();
        let answer = self.ask(hello).map_err(|error| {
            BadInput::new(format!("--vs-pytorch: {shown} does not run the peers: {error}"))
        })?;
        if let Some(missing) = answer["missing"].as_array().filter(|missing| !missing.is_empty()) {
            let missing: Vec<&str> = missing.iter().filter_map(Value::as_str).collect();
            let message = format!(
                "--vs-pytorch: {shown} has no {}; install: {shown} -m pip install {packages}",
                missing.join(", ")
            );
            return Err(BadInput::new(message).into());
        }
        Ok(answer)
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&mut self, question: &Value) -> Result<Value> {
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

impl Drop for Python {
    fn drop(&mut self) {
        // It may be gone already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
