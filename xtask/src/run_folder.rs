//! The folder that a run writes: made whole, resumed from its last step.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use s5cl_data::SplitManifest;
use s5cl_trainer::write_atomic;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Overrides, RunConfig, resolve};
use crate::failure::BadInput;

/// The version of `metrics.json`.
pub(crate) const SCHEMA: u64 = 1;
const CONFIG: &str = "config.toml";
const SPLIT: &str = "split.json";
const EVENTS: &str = "metrics.jsonl";
const METRICS: &str = "metrics.json";
const EVALUATION: &str = "evaluation.json";
const PREDICTIONS: &str = "predictions.csv";
const WEIGHTS: &str = "model.safetensors";
const CHECKPOINTS: &str = "checkpoints";

/// A run folder that exists.
#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes a new one with config and split in it: all at once, so that a run killed at any
    /// moment has either no folder or one that can be resumed.
    pub(crate) fn create(path: &Path, config: &RunConfig, split: &SplitManifest) -> Result<Self> {
        refuse_existing(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.part"));
        let make = || -> Result<()> {
            if beside.exists() {
                fs::remove_dir_all(&beside)?;
            }
            fs::create_dir_all(beside.join(CHECKPOINTS))?;
            write_atomic(&beside.join(SPLIT), &serde_json::to_vec_pretty(split)?)?;
            write_atomic(&beside.join(CONFIG), config.to_toml()?.as_bytes())?;
            fs::rename(&beside, path)?;
            Ok(())
        };
        make()
            .with_context(|| format!("cannot create the run folder {}", path.display()))
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = fs::remove_dir_all(&beside);
            })?;
        Ok(Self { path: path.to_owned() })
    }

    /// One that an earlier run made.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            let message = format!("the run folder {} does not exist", path.display());
            return Err(BadInput::new(message).into());
        }
        if !path.join(CONFIG).is_file() {
            let message = format!("{} is not a run folder: it has no {CONFIG}", path.display());
            return Err(BadInput::new(message).into());
        }
        let folder = Self { path: path.to_owned() };
        match folder.metrics().map(|metrics| metrics["schema"].as_u64()) {
            None | Some(Some(SCHEMA)) => Ok(folder),
            Some(found) => {
                let found = found.map_or_else(|| "without a number".to_owned(), |n| n.to_string());
                let message = format!(
                    "{} has schema {found}; this version reads schema {SCHEMA}",
                    folder.path.join(METRICS).display()
                );
                Err(BadInput::new(message).into())
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The settings of the run.
    pub(crate) fn config(&self) -> Result<RunConfig> {
        resolve(&Overrides { config: Some(self.path.join(CONFIG)), ..Overrides::default() })
    }

    /// Which images were used for what.
    pub(crate) fn split(&self) -> Result<SplitManifest> {
        let path = self.path.join(SPLIT);
        let text = fs::read_to_string(&path)
            .map_err(|e| BadInput::new(format!("cannot read {}: {e}", path.display())))?;
        let parsed = serde_json::from_str(&text);
        Ok(parsed.map_err(|e| BadInput::new(format!("{} is damaged: {e}", path.display())))?)
    }

    /// The report, if it is written.
    pub(crate) fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The folder of the checkpoints.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// The final weights.
    pub(crate) fn weights(&self) -> PathBuf {
        self.path.join(WEIGHTS)
    }

    /// What frozen stages make of the images, until the run has ended.
    pub(crate) fn features(&self) -> PathBuf {
        self.path.join("features.safetensors")
    }

    /// The weights with the best validation so far, where a run selects them.
    pub(crate) fn best_weights(&self) -> PathBuf {
        self.checkpoints().join("best.safetensors")
    }

    /// What the model said of each test image.
    pub(crate) fn predictions(&self) -> PathBuf {
        self.path.join(PREDICTIONS)
    }

    /// What the report shows beyond the final figures, if the run wrote it.
    pub(crate) fn evaluation(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.path.join(EVALUATION)).ok()?).ok()
    }

    /// Writes what the report shows beyond the final figures.
    pub(crate) fn write_evaluation(&self, details: &impl Serialize) -> Result<()> {
        Ok(write_atomic(&self.path.join(EVALUATION), &serde_json::to_vec(details)?)?)
    }

    /// Writes the final figures.
    pub(crate) fn write_metrics(&self, metrics: &Value) -> Result<()> {
        Ok(write_atomic(&self.path.join(METRICS), &serde_json::to_vec_pretty(metrics)?)?)
    }

    /// The final figures, if the run is finished.
    pub(crate) fn metrics(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.path.join(METRICS)).ok()?).ok()
    }

    /// The events so far, without a last line that was cut off.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        Ok(self.event_lines()?.into_iter().map(|(_, event)| event).collect())
    }

    /// The figures of the last validation, if there was one.
    pub(crate) fn last_validation(&self) -> Result<Option<Value>> {
        Ok(self.events()?.into_iter().rev().find(|event| event["kind"] == "validation"))
    }

    /// Cuts the events back to what the first `steps` steps wrote. Every opening of the test
    /// images stays.
    pub(crate) fn cut_events(&self, steps: u64) -> Result<()> {
        let mut kept = String::new();
        for (line, event) in self.event_lines()? {
            let step = event["step"].as_u64().unwrap_or(u64::MAX);
            // A training step is named by its index, a validation by the steps before it.
            let is_kept = match event["kind"].as_str() {
                Some("train") => step < steps,
                Some("validation") => step <= steps,
                Some("test") => false,
                _ => true,
            };
            if is_kept {
                kept.push_str(&line);
                kept.push('\n');
            }
        }
        Ok(write_atomic(&self.path.join(EVENTS), kept.as_bytes())?)
    }

    fn event_lines(&self) -> Result<Vec<(String, Value)>> {
        let path = self.path.join(EVENTS);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        // Behind the last line's end is nothing, or what a killed run wrote of the next one.
        lines.pop();
        let mut events = Vec::new();
        for (idx, line) in lines.into_iter().enumerate() {
            let text = String::from_utf8_lossy(line).into_owned();
            let event = serde_json::from_str(&text).map_err(|e| {
                BadInput::new(format!("{}, line {}, is damaged: {e}", path.display(), idx + 1))
            })?;
            events.push((text, event));
        }
        Ok(events)
    }

    /// Opens the events for appending.
    pub(crate) fn append_events(&self) -> Result<EventLog> {
        let path = self.path.join(EVENTS);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(EventLog { file, path })
    }
}

