//! Whole runs with the library crates alone: learning, stopping, resuming, refusing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use s5cl_trainer::{
    Event, MethodKind, Outcome, StepRecord, StepRule, TrainError, TrainState, WeightAverage, train,
};

use crate::checkpoints::names_in;
use crate::golden_files::TestResult;
use crate::pipeline_batches::{STEPS, Setup, TissueBatches};

/// What the checkpoints of these runs belong to.
pub(crate) const MODEL: &str = "resnet-slim 16";
pub(crate) const SEED: u64 = 7;

/// What a run told and how it ended.
pub(crate) struct Run {
    records: Vec<StepRecord>,
    validated: Vec<u64>,
    pub(crate) saved: Vec<(u64, PathBuf)>,
    ended: Result<Outcome, TrainError>,
}

/// Trains a state from where it stands, for at most `at_most` steps.
fn run(setup: &Setup, state: &mut TrainState, folder: &Path, at_most: u64) -> TestResult<Run> {
    let (mut records, mut validated, mut saved) = (Vec::new(), Vec::new(), Vec::new());
    let n_asked = Cell::new(0);
    let should_stop = || {
        n_asked.set(n_asked.get() + 1);
        n_asked.get() > at_most
    };
    let ended = train(
        state,
        &setup.method()?,
        &setup.config(),
        &setup.checkpoints(folder, MODEL),
        &mut TissueBatches::new(setup.kind)?,
        &mut |done, weights| {
            assert!(!weights.is_empty());
            validated.push(done);
            Ok(())
        },
        &mut |event| {
            match event {
                Event::Step(record) => records.push(record),
                Event::Checkpoint { step, path } => saved.push((step, path)),
            }
            Ok(())
        },
        &should_stop,
    );
    Ok(Run { records, validated, saved, ended })
}

/// Trains a fresh state to the end.
pub(crate) fn finished(setup: &Setup, folder: &Path) -> TestResult<(TrainState, Run)> {
    let mut state = setup.state(SEED)?;
    let run = run(setup, &mut state, folder, u64::MAX)?;
    assert!(matches!(run.ended, Ok(Outcome::Finished)), "{:?}", run.ended);
    assert_eq!(run.records.len() as u64, STEPS);
    Ok((state, run))
}

/// A state with other initial weights that continues from the newest checkpoint: what was not
/// restored would show.
fn resumed(setup: &Setup, folder: &Path) -> TestResult<TrainState> {
    let mut state = setup.state(SEED + 1)?;
    let newest = setup.checkpoints(folder, MODEL).newest()?.ok_or("no checkpoint")?;
    newest.restore(&mut state)?;
    assert_eq!(state.steps(), newest.step);
    Ok(state)
}

/// The bits of weights, statistics, optimizer and average.
fn bits(state: &TrainState) -> TestResult<BTreeMap<String, Vec<u32>>> {
    let mut bits = BTreeMap::new();
    for (name, tensor) in state.tensors()? {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        bits.insert(name, values.into_iter().map(f32::to_bits).collect());
    }
    Ok(bits)
}

fn assert_same_bits(what: &str, state: &TrainState, expected: &TrainState) -> TestResult {
    let (bits, expected) = (bits(state)?, bits(expected)?);
    assert!(bits.keys().eq(expected.keys()), "{what}");
    for (name, bits) in bits {
        assert!(bits == expected[&name], "{what}: {name} differs");
    }
    Ok(())
}

fn mean(records: &[StepRecord]) -> f64 {
    records.iter().map(|record| record.total).sum::<f64>() / records.len() as f64
}

