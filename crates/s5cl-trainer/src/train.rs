//! The training loop.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result as Computed, Tensor};
use s5cl_backbone::Normalization;
use s5cl_kernels::{GradientScale, Upload, gradient_norm, is_out_of_memory};
use tracing::info_span;

use crate::method::StepLoss;
use crate::record::{Measured, Records};
use crate::{
    Batch, BatchSource, Checkpoints, Event, LossScale, Method, Schedule, SourceError, StepMemory,
    TrainError, TrainState,
};

/// How long and how a run trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainConfig {
    /// The learning rate over the steps, and how many there are.
    pub schedule: Schedule,
    /// Largest norm of all gradients together; 0 for no limit.
    pub clip_norm: f64,
    /// Steps between checkpoints; at least 1. The last step always has one.
    pub checkpoint_every: u64,
    /// Steps between validations; 0 for none but after the last step.
    pub validate_every: u64,
    /// How pixels become numbers.
    pub normalization: Normalization,
}

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are taken.
    Finished,
    /// Asked to stop; a checkpoint of every step taken is in place.
    Interrupted,
}

/// Validates the weights after the given number of steps, and tells of it on its own.
pub type Validate<'a> = dyn FnMut(u64, &BTreeMap<String, Tensor>) -> Result<(), SourceError> + 'a;

/// Takes the steps of a run from where the state stands to the end, on the device that the state is
/// on.
///
/// A step: take a batch, all views through the model, the method's loss, its gradient, one step of
/// the optimizer. Spans name the parts (`data_wait`, `forward`, `loss`, `backward`, `update`).
/// `should_stop` is asked before every step.
///
/// On the CPU a step is told before the next one begins, and is not taken where a value of it is
/// not finite. A CUDA device works while the next step is made ready: a step is told once the next
/// one was started, and before a validation, a checkpoint and the end. One whose gradient is not
/// finite has changed nothing by then, and no checkpoint has a step in it that was not told.
///
/// # Errors
///
/// If a batch cannot be made, a value is not finite, memory is out, or a file cannot be written.
/// The last checkpoint stays in place.
#[expect(clippy::too_many_arguments, reason = "each is one thing that a run is handed")]
pub fn train(
    state: &mut TrainState,
    method: &Method,
    config: &TrainConfig,
    checkpoints: &Checkpoints,
    source: &mut dyn BatchSource,
    validate: &mut Validate<'_>,
    listen: &mut dyn FnMut(Event) -> Result<(), SourceError>,
    should_stop: &dyn Fn() -> bool,
) -> Result<Outcome, TrainError> {
    // On the CPU the values of a step are there at once.
    let n_ahead = usize::from(!state.device().is_cpu());
    let mut told = Listeners { validate, listen, should_stop };
    take_steps(state, method, config, checkpoints, source, &mut told, n_ahead)
}

/// Whoever is asked and told while steps are taken.
struct Listeners<'a, 'b> {
    validate: &'a mut Validate<'b>,
    listen: &'a mut dyn FnMut(Event) -> Result<(), SourceError>,
    should_stop: &'a dyn Fn() -> bool,
}

/// [`train`], with so many steps started before one is told.
fn take_steps(
    state: &mut TrainState,
    method: &Method,
    config: &TrainConfig,
    checkpoints: &Checkpoints,
    source: &mut dyn BatchSource,
    Listeners { validate, listen, should_stop }: &mut Listeners<'_, '_>,
    n_ahead: usize,
) -> Result<Outcome, TrainError> {
    let (mut records, mut upload) = (Records::new(method), Upload::default());
    let mut saved_at = state.steps();
    while state.steps() < config.schedule.steps {
        let step = state.steps();
        if should_stop() {
            records.tell(0, listen)?;
            if saved_at != step {
                checkpoints.save(state)?;
            }
            return Ok(Outcome::Interrupted);
        }
        let batch = info_span!("data_wait").in_scope(|| source.batch(step));
        let batch = batch.map_err(|source| TrainError::Source { step, source });
        let taken = batch.and_then(|batch| {
            take_step(state, config, &batch, &mut records, &mut upload, n_ahead)
                .map_err(|error| with_memory(error, state, method, config, &batch))
        });

        let done = state.steps();
        let is_last = done == config.schedule.steps;
        let validates = is_last || is_due(done, config.validate_every);
        let saves = is_last || is_due(done, config.checkpoint_every);
        let waits = validates || saves || taken.is_err();
        records.tell(if waits { 0 } else { n_ahead }, listen)?;
        taken?;
        let told = |source| TrainError::Listener { step: done, source };
        if validates {
            let weights = state.weights();
            let weights = weights.map_err(|source| TrainError::Compute { step, source })?;
            info_span!("validate").in_scope(|| validate(done, &weights)).map_err(told)?;
        }
        if saves {
            let path = info_span!("checkpoint").in_scope(|| checkpoints.save(state))?;
            saved_at = done;
            listen(Event::Checkpoint { step: done, path }).map_err(told)?;
        }
    }
    Ok(Outcome::Finished)
}

