//! A small ResNet with both stems against torchvision: features, statistics, gradients; and how
//! its weights are loaded or refused.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use s5cl_backbone::{
    Architecture, Block, Encoder, EncoderConfig, Mode, Model, ModelConfig, Parameters, Precision,
    ResNetConfig, Stem, Trained, WeightsError, load_weights, save_weights,
};

use crate::golden_files::{TestResult, array, arrays, assert_close, channels_last, gradient, path};

/// Nine convolutions and batch normalizations in f32; the golden values are f64.
const FEATURES: f64 = 1e-5;
/// The way back through them, in which batch normalization cancels large terms.
const GRADIENT: f64 = 1e-4;

const STEMS: [(Stem, &str); 2] = [(Stem::Standard, "stem7"), (Stem::Small, "stem3")];

struct Tiny {
    parameters: Parameters,
    resnet: Encoder,
}

impl Tiny {
    fn new(stem: Stem) -> TestResult<Self> {
        let (blocks, channels) = ([1; 4], [4, 8, 8, 16]);
        let config = ResNetConfig { stem, block: Block::Basic, blocks, channels };
        let parameters = Parameters::new(0);
        let encoder = EncoderConfig {
            architecture: Architecture::ResNet(config),
            image_size: 0,
            trained: Trained::All,
            precision: Precision::F32,
        };
        let resnet = Encoder::new(&encoder, &parameters.builder(&Device::Cpu))?;
        Ok(Self { parameters, resnet })
    }

    fn with_golden_weights(stem: Stem, name: &str) -> TestResult<Self> {
        let tiny = Self::new(stem)?;
        load_weights(&weights_path(name), &tiny.parameters.all())?;
        Ok(tiny)
    }
}

fn weights_path(stem: &str) -> std::path::PathBuf {
    path(&format!("resnet_{stem}.safetensors"))
}

