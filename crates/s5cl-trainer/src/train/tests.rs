//! Steps that are told later, as on a CUDA device, and losses that are scaled.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use s5cl_backbone::{EncoderConfig, Model, ModelConfig, Normalization, Parameters};
use s5cl_losses::HierarchyConfig;

use super::{Listeners, Outcome, TrainConfig, take_steps};
use crate::{
    Batch, BatchSource, Checkpoints, Event, LossScale, Method, MethodConfig, MethodKind, Optimizer,
    OptimizerConfig, Schedule, ScheduleKind, SourceError, StepRecord, TrainError, TrainState,
    Views, WeightAverage,
};

type TestResult<T = ()> = Result<T, Box<dyn std::error::Error>>;

const STEPS: u64 = 7;
const SIDE: usize = 8;

/// Pixels that differ by image, place and step.
struct Stripes;

impl Stripes {
    fn views(n_images: usize, step: u64) -> Views {
        let pixels = |factor: usize| {
            let at = |i: usize| (i * factor + 17 * step as usize) % 251;
            (0..n_images * SIDE * SIDE * 3).map(|i| at(i) as u8).collect()
        };
        Views { weak: pixels(7), strong: pixels(31), n_images, height: SIDE, width: SIDE }
    }
}

impl BatchSource for Stripes {
    fn batch(&mut self, step: u64) -> Result<Batch, SourceError> {
        if step == STEPS {
            return Err("no more batches".into());
        }
        let (labeled, unlabeled) = (Self::views(4, step), Some(Self::views(3, step)));
        Ok(Batch { labeled, labels: vec![0, 0, 1, 1], unlabeled, on_device: None })
    }
}

fn state(loss_scale: Option<LossScale>) -> TestResult<TrainState> {
    let parameters = Parameters::new(5);
    let model = ModelConfig {
        encoder: EncoderConfig::named("resnet-slim", 32)?,
        embedding_dim: 8,
        n_classes: 2,
    };
    let model = Model::new(&model, &parameters.builder(&Device::Cpu))?;
    let optimizer =
        Optimizer::new(OptimizerConfig::named("adamax", 1e-4)?, parameters.trainable())?;
    let average = Some(WeightAverage::new(0.9, &parameters.all())?);
    Ok(TrainState { model, parameters, optimizer, average, loss_scale })
}

fn method() -> TestResult<Method> {
    Ok(Method::new(MethodConfig {
        kind: MethodKind::S5cl,
        hierarchy: HierarchyConfig::published(),
        pseudo_labels_after_steps: 2,
        pseudo_ramp_steps: 0,
        pseudo_threshold: 0.6,
    })?)
}

/// How a run is to go.
#[derive(Clone, Copy)]
struct Setup {
    learning_rate: f64,
    steps: u64,
    /// Steps that are taken before somebody asks to stop.
    at_most: u64,
    n_ahead: usize,
}

const SETUP: Setup = Setup { learning_rate: 1e-2, steps: STEPS, at_most: u64::MAX, n_ahead: 0 };

/// What a run told, in order, and how it ended.
#[derive(Debug)]
struct Told {
    events: Vec<String>,
    records: Vec<StepRecord>,
    ended: Result<Outcome, TrainError>,
}

fn run(setup: Setup, state: &mut TrainState, folder: &Path) -> TestResult<Told> {
    let schedule = Schedule {
        kind: ScheduleKind::Constant,
        learning_rate: setup.learning_rate,
        warmup_steps: 0,
        steps: setup.steps,
    };
    let config = TrainConfig {
        schedule,
        clip_norm: 1.0,
        checkpoint_every: 3,
        validate_every: 4,
        normalization: Normalization::HALF,
    };
    let events = std::cell::RefCell::new(Vec::new());
    let (mut records, n_asked) = (Vec::new(), std::cell::Cell::new(0));
    let ended = take_steps(
        state,
        &method()?,
        &config,
        &Checkpoints::new(folder.to_owned(), 9, BTreeMap::new()),
        &mut Stripes,
        &mut Listeners {
            validate: &mut |done, _| {
                events.borrow_mut().push(format!("validation after {done}"));
                Ok(())
            },
            listen: &mut |event| {
                events.borrow_mut().push(match event {
                    Event::Step(record) => {
                        records.push(record);
                        format!("step {}", records[records.len() - 1].step)
                    }
                    Event::Checkpoint { step, .. } => format!("checkpoint after {step}"),
                });
                Ok(())
            },
            should_stop: &|| {
                n_asked.set(n_asked.get() + 1);
                n_asked.get() > setup.at_most
            },
        },
        setup.n_ahead,
    );
    Ok(Told { events: events.into_inner(), records, ended })
}

