//! Checkpoints of runs: how many stay, and which are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use s5cl_trainer::{StepRule, TrainError, WeightAverage};

use crate::golden_files::TestResult;
use crate::pipeline::{MODEL, SEED, finished};
use crate::pipeline_batches::Setup;

/// The names in a folder, sorted.
pub(crate) fn names_in(folder: &Path) -> TestResult<Vec<String>> {
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = fs::read_dir(folder)?.map(name).collect::<TestResult<_>>()?;
    names.sort();
    Ok(names)
}

#[test]
fn checkpoints_beyond_those_to_keep_are_removed() -> TestResult {
    let folder = tempfile::tempdir()?;
    let setup = Setup { checkpoint_every: 5, keep: 2, ..Setup::s5cl() };
    let (_, run) = finished(&setup, folder.path())?;
    let steps: Vec<u64> = run.saved.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [5, 10, 12]);
    assert_eq!(names_in(folder.path())?, ["step-00000010", "step-00000012"]);
    Ok(())
}

#[test]
fn checkpoint_that_is_damaged_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let setup = Setup::s5cl();
    let checkpoints = setup.checkpoints(folder.path(), MODEL);
    let place = checkpoints.save(&setup.state(SEED)?)?;
    let damaged = || match checkpoints.newest() {
        Err(TrainError::Damaged { path, reason }) if path == place => reason,
        other => format!("not refused: {other:?}"),
    };
    for (file, expected) in [
        ("state.safetensors", "the checksum of state.safetensors differs"),
        ("checkpoint.json", "checkpoint.json is not as written"),
    ] {
        let file = place.join(file);
        let whole = fs::read(&file)?;
        for position in [0, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x10;
            fs::write(&file, &bytes)?;
            assert!(damaged().starts_with(expected), "byte {position}: {}", damaged());
        }
        fs::write(&file, &whole[..whole.len() / 2])?;
        assert!(damaged().starts_with(expected), "cut off: {}", damaged());
        fs::remove_file(&file)?;
        assert!(damaged().starts_with("cannot read"), "removed: {}", damaged());
        fs::write(&file, &whole)?;
        assert!(checkpoints.newest()?.is_some_and(|newest| newest.path == place));
    }
    Ok(())
}

#[test]
fn checkpoint_header_with_other_numbers_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let setup = Setup::s5cl();
    let checkpoints = setup.checkpoints(folder.path(), MODEL);
    let header = checkpoints.save(&setup.state(SEED)?)?.join("checkpoint.json");
    let whole = fs::read_to_string(&header)?;
    for (written, other, expected) in [
        ("\"step\": 0", "\"step\": 1", "is damaged: checkpoint.json says that it is of step 1"),
        ("\"schema\": 1", "\"schema\": 2", "does not fit this run: it has schema 2"),
    ] {
        assert!(whole.contains(written), "{whole}");
        fs::write(&header, whole.replace(written, other))?;
        let message = checkpoints.newest().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    Ok(())
}

#[test]
fn checkpoint_of_another_model_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let setup = Setup::s5cl();
    setup.checkpoints(folder.path(), MODEL).save(&setup.state(SEED)?)?;

    let error = setup.checkpoints(folder.path(), "resnet18").newest().unwrap_err();
    assert!(matches!(&error, TrainError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("model is resnet-slim 16 there and resnet18 here"));

    // The same identity, and yet another shape, optimizer or average.
    for other in [
        Setup { embedding_dim: 8, ..setup },
        Setup { rule: StepRule::AdamW { betas: [0.9, 0.999], epsilon: 1e-8 }, ..setup },
    ] {
        let newest = setup.checkpoints(folder.path(), MODEL).newest()?.ok_or("no checkpoint")?;
        let error = newest.restore(&mut other.state(SEED)?).unwrap_err();
        assert!(matches!(error, TrainError::Foreign { .. }), "{other:?}: {error}");
    }
    let without_average = tempfile::tempdir()?;
    let plain = Setup { ema_decay: None, ..setup };
    plain.checkpoints(without_average.path(), MODEL).save(&plain.state(SEED)?)?;
    let newest =
        setup.checkpoints(without_average.path(), MODEL).newest()?.ok_or("no checkpoint")?;
    let error = newest.restore(&mut setup.state(SEED)?).unwrap_err();
    assert!(error.to_string().contains("no average"), "{error}");
    Ok(())
}

#[test]
fn average_refuses_weights_of_another_kind_and_decays_out_of_range() -> TestResult {
    let parameters = BTreeMap::from([("weight".to_owned(), Var::new(&[0_f32], &Device::Cpu)?)]);
    let mut average = WeightAverage::new(0.9, &parameters)?;
    for (weight, expected) in [
        (Tensor::new(&[1_f64], &Device::Cpu)?, "the average of weight is F64 [1]"),
        (Tensor::new(&[1_f32, 2.0], &Device::Cpu)?, "the average of weight is F32 [2]"),
    ] {
        let kept = BTreeMap::from([("weight".to_owned(), weight)]);
        let error = average.restore(&kept).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for decay in [-0.1, 1.5, f64::NAN] {
        assert!(WeightAverage::new(decay, &parameters).is_err(), "{decay}");
    }
    Ok(())
}
