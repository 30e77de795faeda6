//! The S5CL training loop: methods, optimizers, schedules, checkpoints.
//!
//! The loop is handed three things: a source of batches that is a pure function of the step, a
//! validation closure, and an event sink. It knows no file format of images, no clock and no
//! label that a run hides: a [`Batch`] has labels for its labeled images only, by type.
//!
//! It trains on the device that the weights are on. On a CUDA device nothing waits for a step: what
//! there is to tell of one is read when the next was started, and a step whose gradient is not
//! finite changes nothing.
//!
//! Because everything random is a function of seed and step, a checkpoint is the weights, the
//! optimizer's state and the step. A run that continues from one gives the same bits as a run
//! that was never interrupted.

mod batch;
mod event;
mod pseudo_labels;

mod method;
mod record;
mod train;

mod memory;

mod loss_scale;
mod optimizer;
mod schedule;

mod average;

mod checkpoint;
mod files;
mod state;

mod error;

pub use average::WeightAverage;
pub use batch::{Batch, BatchSource, DeviceViews, SourceError, Views};
pub use checkpoint::{Checkpoint, Checkpoints};
pub use error::TrainError;
pub use event::{Event, StepRecord};
pub use files::write_atomic;
pub use loss_scale::LossScale;
pub use memory::StepMemory;
pub use method::{METHODS, Method, MethodConfig, MethodKind};
pub use optimizer::{OPTIMIZERS, Optimizer, OptimizerConfig};
pub use pseudo_labels::PseudoLabels;
pub use s5cl_kernels::{GradientScale, StepRule, clip_scale};
pub use schedule::{SCHEDULES, Schedule, ScheduleKind};
pub use state::TrainState;
pub use train::{Outcome, TrainConfig, Validate, train};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
