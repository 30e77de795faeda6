//! What an error means for the exit code.

use std::fmt;

use s5cl_augment::AugmentError;
use s5cl_backbone::WeightsError;
use s5cl_data::DataError;
use s5cl_eval::EvalError;
use s5cl_report::ReportError;
use s5cl_trainer::{SourceError, TrainError};

/// What the user gave is wrong: one line saying what, where, and what to do.
#[derive(Debug)]
pub(crate) struct BadInput(String);

impl BadInput {
    /// With the line to show.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// Stopped by a signal after everything was saved.
#[derive(Debug)]
pub(crate) struct Interrupted {
    /// Steps that are saved.
    pub(crate) step: u64,
    /// How to go on.
    pub(crate) resume: String,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted, {} steps are saved; go on with: {}", self.step, self.resume)
    }
}

impl std::error::Error for Interrupted {}

/// Stopped by a signal where nothing is saved.
#[derive(Debug)]
pub(crate) struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "interrupted; nothing of it is kept, the same command starts from the beginning",
        )
    }
}

impl std::error::Error for Abandoned {}

/// 2 for wrong input, 130 for an interruption, 1 for everything else.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Interrupted>() || cause.is::<Abandoned>() {
            return 130;
        }
        let is_input = cause.is::<BadInput>()
            || cause.is::<DataError>()
            || cause.is::<AugmentError>()
            || cause.is::<EvalError>()
            || cause.downcast_ref::<ReportError>().is_some_and(ReportError::is_input)
            || cause.downcast_ref::<WeightsError>().is_some()
            || cause.downcast_ref::<TrainError>().is_some_and(TrainError::is_input);
        if is_input {
            return 2;
        }
    }
    1
}

/// An error for the trainer, which hands it back: the type inside stays, so that the exit code is
/// that of the cause.
pub(crate) fn boxed(error: anyhow::Error) -> SourceError {
    match error.downcast::<DataError>() {
        Ok(data) => data.into(),
        Err(other) => other.into(),
    }
}

/// The whole chain of causes as one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // An error whose message already quotes its cause needs no second copy of it.
        if !line.contains(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    line.replace('\n', " ")
}