/// The bits of everything that a step changes.
fn bits(state: &TrainState) -> TestResult<BTreeMap<String, Vec<u32>>> {
    let tensors = state.tensors()?.into_iter().map(|(name, tensor)| {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok((name, values.into_iter().map(f32::to_bits).collect()))
    });
    tensors.collect()
}

/// Runs twice: each step told at once, and told when the next one was started.
fn both(setup: Setup) -> TestResult<[(Told, TrainState); 2]> {
    let told = |n_ahead: usize| -> TestResult<(Told, TrainState)> {
        let (folder, mut state) = (tempfile::tempdir()?, state(None)?);
        let told = run(Setup { n_ahead, ..setup }, &mut state, folder.path())?;
        Ok((told, state))
    };
    Ok([told(0)?, told(1)?])
}

#[test]
fn steps_told_later_are_the_same_in_the_same_order() -> TestResult {
    for at_most in [u64::MAX, 5] {
        let [(at_once, state), (later, other)] = both(Setup { at_most, ..SETUP })?;
        let expected = if at_most == 5 { Outcome::Interrupted } else { Outcome::Finished };
        for told in [&at_once, &later] {
            assert_eq!(told.ended.as_ref().ok(), Some(&expected), "{:?}", told.ended);
        }
        assert_eq!(at_once.events, later.events);
        assert_eq!(at_once.records, later.records);
        assert_eq!(at_once.records.len() as u64, at_most.min(STEPS));
        assert!(bits(&state)? == bits(&other)?);
        let has_pseudo_labels = at_once.records.iter().any(|record| {
            let accepted = record.pseudo_accepted.unwrap_or_default();
            record.pseudo_share == 1.0 && accepted > 0.0 && accepted < 1.0
        });
        assert!(has_pseudo_labels, "{:?}", at_once.records);
    }
    Ok(())
}

#[test]
fn step_that_fails_is_named_though_it_is_told_later() -> TestResult {
    let [at_once, later] = both(Setup { learning_rate: 1e30, ..SETUP })?;
    for (told, _) in [&at_once, &later] {
        let failed = matches!(
            told.ended,
            Err(TrainError::NotFinite { step: 1, term: "the supervised term", .. })
        );
        assert!(failed, "{:?}", told.ended);
        assert_eq!(told.events, ["step 0"]);
    }
    // The step that failed has changed no weight, and nothing that the optimizer remembers.
    let weights = |state: &TrainState| -> TestResult<BTreeMap<String, Vec<u32>>> {
        let mut bits = bits(state)?;
        bits.retain(|name, _| name.starts_with("optimizer/") || name.starts_with("model/"));
        bits.retain(|name, _| !name.contains("running_"));
        Ok(bits)
    };
    assert!(weights(&at_once.1)? == weights(&later.1)?);
    Ok(())
}

#[test]
fn steps_before_a_batch_that_cannot_be_made_are_told() -> TestResult {
    for (told, _) in both(Setup { steps: STEPS + 1, ..SETUP })? {
        assert!(matches!(told.ended, Err(TrainError::Source { step: STEPS, .. })));
        assert_eq!(told.events.last().map(String::as_str), Some("step 6"));
        assert_eq!(told.records.len() as u64, STEPS);
    }
    Ok(())
}

