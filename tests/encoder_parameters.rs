//! Names and shapes of all parameters of encoders of full size, as timm and torchvision list them.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Device;
use s5cl_backbone::{Architecture, ENCODERS, Encoder, EncoderConfig, Parameters};
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
        let architecture = Architecture::named(ours).ok_or(ours)?;
        let parameters = architecture.parameter_shapes(expected.image_size.unwrap_or(224))?;
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

#[test]
fn encoder_stages_hold_every_parameter_once() -> TestResult {
    for name in ["resnet18", "resnet50", "wide-resnet28-2", "convnext-tiny", "vit-small-14-reg4"] {
        let parameters = Parameters::new(0);
        let encoder =
            Encoder::new(&EncoderConfig::named(name, 224)?, &parameters.builder(&Device::Cpu))?;
        let trainable = parameters.trainable();
        let trained: BTreeSet<&String> = trainable.keys().collect();
        assert_eq!(encoder.stages().keys().collect::<BTreeSet<_>>(), trained, "{name}");
        let stages: BTreeSet<usize> = encoder.stages().values().copied().collect();
        assert_eq!(stages, (0..encoder.n_stages()).collect(), "{name}");
        let factors = encoder.learning_rate_factors(0.5);
        let (mut smallest, mut largest) = (f64::INFINITY, 0.0_f64);
        for &factor in factors.values() {
            (smallest, largest) = (smallest.min(factor), largest.max(factor));
        }
        let expected = (0.5_f64.powi(encoder.n_stages() as i32), 0.5);
        assert_eq!((smallest, largest), expected, "{name}");
    }
    Ok(())
}

#[test]
fn encoders_of_every_name_have_parameters() -> TestResult {
    for name in ENCODERS {
        let architecture = Architecture::named(name).ok_or(name)?;
        let parameters = architecture.parameter_shapes(224)?;
        assert!(parameters.len() > 30, "{name}: {}", parameters.len());
    }
    Ok(())
}
