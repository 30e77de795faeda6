//! The S5CL training loop: methods, optimizers, schedules, checkpoints.
//!
//! The loop is handed three things: a source of batches that is a pure function of the step, a
//! validation closure, and an event sink. It knows no file format of images, no clock and no
//! label that a run hides: a [`Batch`] has labels for its labeled images only, by type.
//!
//! Because everything random is a function of seed and step, a checkpoint is the weights, the
//! optimizer's state and the step. A run that continues from one gives the same bits as a run
//! that was never interrupted.

mod batch;
mod event;

mod method;
mod train;

mod optimizer;
mod schedule;

mod average;

mod checkpoint;
mod files;
mod state;

mod error;

pub use average::WeightAverage;
pub use batch::{Batch, BatchSource, SourceError, Views};
pub use checkpoint::{Checkpoint, Checkpoints};
pub use error::TrainError;
pub use event::{Event, PseudoLabels, StepRecord};
pub use files::write_atomic;
pub use method::{METHODS, Method, MethodConfig, MethodKind};
pub use optimizer::{OPTIMIZERS, Optimizer, OptimizerConfig, Rule, clip_scale};
pub use schedule::{SCHEDULES, Schedule, ScheduleKind};
pub use state::TrainState;
pub use train::{Outcome, TrainConfig, Validate, train};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