#[test]
fn scaled_loss_gives_the_bits_of_the_plain_one() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (mut plain, mut scaled) = (state(None)?, state(Some(LossScale::new(&Device::Cpu)?))?);
    let expected = run(SETUP, &mut plain, &folder.path().join("plain"))?;
    let told = run(SETUP, &mut scaled, &folder.path().join("scaled"))?;
    for (record, expected) in told.records.iter().zip(expected.records) {
        assert_eq!(record.loss_scale, Some(65536.0));
        // Powers of two leave all digits as they are.
        assert_eq!(StepRecord { loss_scale: None, ..record.clone() }, expected);
    }
    assert_eq!(told.records.len() as u64, STEPS);
    let mut bits_of_scaled = bits(&scaled)?;
    assert!(bits_of_scaled.remove("loss_scale/state").is_some());
    assert!(bits_of_scaled == bits(&plain)?);
    Ok(())
}

#[test]
fn scale_of_the_loss_is_kept_in_checkpoints() -> TestResult {
    let folder = tempfile::tempdir()?;
    // A checkpoint after three steps has two good ones behind a bad one.
    let scale_from = |factor: f32| -> TestResult<LossScale> {
        let mut scale = LossScale::new(&Device::Cpu)?;
        let state = Tensor::new(&[factor, 0.0], &Device::Cpu)?;
        scale.restore(&[("state".to_owned(), state)].into())?;
        Ok(scale)
    };
    let mut uninterrupted = state(Some(scale_from(f32::MAX)?))?;
    let steps = 5;
    run(Setup { steps, ..SETUP }, &mut uninterrupted, &folder.path().join("one"))?;
    let place = folder.path().join("two");
    let mut before = state(Some(scale_from(f32::MAX)?))?;
    run(Setup { steps, at_most: 3, ..SETUP }, &mut before, &place)?;
    let newest = Checkpoints::new(place.clone(), 9, BTreeMap::new()).newest()?;
    let newest = newest.ok_or("no checkpoint")?;
    let mut resumed = state(Some(LossScale::new(&Device::Cpu)?))?;
    newest.restore(&mut resumed)?;
    assert_eq!(resumed.steps(), 3);
    run(Setup { steps, ..SETUP }, &mut resumed, &place)?;
    assert!(bits(&resumed)? == bits(&uninterrupted)?);
    // Without a scale in the checkpoint there is none to go on with.
    let mut plain = state(None)?;
    run(Setup { steps: 3, ..SETUP }, &mut plain, &folder.path().join("plain"))?;
    let of_plain = Checkpoints::new(folder.path().join("plain"), 9, BTreeMap::new()).newest()?;
    let error = of_plain.ok_or("no checkpoint")?.restore(&mut resumed).unwrap_err();
    assert!(error.to_string().contains("there is no scale of the loss"), "{error}");
    Ok(())
}

#[test]
fn step_whose_scaled_gradient_overflows_is_left_out() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut loss_scale = LossScale::new(&Device::Cpu)?;
    let huge = Tensor::new(&[f32::MAX, 0.0], &Device::Cpu)?;
    loss_scale.restore(&[("state".to_owned(), huge)].into())?;
    let mut state = state(Some(loss_scale))?;
    let before = bits(&state)?;
    let told = run(Setup { steps: 1, ..SETUP }, &mut state, folder.path())?;
    assert!(matches!(told.ended, Ok(Outcome::Finished)), "{:?}", told.ended);
    assert!(!told.records[0].gradient_norm.is_finite());
    for (name, bits) in bits(&state)? {
        let is_moved = name.contains("running_") || name == "loss_scale/state";
        assert_eq!(bits != before[&name], is_moved, "{name}");
    }
    // Without any room below, it is an error.
    let lowest = Tensor::new(&[1.0_f32, 0.0], &Device::Cpu)?;
    if let Some(loss_scale) = &mut state.loss_scale {
        loss_scale.restore(&[("state".to_owned(), lowest)].into())?;
    }
    for weight in state.parameters.trainable().values() {
        weight.set(&(weight.as_detached_tensor() * 1e30)?)?;
    }
    let told = run(Setup { steps: 3, ..SETUP }, &mut state, folder.path())?;
    assert!(matches!(told.ended, Err(TrainError::NotFinite { .. })), "{:?}", told.ended);
    Ok(())
}
