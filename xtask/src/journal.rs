//! Where the events of a training go: the terminal, `metrics.jsonl` and TensorBoard.

use anyhow::Result;
use s5cl_eval::ClassificationResult;
use s5cl_trainer::StepRecord;
use serde::Serialize;

use crate::progress::Progress;
use crate::pseudo_labels::PseudoLabelHealth;
use crate::run_folder::{EventLog, RunFolder};
use crate::tensorboard::TensorBoard;

/// Keeps what happens while a run trains.
pub(crate) struct Journal {
    progress: Progress,
    events: EventLog,
    tensorboard: TensorBoard,
}

/// A step as `metrics.jsonl` keeps it.
#[derive(Serialize)]
struct StepLine<'a> {
    #[serde(flatten)]
    record: &'a StepRecord,
    seconds: f64,
    images_per_second: f64,
    phase: &'static str,
    #[serde(flatten)]
    pseudo_labels: Option<PseudoLabelHealth>,
}

impl Journal {
    /// Goes on at step `first` of `steps`; what later steps wrote before is taken back.
    pub(crate) fn start(folder: &RunFolder, first: u64, steps: u64, quiet: bool) -> Result<Self> {
        folder.cut_events(first)?;
        Ok(Self {
            progress: Progress::new(first, steps, quiet),
            events: folder.append_events()?,
            tensorboard: TensorBoard::start(folder.path(), first)?,
        })
    }

    /// A step was taken.
    pub(crate) fn step(
        &mut self,
        record: &StepRecord,
        pseudo_labels: Option<PseudoLabelHealth>,
    ) -> Result<()> {
        let seconds = self.progress.step(record);
        let images_per_second = (record.n_views as f64 / seconds).round();
        let phase = if record.pseudo_share > 0.0 { "pseudo" } else { "instance" };
        let line = StepLine { record, seconds, images_per_second, phase, pseudo_labels };
        self.tensorboard.step(record, images_per_second)?;
        self.events.append("train", record.step, &line)
    }

    /// The weights after so many steps were validated.
    pub(crate) fn validation(&mut self, steps: u64, result: &ClassificationResult) -> Result<()> {
        self.progress.note(&format!(
            "step {steps}: validation balanced accuracy {:.3}",
            result.balanced_accuracy
        ));
        self.events.append("validation", steps, result)?;
        self.tensorboard.result("validation", steps, result)?;
        self.pause_ended();
        Ok(())
    }

    /// The final weights were tested.
    pub(crate) fn test(&mut self, steps: u64, result: &ClassificationResult) -> Result<()> {
        self.events.append("test", steps, result)?;
        self.tensorboard.result("test", steps, result)
    }

    /// Something that is no part of a step took time until now.
    pub(crate) fn pause_ended(&mut self) {
        self.progress.restart_clock();
    }

    /// The training is over.
    pub(crate) fn training_ended(&self) {
        self.progress.finish();
    }
}