/// Every value of a model, to see that nothing changed.
fn contents(parameters: &Parameters) -> TestResult<Vec<f32>> {
    let mut contents = Vec::new();
    for variable in parameters.all().values() {
        contents.extend(variable.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(contents)
}

/// Saves tensors to a file of their own and loads it into a fresh network with the small stem;
/// what was refused must have changed nothing.
fn load_changed(
    change: impl FnOnce(&mut BTreeMap<String, Tensor>) -> TestResult,
) -> TestResult<(Tiny, Result<s5cl_backbone::KeyReport, WeightsError>)> {
    let mut tensors = arrays("resnet_stem3.safetensors")?;
    change(&mut tensors)?;
    load_bytes(&save_weights(&tensors, &BTreeMap::new())?)
}

fn load_bytes(bytes: &[u8]) -> TestResult<(Tiny, Result<s5cl_backbone::KeyReport, WeightsError>)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weights.safetensors");
    std::fs::write(&file, bytes)?;
    let tiny = Tiny::new(Stem::Small)?;
    let before = contents(&tiny.parameters)?;
    let loaded = load_weights(&file, &tiny.parameters.all());
    let is_changed = contents(&tiny.parameters)? != before;
    assert_eq!(is_changed, loaded.is_ok(), "refusal and change must exclude each other");
    Ok((tiny, loaded))
}

#[test]
fn resnet_features_are_the_golden_ones() -> TestResult {
    for (stem, name) in STEMS {
        let tiny = Tiny::with_golden_weights(stem, name)?;
        let expected = arrays(&format!("resnet_{name}_expected.safetensors"))?;
        let images = channels_last(array(&expected, "input")?)?;
        for (mode, key) in [(Mode::Evaluate, "features_eval"), (Mode::Train, "features_train")] {
            let features = tiny.resnet.forward(&images, mode)?;
            let what = format!("{name} {key}");
            assert_close(&what, &features, array(&expected, key)?, FEATURES)?;
        }
    }
    Ok(())
}

#[test]
fn resnet_running_statistics_are_the_golden_ones() -> TestResult {
    for (stem, name) in STEMS {
        let tiny = Tiny::with_golden_weights(stem, name)?;
        let expected = arrays(&format!("resnet_{name}_expected.safetensors"))?;
        let images = channels_last(array(&expected, "input")?)?;
        tiny.resnet.forward(&images, Mode::Evaluate)?;
        tiny.resnet.forward(&images, Mode::Train)?;
        let mut n_checked = 0;
        for (key, variable) in tiny.parameters.all() {
            if key.contains("running_") {
                let expected = array(&expected, &format!("after.{key}"))?;
                assert_close(&format!("{name} {key}"), &variable, expected, FEATURES)?;
                n_checked += 1;
            }
        }
        assert_eq!(n_checked, 2 * 12, "12 layers have a mean and a variance");
    }
    Ok(())
}

#[test]
fn resnet_gradients_are_the_golden_ones() -> TestResult {
    for (stem, name) in STEMS {
        let tiny = Tiny::with_golden_weights(stem, name)?;
        let expected = arrays(&format!("resnet_{name}_expected.safetensors"))?;
        let images = channels_last(array(&expected, "input")?)?;
        let features = tiny.resnet.forward(&images, Mode::Train)?;
        let loss = (features * array(&expected, "loss_weights")?)?.sum_all()?;
        let gradients = loss.backward()?;
        let variables = tiny.parameters.all();
        let mut n_checked = 0;
        for (key, expected) in &expected {
            let Some(key) = key.strip_prefix("grad.") else { continue };
            let got = gradient(&gradients, &variables[key])?;
            assert_close(&format!("{name} {key}"), got, expected, GRADIENT)?;
            n_checked += 1;
        }
        assert_eq!(n_checked, 11);
    }
    Ok(())
}

#[test]
fn weights_report_names_every_key() -> TestResult {
    let (tiny, loaded) = load_changed(|tensors| {
        tensors.insert("fc.weight".into(), Tensor::zeros((1000, 16), DType::F32, &Device::Cpu)?);
        tensors.insert("fc.bias".into(), Tensor::zeros(1000, DType::F32, &Device::Cpu)?);
        Ok(())
    })?;
    let report = loaded?;
    let known: Vec<String> = tiny.parameters.all().into_keys().collect();
    assert_eq!(report.matched, known);
    assert!(report.missing.is_empty() && report.misshapen.is_empty(), "{report}");
    assert!(report.unexpected.is_empty() && report.is_complete(), "{report}");
    let (counters, others): (Vec<&String>, Vec<&String>) =
        report.ignored.iter().partition(|key| key.ends_with("num_batches_tracked"));
    assert_eq!((counters.len(), others), (12, vec![&"fc.bias".into(), &"fc.weight".into()]));
    Ok(())
}

#[test]
fn weights_may_lack_the_heads_and_leave_them() -> TestResult {
    let encoder = EncoderConfig::named("resnet-slim", 32)?;
    let config = ModelConfig { encoder, embedding_dim: 8, n_classes: 3 };
    let build = |seed: u64| -> TestResult<Parameters> {
        let parameters = Parameters::new(seed);
        Model::new(&config, &parameters.builder(&Device::Cpu))?;
        Ok(parameters)
    };
    let is_head = |key: &str| key.starts_with("embedder.") || key.starts_with("classifier.");
    let (pretrained, ours) = (build(1)?, build(2)?);
    let detached = |(key, value): (String, Var)| (key, value.as_detached_tensor());
    let encoder: BTreeMap<String, Tensor> =
        pretrained.all().into_iter().filter(|(key, _)| !is_head(key)).map(detached).collect();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("encoder.safetensors");
    std::fs::write(&file, save_weights(&encoder, &BTreeMap::new())?)?;

    let report = load_weights(&file, &ours.all())?;
    let heads = ["classifier.bias", "classifier.weight", "embedder.bias", "embedder.weight"];
    assert_eq!(report.missing, heads);
    let fresh = build(2)?.all();
    for (key, variable) in ours.all() {
        let expected = if is_head(&key) { &fresh[&key] } else { &pretrained.all()[&key] };
        assert_close(&key, &variable, expected, 0.0)?;
    }
    Ok(())
}

#[test]
fn weights_of_another_architecture_are_refused() -> TestResult {
    let (_, loaded) = load_bytes(&std::fs::read(weights_path("stem7"))?)?;
    let Err(WeightsError::Mismatch { report, .. }) = loaded else {
        return Err(format!("not refused as another architecture: {loaded:?}").into());
    };
    assert!(report.misshapen[0].starts_with("conv1.weight [4, 3, 7, 7]"), "{report}");

    let (_, loaded) = load_changed(|tensors| {
        tensors.retain(|key, _| !key.starts_with("layer4.0.downsample"));
        Ok(())
    })?;
    let Err(WeightsError::Mismatch { report, .. }) = loaded else {
        return Err(format!("not refused as another architecture: {loaded:?}").into());
    };
    assert_eq!(report.missing.len(), 5, "{report}");

    // One block more: every key of ours is there, and yet it is another network.
    let (_, loaded) = load_changed(|tensors| {
        let block = tensors["layer4.0.conv2.weight"].clone();
        tensors.insert("layer4.1.conv1.weight".to_owned(), block);
        Ok(())
    })?;
    let Err(WeightsError::Mismatch { report, .. }) = loaded else {
        return Err(format!("not refused as another architecture: {loaded:?}").into());
    };
    assert_eq!(report.unexpected, ["layer4.1.conv1.weight"], "{report}");
    Ok(())
}

#[test]
fn weights_that_are_no_numbers_of_a_weight_are_refused() -> TestResult {
    let (_, loaded) = load_changed(|tensors| {
        let whole = Tensor::ones(16, DType::I64, &Device::Cpu)?;
        tensors.insert("layer4.0.downsample.1.weight".to_owned(), whole);
        Ok(())
    })?;
    let message = loaded.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("downsample.1.weight") && message.contains("I64"), "{message:?}");
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        let (tiny, loaded) = load_changed(|tensors| {
            let ones = Tensor::ones(16, dtype, &Device::Cpu)?;
            tensors.insert("layer4.0.downsample.1.weight".to_owned(), ones);
            Ok(())
        })?;
        loaded?;
        let weight = tiny.parameters.all()["layer4.0.downsample.1.weight"].to_vec1::<f32>()?;
        assert_eq!(weight, [1.0; 16], "{dtype:?}");
    }
    Ok(())
}

