//! The events of a run for TensorBoard, beside `metrics.jsonl`.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use s5cl_eval::ClassificationResult;
use s5cl_report::EventFile;
use s5cl_trainer::StepRecord;

/// The event file of one start of a run; a run that is resumed has several.
///
/// What is known after a step is written at that step's index, counted from 0: TensorBoard forgets
/// what it has from the step on that a run goes on at, and everything up to then must stay.
pub(crate) struct TensorBoard(EventFile);

impl TensorBoard {
    /// Starts a file in the run folder. What earlier files hold of steps from `first` on is void.
    pub(crate) fn start(folder: &Path, first: u64) -> Result<Self> {
        let now = seconds_since_1970();
        // TensorBoard reads files in the order of their names.
        let name = |nth: u32| folder.join(format!("events.out.tfevents.{now:010.0}.s5cl-{nth:03}"));
        let path = (0..).map(name).find(|path| !path.exists());
        let path = path.context("no name is left for an event file")?;
        Ok(Self(match has_events(folder)? {
            false => EventFile::create(&path, now)?,
            true => EventFile::resume(&path, now, first)?,
        }))
    }

    /// Terms of the loss, their floors, the rate and the speed of a step.
    pub(crate) fn step(&mut self, record: &StepRecord, images_per_second: f64) -> Result<()> {
        let values = [
            ("loss/total", Some(record.total)),
            ("loss/supervised", record.supervised),
            ("loss/supervised_floor", record.supervised_floor),
            ("loss/unsupervised", record.unsupervised),
            ("loss/unsupervised_floor", record.unsupervised_floor),
            ("loss/classification", record.classification),
            ("pseudo_labels/share", record.pseudo_labels.as_ref().map(|_| record.pseudo_share)),
            ("pseudo_labels/accepted", record.pseudo_accepted),
            ("training/learning_rate", Some(record.learning_rate)),
            ("training/gradient_norm", Some(record.gradient_norm)),
            ("training/images_per_second", Some(images_per_second)),
        ];
        self.append(record.step, &values)
    }

    /// Figures on the images of a split after so many steps.
    pub(crate) fn result(
        &mut self,
        split: &str,
        steps: u64,
        result: &ClassificationResult,
    ) -> Result<()> {
        let names = ["accuracy", "balanced_accuracy", "macro_f1", "loss"];
        let names = names.map(|name| format!("{split}/{name}"));
        let ClassificationResult { accuracy, balanced_accuracy, macro_f1, loss, .. } = result;
        let values = [Some(*accuracy), Some(*balanced_accuracy), Some(*macro_f1), *loss];
        let values: Vec<(&str, Option<f64>)> =
            names.iter().map(String::as_str).zip(values).collect();
        self.append(steps.saturating_sub(1), &values)
    }

    fn append(&mut self, step: u64, values: &[(&str, Option<f64>)]) -> Result<()> {
        let known: Vec<(&str, f32)> =
            values.iter().filter_map(|(name, value)| Some((*name, (*value)? as f32))).collect();
        Ok(self.0.scalars(step, seconds_since_1970(), &known)?)
    }
}

fn has_events(folder: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        if entry?.file_name().to_string_lossy().contains("tfevents") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