#[test]
fn run_lowers_the_loss_and_tells_the_terms_of_its_method() -> TestResult {
    for (kind, has_supervised, has_unsupervised, n_views) in [
        (MethodKind::S5cl, true, true, 2 * (12 + 8)),
        (MethodKind::Supcon, true, false, 2 * 12),
        (MethodKind::CrossEntropy, false, false, 2 * 12),
    ] {
        let folder = tempfile::tempdir()?;
        let (_, run) = finished(&Setup { kind, ..Setup::s5cl() }, folder.path())?;
        let (first, last) = (mean(&run.records[..3]), mean(&run.records[STEPS as usize - 3..]));
        assert!(last < first, "{kind:?}: from {first} to {last}");
        assert_eq!(run.validated, [4, 8, 12], "{kind:?}");
        for (step, record) in run.records.iter().enumerate() {
            let terms = [record.supervised, record.unsupervised, record.classification];
            let has = terms.map(|term| term.is_some());
            assert_eq!(has, [has_supervised, has_unsupervised, true], "{kind:?}");
            let sum: f64 = terms.into_iter().flatten().sum();
            // The total is summed in f32.
            assert!((record.total - sum).abs() < 1e-5 * sum, "{kind:?}: {record:?}");
            let floors = [record.supervised_floor, record.unsupervised_floor];
            assert_eq!(floors.map(|f| f.is_some()), [has_supervised, has_unsupervised]);
            assert!(floors.into_iter().flatten().sum::<f64>() < sum, "{kind:?}: {record:?}");
            assert_eq!((record.step, record.n_views), (step as u64, n_views), "{kind:?}");
            assert!(record.gradient_norm > 0.0, "{kind:?}: {record:?}");
        }
    }
    Ok(())
}

#[test]
fn pseudo_labels_take_over_after_the_configured_step() -> TestResult {
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let never = Setup::s5cl();
    let after_4 = Setup { pseudo_labels_after_steps: 4, ..never };
    let (_, instances) = finished(&never, folders.0.path())?;
    let (_, switched) = finished(&after_4, folders.1.path())?;
    assert_eq!(instances.records[..5], switched.records[..5]);
    for (step, record) in switched.records.iter().enumerate() {
        assert_eq!(record.pseudo_share, if step > 4 { 1.0 } else { 0.0 }, "step {step}");
        assert_eq!(record.pseudo_accepted, Some(1.0), "step {step}");
    }
    let at_switch = (&instances.records[5], &switched.records[5]);
    assert_eq!(at_switch.0.supervised, at_switch.1.supervised, "the weights are still the same");
    assert_ne!(at_switch.0.unsupervised, at_switch.1.unsupervised);
    Ok(())
}

#[test]
fn run_interrupted_and_resumed_gives_the_bits_of_an_uninterrupted_one() -> TestResult {
    let adam = ([0.9, 0.999], 1e-8);
    for (rule, ema_decay) in [
        (StepRule::Adamax { betas: adam.0, epsilon: adam.1 }, Some(0.9)),
        (StepRule::AdamW { betas: adam.0, epsilon: adam.1 }, Some(0.99)),
        (StepRule::Sgd { momentum: 0.9, nesterov: true }, None),
    ] {
        let what = format!("{rule:?}");
        let setup = Setup { rule, ema_decay, pseudo_labels_after_steps: 6, ..Setup::s5cl() };
        let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
        let (uninterrupted, expected) = finished(&setup, folders.0.path())?;

        let mut state = setup.state(SEED)?;
        let before = run(&setup, &mut state, folders.1.path(), 7)?;
        assert!(matches!(before.ended, Ok(Outcome::Interrupted)), "{what}: {:?}", before.ended);
        let mut state = resumed(&setup, folders.1.path())?;
        assert_eq!(state.steps(), 7, "{what}");
        let after = run(&setup, &mut state, folders.1.path(), u64::MAX)?;
        assert!(matches!(after.ended, Ok(Outcome::Finished)), "{what}: {:?}", after.ended);

        assert_eq!([before.records, after.records].concat(), expected.records, "{what}");
        assert_same_bits(&what, &state, &uninterrupted)?;
        // What is evaluated and kept is the average, and not the present weights.
        let is_average = state.weights()?["conv1.weight"].to_string()
            != state.parameters.all()["conv1.weight"].to_string();
        assert_eq!(is_average, ema_decay.is_some(), "{what}");
    }
    Ok(())
}

