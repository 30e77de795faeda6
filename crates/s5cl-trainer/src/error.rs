//! Why a run could not start, go on or be kept.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{SourceError, StepMemory};

/// Why training stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of its range.
    #[error("{0}")]
    Config(String),
    /// A value of the loss, or the gradient, is infinite or not a number.
    #[error(
        "step {step}: {term} is {value}, not a finite number; the last checkpoint is kept (a lower optimizer.learning_rate or an optimizer.clip_norm may help)"
    )]
    NotFinite {
        /// 0-based.
        step: u64,
        /// The term of the loss, or `gradient`.
        term: &'static str,
        /// What it was.
        value: f64,
    },
    /// The batch of a step could not be made.
    #[error("step {step}: {source}")]
    Source {
        /// 0-based.
        step: u64,
        /// The source's reason.
        source: SourceError,
    },
    /// Whoever validates or listens failed.
    #[error("step {step}: {source}")]
    Listener {
        /// Steps taken so far.
        step: u64,
        /// Their reason.
        source: SourceError,
    },
    /// A step needs more memory than its device has.
    #[error("step {step}: the device has no memory left for this batch")]
    OutOfMemory {
        /// 0-based.
        step: u64,
        /// What there is, and what the step would take.
        memory: StepMemory,
    },
    /// A computation failed.
    #[error("step {step}: {source}")]
    Compute {
        /// 0-based.
        step: u64,
        /// candle's reason.
        source: candle_core::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried: `read`, `write`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A checkpoint is not what was written.
    #[error(
        "the checkpoint {path} is damaged: {reason}; delete this folder to resume from the one before it"
    )]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A checkpoint belongs to another model or optimizer.
    #[error("the checkpoint {path} does not fit this run: {reason}")]
    Foreign {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
}

impl TrainError {
    /// The same error of a file under the name that the user knows.
    pub(crate) fn about(self, path: &Path) -> Self {
        match self {
            Self::File { action, source, .. } => Self::File { action, path: path.into(), source },
            other => other,
        }
    }

    /// Whether what the user gave is wrong, rather than that something failed. Of an error of the
    /// batch source or a listener only its own source can tell.
    #[must_use]
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Damaged { .. } | Self::Foreign { .. })
    }
}
