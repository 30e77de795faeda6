//! The training loop.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use s5cl_backbone::Normalization;
use s5cl_kernels::gradient_norm;
use tracing::info_span;

use crate::method::StepLoss;
use crate::{
    Batch, BatchSource, Checkpoints, Event, Method, PseudoLabels, Schedule, SourceError,
    StepRecord, TrainError, TrainState, clip_scale,
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

/// Takes the steps of a run from where the state stands to the end.
///
/// A step: take a batch, all views through the model, the method's loss, its gradient, one step of
/// the optimizer. Spans name the parts (`data_wait`, `forward`, `loss`, `backward`, `update`).
/// `should_stop` is asked before every step.
///
/// # Errors
///
/// If a batch cannot be made, a value is not finite, or a file cannot be written. The last
/// checkpoint stays in place.
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
    let device = Device::Cpu;
    let mut saved_at = state.steps();
    while state.steps() < config.schedule.steps {
        let step = state.steps();
        if should_stop() {
            if saved_at != step {
                checkpoints.save(state)?;
            }
            return Ok(Outcome::Interrupted);
        }
        let batch = info_span!("data_wait").in_scope(|| source.batch(step));
        let batch = batch.map_err(|source| TrainError::Source { step, source })?;
        let record = take_step(state, method, config, &batch, &device)?;

        let done = state.steps();
        let told = |source| TrainError::Listener { step: done, source };
        listen(Event::Step(record)).map_err(told)?;
        let is_last = done == config.schedule.steps;
        if is_last || is_due(done, config.validate_every) {
            let weights = state.weights();
            let weights = weights.map_err(|source| TrainError::Compute { step, source })?;
            info_span!("validate").in_scope(|| validate(done, &weights)).map_err(told)?;
        }
        if is_last || is_due(done, config.checkpoint_every) {
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

fn take_step(
    state: &mut TrainState,
    method: &Method,
    config: &TrainConfig,
    batch: &Batch,
    device: &Device,
) -> Result<StepRecord, TrainError> {
    let step = state.steps();
    let failed = |source| TrainError::Compute { step, source };
    let loss =
        method.loss(&state.model, &config.normalization, batch, step, device).map_err(failed)?;
    let mut record = step_record(&loss, batch, step).map_err(failed)?;
    record.learning_rate = config.schedule.at(step);
    check_finite(&record)?;

    let gradients =
        info_span!("backward").in_scope(|| loss.terms.total.backward()).map_err(failed)?;
    info_span!("update").in_scope(|| {
        let gradients = state.optimizer.named_gradients(&gradients);
        record.gradient_norm = gradient_norm(gradients.values()).map_err(failed)?;
        check_finite(&record)?;
        let scale = clip_scale(record.gradient_norm, config.clip_norm);
        state.optimizer.step(&gradients, record.learning_rate, scale).map_err(failed)?;
        let done = state.optimizer.steps();
        match &mut state.average {
            Some(average) => average.update(&state.parameters.all(), done).map_err(failed),
            None => Ok(()),
        }
    })?;
    Ok(record)
}

fn step_record(loss: &StepLoss, batch: &Batch, step: u64) -> candle_core::Result<StepRecord> {
    let value = |term: &Option<Tensor>| -> candle_core::Result<Option<f64>> {
        let scalar = |term: &Tensor| Ok(f64::from(term.to_scalar::<f32>()?));
        term.as_ref().map(scalar).transpose()
    };
    let terms = &loss.terms;
    Ok(StepRecord {
        step,
        total: f64::from(terms.total.to_scalar::<f32>()?),
        supervised: value(&terms.supervised)?,
        supervised_floor: terms.supervised.is_some().then_some(loss.supervised_floor),
        unsupervised: value(&terms.unsupervised)?,
        unsupervised_floor: terms.unsupervised.is_some().then_some(loss.unsupervised_floor),
        classification: value(&terms.classification)?,
        pseudo_share: loss.pseudo_share,
        pseudo_accepted: loss.pseudo_labels.as_ref().map(PseudoLabels::accepted),
        pseudo_labels: loss.pseudo_labels.clone(),
        learning_rate: 0.0,
        gradient_norm: 0.0,
        n_views: batch.n_views(),
    })
}

/// Names the first term that is not finite; the sum comes last, as it hides which one it was.
fn check_finite(record: &StepRecord) -> Result<(), TrainError> {
    let values = [
        ("the supervised term", record.supervised),
        ("the unsupervised term", record.unsupervised),
        ("the classification term", record.classification),
        ("the total loss", Some(record.total)),
        ("the norm of the gradient", Some(record.gradient_norm)),
    ];
    for (term, value) in values {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            return Err(TrainError::NotFinite { step: record.step, term, value });
        }
    }
    Ok(())
}