#[test]
fn weights_that_were_told_do_not_change_with_later_steps() -> TestResult {
    let bits = |weights: &BTreeMap<String, Tensor>| -> TestResult<Vec<u32>> {
        let mut bits = Vec::new();
        for weight in weights.values() {
            bits.extend(weight.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits));
        }
        Ok(bits)
    };
    for (rule, ema_decay) in [
        (StepRule::Adamax { betas: [0.9, 0.999], epsilon: 1e-8 }, None),
        (StepRule::Sgd { momentum: 0.9, nesterov: true }, Some(0.9)),
    ] {
        let folder = tempfile::tempdir()?;
        let setup = Setup { rule, ema_decay, ..Setup::s5cl() };
        let mut state = setup.state(SEED)?;
        let before = run(&setup, &mut state, folder.path(), 2)?;
        assert!(matches!(before.ended, Ok(Outcome::Interrupted)), "{:?}", before.ended);
        let held = [state.weights()?, state.tensors()?, state.optimizer.state()?];
        let at_first: Vec<Vec<u32>> = held.iter().map(bits).collect::<TestResult<_>>()?;

        // What a validation is handed is held too, until the run is over.
        let mut validated = Vec::new();
        train(
            &mut state,
            &setup.method()?,
            &setup.config(),
            &setup.checkpoints(folder.path(), MODEL),
            &mut TissueBatches::new(setup.kind)?,
            &mut |_, weights| {
                validated.push((weights.clone(), bits(weights).map_err(|e| e.to_string())?));
                Ok(())
            },
            &mut |_| Ok(()),
            &|| false,
        )?;
        for (held, at_first) in held.iter().zip(&at_first) {
            assert!(bits(held)? == *at_first, "{rule:?}: what was held has changed");
        }
        assert!(bits(&state.weights()?)? != at_first[0], "{rule:?}: no step was taken");
        assert!(validated.len() > 1);
        for (weights, told) in &validated {
            assert!(bits(weights)? == *told, "{rule:?}: validated weights have changed");
        }
    }
    Ok(())
}

#[test]
fn run_killed_between_checkpoints_repeats_the_same_steps() -> TestResult {
    let setup = Setup::s5cl();
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (uninterrupted, expected) = finished(&setup, folders.0.path())?;

    let mut state = setup.state(SEED)?;
    let ended = train(
        &mut state,
        &setup.method()?,
        &setup.config(),
        &setup.checkpoints(folders.1.path(), MODEL),
        &mut TissueBatches::new(setup.kind)?,
        &mut |_, _| Ok(()),
        &mut |event| match event {
            Event::Step(record) if record.step == 7 => Err("no space left".into()),
            _ => Ok(()),
        },
        &|| false,
    );
    let error = ended.unwrap_err();
    assert!(matches!(error, TrainError::Listener { step: 8, .. }), "{error:?}");
    let mut state = resumed(&setup, folders.1.path())?;
    assert_eq!(state.steps(), 5);
    let after = run(&setup, &mut state, folders.1.path(), u64::MAX)?;
    assert_eq!(after.records, expected.records[5..]);
    assert_same_bits("after step 5", &state, &uninterrupted)
}

#[test]
fn loss_that_is_not_finite_stops_the_run_and_names_step_and_term() -> TestResult {
    let folder = tempfile::tempdir()?;
    let rule = StepRule::Sgd { momentum: 0.0, nesterov: false };
    let setup = Setup { rule, learning_rate: 1e30, checkpoint_every: 1, ..Setup::s5cl() };
    let mut state = setup.state(SEED)?;
    let run = run(&setup, &mut state, folder.path(), u64::MAX)?;
    let Err(TrainError::NotFinite { step, term, value }) = &run.ended else {
        return Err(format!("not stopped: {:?}", run.ended).into());
    };
    assert!(!value.is_finite());
    // Weights of 1e30 make maps that are not numbers, and normalization does not hide them.
    assert_eq!((*step, *term), (1, "the supervised term"));
    assert_eq!(run.records.len(), 1, "a step that fails is not told as taken");
    assert_eq!(state.steps(), 1, "nor taken");
    assert_eq!(run.saved.last().map(|(step, _)| *step), Some(1));
    assert_eq!(names_in(folder.path())?, ["step-00000001"]);
    Ok(())
}

#[test]
fn average_follows_its_formula() -> TestResult {
    let variable = Var::new(0_f32, &Device::Cpu)?;
    let parameters = BTreeMap::from([("weight".to_owned(), variable.clone())]);
    let mut average = WeightAverage::new(0.9, &parameters)?;
    let mut expected = 0.0;
    // The decay is limited at first, by (1 + steps) / (10 + steps).
    for (value, steps, decay) in [(1.0, 1, 2.0 / 11.0), (2.0, 2, 0.25), (4.0, 1000, 0.9)] {
        variable.set(&Tensor::new(value as f32, &Device::Cpu)?)?;
        average.update(steps)?;
        expected = decay * expected + (1.0 - decay) * value;
        let got = f64::from(average.weights()?["weight"].to_scalar::<f32>()?);
        assert!((got - expected).abs() < 1e-6, "step {steps}: {got}, expected {expected}");
    }
    Ok(())
}
