//! Tiny encoders of each architecture against timm's and torchvision's: every stage, encodings,
//! statistics and gradients; and the parameters of those of full size.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use s5cl_backbone::{
    Architecture, Block, ConvNextConfig, EfficientNetConfig, Encoder, EncoderConfig, FeedForward,
    MobileStage, Mode, Parameters, Precision, Prefix, ResNetConfig, StageKind, Stem, TokenPool,
    Trained, VitConfig, WideResNetConfig, load_weights,
};

use crate::golden_files::{TestResult, array, arrays, assert_close, channels_last, gradient, path};

/// Some dozen layers in f32; the golden values are f64. PyTorch's own f32 is off by 3e-6.
const FEATURES: f64 = 1e-5;
/// The way back through them, in which normalization cancels large terms.
const GRADIENT: f64 = 1e-4;

fn vit() -> VitConfig {
    VitConfig {
        patch_size: 7,
        dim: 24,
        depth: 2,
        n_heads: 3,
        feed_forward: FeedForward::Gelu(96),
        layer_scale: Some(1e-5),
        prefix: Prefix { n_registers: 0, n_positioned: 1 },
        pool: TokenPool::Class,
        epsilon: 1e-6,
    }
}

fn vit_registers() -> VitConfig {
    VitConfig {
        patch_size: 14,
        dim: 32,
        n_heads: 2,
        feed_forward: FeedForward::GatedSilu(85),
        prefix: Prefix { n_registers: 3, n_positioned: 0 },
        pool: TokenPool::ClassAndMean,
        ..vit()
    }
}

fn vit_positioned_registers() -> VitConfig {
    VitConfig { prefix: Prefix { n_registers: 2, n_positioned: 3 }, ..vit() }
}

/// Name, architecture, and side of the images where it matters.
pub(crate) fn cases() -> Vec<(&'static str, Architecture, usize)> {
    let resnet = ResNetConfig {
        stem: Stem::Standard,
        block: Block::Bottleneck,
        blocks: [1, 2, 1, 1],
        channels: [4, 6, 8, 12],
    };
    let wide_resnet = WideResNetConfig { depth: 16, stem_channels: 3, channels: [6, 12, 24] };
    let convnext = ConvNextConfig { blocks: [1, 1, 2, 1], channels: [8, 12, 20, 24] };
    let stage = |kind, expansion, stride, channels, blocks| MobileStage {
        kind,
        expansion,
        stride,
        channels,
        blocks,
    };
    let efficientnet = EfficientNetConfig {
        stem_channels: 8,
        stages: vec![
            stage(StageKind::Fused, 1, 1, 8, 1),
            stage(StageKind::Fused, 4, 2, 24, 1),
            stage(StageKind::Mobile, 4, 2, 24, 2),
            stage(StageKind::Mobile, 6, 1, 40, 1),
        ],
        dim: 56,
    };
    vec![
        ("resnet_bottleneck", Architecture::ResNet(resnet), 0),
        ("wide_resnet", Architecture::WideResNet(wide_resnet), 0),
        ("convnext", Architecture::ConvNext(convnext), 0),
        ("efficientnet_v2", Architecture::EfficientNet(efficientnet), 0),
        ("vit", Architecture::Vit(vit()), 28),
        ("vit_registers", Architecture::Vit(vit_registers()), 42),
        ("vit_positioned_registers", Architecture::Vit(vit_positioned_registers()), 28),
    ]
}

/// An encoder with golden weights.
struct Golden {
    encoder: Encoder,
    parameters: Parameters,
}

impl Golden {
    fn new(
        name: &str,
        architecture: &Architecture,
        image_size: usize,
        trained: Trained,
    ) -> TestResult<Self> {
        let file = format!("encoder_{name}.safetensors");
        Self::of_file(&file, architecture, image_size, trained)
    }

    fn of_file(
        file: &str,
        architecture: &Architecture,
        image_size: usize,
        trained: Trained,
    ) -> TestResult<Self> {
        let (architecture, precision) = (architecture.clone(), Precision::F32);
        let parameters = Parameters::new(0);
        let config = EncoderConfig { architecture, image_size, trained, precision };
        let encoder = Encoder::new(&config, &parameters.builder(&Device::Cpu))?;
        load_weights(&path(file), &parameters.all())?;
        Ok(Self { encoder, parameters })
    }
}

