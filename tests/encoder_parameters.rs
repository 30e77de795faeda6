//! Names and shapes of all parameters of encoders of full size, as timm and torchvision list them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use s5cl_backbone::{ENCODERS, Encoder, EncoderConfig};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::golden_files::{TestResult, json};

#[derive(Deserialize)]
struct Golden {
    full_size: BTreeMap<String, FullSize>,
}

#[derive(Deserialize)]
struct FullSize {
    n_keys: usize,
    n_parameters: usize,
    sha256: String,
    image_size: Option<usize>,
}

/// Our names, and theirs.
const NAMES: [(&str, &str); 13] = [
    ("resnet18", "resnet18"),
    ("resnet34", "resnet34"),
    ("resnet50", "resnet50"),
    ("resnet101", "resnet101"),
    ("wide-resnet28-2", "wide_resnet28_2"),
    ("convnext-tiny", "convnext_tiny"),
    ("efficientnet-v2-s", "efficientnet_v2_s"),
    ("vit-small-16", "vit_small_patch16_224"),
    ("vit-base-16", "vit_base_patch16_224"),
    ("vit-small-14-dinov2", "vit_small_patch14_dinov2"),
    ("vit-base-14-dinov2", "vit_base_patch14_dinov2"),
    ("vit-large-14-dinov2", "vit_large_patch14_dinov2"),
    ("vit-small-14-reg4", "vit_small_patch14_reg4_dinov2"),
];

/// Hands out zeros, which take no memory before they are read, and writes down what was asked for.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl SimpleBackend for Recorder {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        self.0.lock().unwrap().insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros(shape, dtype, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} is asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

fn recorded(name: &str, image_size: usize) -> TestResult<(Encoder, BTreeMap<String, Vec<usize>>)> {
    let recorder = Recorder::default();
    let backend = Box::new(recorder.clone());
    let builder = VarBuilder::from_backend(backend, DType::F32, Device::Cpu);
    let encoder = Encoder::new(&EncoderConfig::named(name, image_size)?, &builder)?;
    let parameters = recorder.0.lock().unwrap().clone();
    Ok((encoder, parameters))
}

fn is_statistic(key: &str) -> bool {
    key.ends_with("running_mean") || key.ends_with("running_var")
}

#[test]
fn encoder_parameters_are_those_of_the_libraries() -> TestResult {
    let golden: Golden = json("encoders.json")?;
    let theirs: BTreeSet<&str> = NAMES.iter().map(|(_, name)| *name).collect();
    let listed: BTreeSet<&str> = golden.full_size.keys().map(String::as_str).collect();
    assert_eq!(theirs, listed);
    for (ours, theirs) in NAMES {
        let expected = &golden.full_size[theirs];
        let (_, parameters) = recorded(ours, expected.image_size.unwrap_or(224))?;
        assert_eq!(parameters.len(), expected.n_keys, "{ours}");
        let trained = parameters.iter().filter(|(key, _)| !is_statistic(key));
        let n_parameters: usize = trained.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(n_parameters, expected.n_parameters, "{ours}");
        let mut lines: Vec<String> =
            parameters.iter().map(|(key, shape)| format!("{key} {shape:?}\n")).collect();
        lines.sort_unstable();
        let hash = Sha256::digest(lines.concat());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, expected.sha256, "{ours}: {lines:?}");
    }
    Ok(())
}

/// Small ones, of which no library's list is at hand, have parameters of the same names as these.
#[test]
fn encoder_stages_hold_every_parameter_once() -> TestResult {
    for name in ENCODERS {
        let (encoder, parameters) = recorded(name, 224)?;
        let trained: BTreeSet<&String> =
            parameters.keys().filter(|key| !is_statistic(key)).collect();
        assert_eq!(encoder.stages().keys().collect::<BTreeSet<_>>(), trained, "{name}");
        let stages: BTreeSet<usize> = encoder.stages().values().copied().collect();
        assert_eq!(stages, (0..encoder.n_stages()).collect(), "{name}");
        let factors = encoder.learning_rate_factors(0.5);
        let (first, last) = (0.5_f64.powi(encoder.n_stages() as i32), 0.5);
        let (mut smallest, mut largest) = (f64::INFINITY, 0.0_f64);
        factors.values().for_each(|&factor| {
            (smallest, largest) = (smallest.min(factor), largest.max(factor));
        });
        assert_eq!((smallest, largest), (first, last), "{name}");
    }
    Ok(())
}