/// Appends to `metrics.jsonl`, one object a line.
pub(crate) struct EventLog {
    file: File,
    path: PathBuf,
}

impl EventLog {
    /// Appends an object of the given kind.
    pub(crate) fn append(&mut self, kind: &str, step: u64, fields: &impl Serialize) -> Result<()> {
        let mut line = json!({ "step": step, "kind": kind });
        if let (Value::Object(line), Value::Object(fields)) =
            (&mut line, serde_json::to_value(fields)?)
        {
            line.extend(fields);
        }
        // One write for the whole line: a kill leaves it there or not.
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The folder that a run gets without `--out`.
pub(crate) fn default_path(config: &RunConfig, dataset: &str) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let time: String = time.chars().filter(char::is_ascii_digit).collect();
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let dataset: String = dataset.chars().map(plain).collect();
    PathBuf::from("runs").join(format!("{}-{dataset}-{}-{time}", config.method, config.seed))
}

/// Fails when a file cannot be put at a place: its folder does not exist, or it is one itself.
pub(crate) fn require_folder(out: &Path) -> Result<()> {
    if out.is_dir() {
        let message = format!("--out {} is a folder: give the name of a file", out.display());
        return Err(BadInput::new(message).into());
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let message = format!("--out {}: there is no folder {}", out.display(), folder.display());
        return Err(BadInput::new(message).into());
    }
    Ok(())
}

/// Fails when there is something at the place of a new run folder.
pub(crate) fn refuse_existing(path: &Path) -> Result<()> {
    if path.exists() {
        let message = format!(
            "the run folder {} exists: give another --out, or go on with --resume {}",
            path.display(),
            path.display()
        );
        return Err(BadInput::new(message).into());
    }
    Ok(())
}