#[test]
fn weights_of_a_head_of_another_size_are_left_out() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weights.safetensors");
    let build = |n_classes: usize| -> TestResult<Parameters> {
        let encoder = EncoderConfig::named("resnet-slim", 32)?;
        let config = ModelConfig { encoder, embedding_dim: 8, n_classes };
        let parameters = Parameters::new(n_classes as u64);
        Model::new(&config, &parameters.builder(&Device::Cpu))?;
        Ok(parameters)
    };
    let (theirs, ours) = (build(9)?.all(), build(3)?.all());
    let tensors = theirs.iter().map(|(k, v)| (k.clone(), v.as_detached_tensor())).collect();
    std::fs::write(&file, save_weights(&tensors, &BTreeMap::new())?)?;
    let before = ours["classifier.weight"].as_detached_tensor().copy()?;
    let report = load_weights(&file, &ours)?;
    assert_eq!(report.misshapen.len(), 2, "{report}");
    assert!(!report.is_complete() && report.missing.is_empty(), "{report}");
    assert_close("embedder", &ours["embedder.weight"], &theirs["embedder.weight"], 0.0)?;
    assert_close("classifier", &ours["classifier.weight"], &before, 0.0)
}

#[test]
fn weights_that_are_not_finite_are_refused() -> TestResult {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        // The last key: whatever was changed before it was met would stay changed.
        let key = "layer4.0.downsample.1.weight";
        let (_, loaded) = load_changed(|tensors| {
            let mut values = vec![1.0; 16];
            values[7] = value;
            tensors.insert(key.to_owned(), Tensor::new(values, &Device::Cpu)?);
            Ok(())
        })?;
        let message = loaded.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains(key) && message.contains("not finite"), "{value}: {message:?}");
    }
    Ok(())
}

#[test]
fn weights_cut_off_are_refused() -> TestResult {
    let bytes = std::fs::read(weights_path("stem3"))?;
    for length in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        let (_, loaded) = load_bytes(&bytes[..length])?;
        assert!(matches!(loaded, Err(WeightsError::Format { .. })), "{length}: {loaded:?}");
    }
    let nowhere = load_weights(Path::new("no/such/file"), &BTreeMap::new());
    assert!(matches!(nowhere, Err(WeightsError::Io { .. })), "{nowhere:?}");
    Ok(())
}