fn expected(name: &str) -> TestResult<BTreeMap<String, Tensor>> {
    arrays(&format!("encoder_{name}_expected.safetensors"))
}

#[test]
fn encoder_features_are_the_golden_ones() -> TestResult {
    for (name, architecture, size) in cases() {
        let Golden { encoder, .. } = Golden::new(name, &architecture, size, Trained::All)?;
        let expected = expected(name)?;
        let images = channels_last(array(&expected, "input")?)?;
        for (mode, key) in [(Mode::Evaluate, "features_eval"), (Mode::Train, "features_train")] {
            let features = encoder.forward(&images, mode)?;
            let what = format!("{name} {key}");
            assert_close(&what, &features, array(&expected, key)?, FEATURES)?;
        }
    }
    Ok(())
}

#[test]
fn encoder_stages_are_the_golden_ones_and_the_rest_trains_on_them() -> TestResult {
    for (name, architecture, size) in cases() {
        let expected = expected(name)?;
        let images = channels_last(array(&expected, "input")?)?;
        for stage in 0..architecture.n_stages() - 1 {
            let trained = Trained::Last(architecture.n_stages() - 1 - stage);
            let golden = Golden::new(name, &architecture, size, trained)?;
            let maps = golden.encoder.forward_frozen(&images)?;
            let of_stage = array(&expected, &format!("stage.{stage}"))?;
            let of_stage = match of_stage.rank() {
                3 => of_stage.unsqueeze(1)?,
                _ => channels_last(of_stage)?,
            };
            assert_close(&format!("{name} stage {stage}"), &maps, &of_stage, FEATURES)?;
            let features = golden.encoder.forward_trained(&maps, Mode::Evaluate)?;
            let what = format!("{name} behind stage {stage}");
            assert_close(&what, &features, array(&expected, "features_eval")?, FEATURES)?;
            trains_only_what_is_not_frozen(name, &golden, &images)?;
        }
    }
    Ok(())
}

fn trains_only_what_is_not_frozen(name: &str, golden: &Golden, images: &Tensor) -> TestResult {
    let before: BTreeMap<String, Vec<f32>> = contents(&golden.parameters)?;
    let frozen = golden.encoder.frozen_parameters();
    let features = golden.encoder.forward(images, Mode::Train)?;
    let gradients = features.sqr()?.sum_all()?.backward()?;
    for (key, variable) in golden.parameters.trainable() {
        let has_gradient = gradients.get(&variable).is_some();
        assert_eq!(has_gradient, !frozen.contains(&key), "{name}: {key}");
    }
    // The statistics of frozen stages stay as they are, those of the others move.
    for (key, values) in contents(&golden.parameters)? {
        let Some(layer) = key.strip_suffix("running_mean") else { continue };
        let is_frozen = frozen.contains(&format!("{layer}weight"));
        assert_eq!(values == before[&key], is_frozen, "{name}: {key}");
    }
    Ok(())
}

fn contents(parameters: &Parameters) -> TestResult<BTreeMap<String, Vec<f32>>> {
    let values =
        |(key, variable): (String, Var)| Ok((key, variable.flatten_all()?.to_vec1::<f32>()?));
    parameters.all().into_iter().map(values).collect()
}

#[test]
fn encoder_statistics_are_the_golden_ones() -> TestResult {
    for (name, architecture, size) in cases() {
        let golden = Golden::new(name, &architecture, size, Trained::All)?;
        let expected = expected(name)?;
        let images = channels_last(array(&expected, "input")?)?;
        golden.encoder.forward(&images, Mode::Train)?;
        for (key, variable) in golden.parameters.all() {
            if key.contains("running_") {
                let expected = array(&expected, &format!("after.{key}"))?;
                assert_close(&format!("{name} {key}"), &variable, expected, FEATURES)?;
            }
        }
    }
    Ok(())
}

#[test]
fn encoder_gradients_are_the_golden_ones() -> TestResult {
    for (name, architecture, size) in cases() {
        let golden = Golden::new(name, &architecture, size, Trained::All)?;
        let expected = expected(name)?;
        let images = Var::from_tensor(&channels_last(array(&expected, "input")?)?)?;
        let features = golden.encoder.forward(&images, Mode::Train)?;
        let loss = (features * array(&expected, "loss_weights")?)?.sum_all()?;
        let gradients = loss.backward()?;
        let variables = golden.parameters.all();
        let mut n_checked = 0;
        for (key, expected) in &expected {
            let Some(key) = key.strip_prefix("grad.") else { continue };
            let what = format!("{name} {key}");
            if key == "input" {
                let got = gradient(&gradients, &images)?;
                assert_close(&what, got, &channels_last(expected)?, GRADIENT)?;
            } else {
                assert_close(&what, gradient(&gradients, &variables[key])?, expected, GRADIENT)?;
            }
            n_checked += 1;
        }
        assert!(n_checked >= 14, "{name}: {n_checked} gradients");
    }
    Ok(())
}