fn is_due(done: u64, every: u64) -> bool {
    every > 0 && done.is_multiple_of(every)
}

/// Starts a step. Of the records up to its own all but `n_ahead` are read before anything changes.
fn take_step(
    state: &mut TrainState,
    config: &TrainConfig,
    batch: &Batch,
    records: &mut Records<'_>,
    upload: &mut Upload,
    n_ahead: usize,
) -> Result<(), TrainError> {
    let step = state.steps();
    let failed = |source| TrainError::Compute { step, source };
    let (loss, gradients) =
        gradients(state, records.method(), config, batch, upload).map_err(failed)?;
    info_span!("update").in_scope(|| {
        let gradients = state.optimizer.named_gradients(&gradients);
        let norm = &gradient_norm(gradients.values()).map_err(failed)?;
        let loss_scale = state.loss_scale.as_ref().map(LossScale::factor);
        let loss_scale = loss_scale.transpose().map_err(failed)?;
        let loss_scale = loss_scale.as_ref();
        let (learning_rate, n_views) = (config.schedule.at(step), batch.n_views());
        let measured = Measured { step, loss: &loss, norm, loss_scale, learning_rate, n_views };
        records.send(&measured).map_err(failed)?;
        records.read(n_ahead)?;
        let scale = GradientScale::ByNorm { norm, largest: config.clip_norm, loss_scale };
        state.optimizer.step(&gradients, learning_rate, scale).map_err(failed)?;
        if let Some(loss_scale) = &mut state.loss_scale {
            loss_scale.update(norm).map_err(failed)?;
        }
        let done = state.optimizer.steps();
        state.average.as_mut().map_or(Ok(()), |average| average.update(done)).map_err(failed)
    })
}

/// The loss of a batch, and the gradients of it, times the scale of the loss where there is one.
fn gradients(
    state: &TrainState,
    method: &Method,
    config: &TrainConfig,
    batch: &Batch,
    upload: &mut Upload,
) -> Computed<(StepLoss, GradStore)> {
    let (step, place) = (state.steps(), (upload, &state.device()));
    let loss = method.loss(&state.model, &config.normalization, batch, step, place)?;
    let gradients = info_span!("backward").in_scope(|| match &state.loss_scale {
        Some(scale) => loss.terms.total.mul(&scale.factor()?)?.backward(),
        None => loss.terms.total.backward(),
    });
    Ok((loss, gradients?))
}

/// Finds out which batch would fit, where a step failed because memory is out.
fn with_memory(
    error: TrainError,
    state: &TrainState,
    method: &Method,
    config: &TrainConfig,
    batch: &Batch,
) -> TrainError {
    let TrainError::Compute { step, source } = error else { return error };
    let device = state.device();
    let attempt =
        |part: &Batch| gradients(state, method, config, part, &mut Upload::default()).map(drop);
    let memory = is_out_of_memory(&source).then(|| StepMemory::measure(&device, batch, attempt));
    match memory {
        Some(Ok(Some(memory))) => TrainError::OutOfMemory { step, memory },
        // The first error is the one to tell.
        _ => TrainError::Compute { step, source },
    }
}

#[cfg(test)]
mod tests;