#[test]
fn encoder_of_which_norms_train_leaves_the_rest() -> TestResult {
    for (name, architecture, size) in cases() {
        let golden = Golden::new(name, &architecture, size, Trained::Norm)?;
        let expected = expected(name)?;
        let images = channels_last(array(&expected, "input")?)?;
        let features = golden.encoder.forward(&images, Mode::Train)?;
        assert_close(name, &features, array(&expected, "features_train")?, FEATURES)?;
        let loss = (features * array(&expected, "loss_weights")?)?.sum_all()?;
        let gradients = loss.backward()?;
        let frozen = golden.encoder.frozen_parameters();
        let variables = golden.parameters.trainable();
        for (key, variable) in &variables {
            // Of normalizations there are vectors only; class tokens and layer scales are none.
            let of_norm = !frozen.contains(key);
            assert_eq!(gradients.get(variable).is_some(), of_norm, "{name} {key}");
            assert!(!of_norm || variable.rank() == 1, "{name} {key}");
            if let (true, Some(golden)) = (of_norm, expected.get(&format!("grad.{key}"))) {
                assert_close(key, gradient(&gradients, variable)?, golden, GRADIENT)?;
            }
        }
        assert!(!frozen.is_empty() && frozen.len() < variables.len(), "{name}");
    }
    Ok(())
}

#[test]
fn encoder_that_is_frozen_gives_constants() -> TestResult {
    for (name, architecture, size) in cases() {
        let golden = Golden::new(name, &architecture, size, Trained::None)?;
        let expected = expected(name)?;
        let images = channels_last(array(&expected, "input")?)?;
        let features = golden.encoder.forward(&images, Mode::Train)?;
        assert_close(name, &features, array(&expected, "features_eval")?, FEATURES)?;
        assert!(!features.track_op(), "{name}");
        let frozen = golden.encoder.frozen_parameters().len();
        assert_eq!(frozen, golden.parameters.trainable().len(), "{name}");
    }
    Ok(())
}

#[test]
fn encoder_weights_of_other_sources_give_their_features() -> TestResult {
    let plain = VitConfig { layer_scale: None, epsilon: 1e-12, ..vit() };
    let torchvision = VitConfig { layer_scale: None, ..vit() };
    let registers = VitConfig { prefix: Prefix { n_registers: 3, n_positioned: 0 }, ..vit() };
    let of = |name: &str| -> TestResult<Architecture> {
        let case = cases().into_iter().find(|(known, ..)| *known == name);
        Ok(case.ok_or(name)?.1)
    };
    let sources = [
        ("dinov2_transformers.safetensors", "dinov2_transformers", Architecture::Vit(vit()), 28),
        ("vit_transformers.safetensors", "vit_transformers", Architecture::Vit(plain), 28),
        (
            "dinov2_registers_transformers.safetensors",
            "dinov2_registers_transformers",
            Architecture::Vit(registers.clone()),
            28,
        ),
        (
            "dinov2_own.safetensors",
            "dinov2_registers_transformers",
            Architecture::Vit(registers),
            28,
        ),
        ("vit_torchvision.safetensors", "vit_torchvision", Architecture::Vit(torchvision), 28),
        ("vit.safetensors", "vit_interpolated", Architecture::Vit(vit()), 42),
        ("convnext_torchvision.safetensors", "convnext", of("convnext")?, 0),
        ("resnet_bottleneck.pth", "resnet_bottleneck", of("resnet_bottleneck")?, 0),
    ];
    for (file, name, architecture, size) in sources {
        let file = format!("encoder_{file}");
        let golden = Golden::of_file(&file, &architecture, size, Trained::All)?;
        let expected = expected(name)?;
        let images = channels_last(array(&expected, "input")?)?;
        let features = golden.encoder.forward(&images, Mode::Evaluate)?;
        assert_close(&file, &features, array(&expected, "features_eval")?, FEATURES)?;
    }
    Ok(())
}
