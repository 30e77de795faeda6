//! Three steps of training a narrow ResNet-18 against PyTorch in f64, with both stems.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use s5cl_backbone::{
    Architecture, Encoder, EncoderConfig, Mode, Parameters, Precision, ResNetConfig, Stem, Trained,
};

use crate::golden_files::{TestResult, array, arrays, assert_close, channels_last, gradient};

/// Twenty convolutions and normalizations in f32: three times what is measured, as all of these.
const FEATURES: f64 = 1e-5;
/// The way back through them, in which batch normalization cancels large terms.
const GRADIENT: f64 = 2.5e-5;
/// Features and statistics after steps, of images whose maps come close to no ReLU.
const TRAINED: f64 = 6e-6;

const BATCH: usize = 3;
const CHANNELS: [usize; 4] = [32, 32, 16, 16];
const STEPS: usize = 3;
const RATE: f64 = 0.002;

/// Stem, name; height, width and seed of the images.
const CASES: [(Stem, &str, (usize, usize, u64)); 2] =
    [(Stem::Standard, "stem7", (122, 138, 101)), (Stem::Small, "stem3", (31, 47, 103))];

/// `draw` of the golden script.
fn draw(seed: u64, shape: &[usize]) -> Vec<f64> {
    let mut state = seed;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    std::iter::repeat_with(next).skip(8).take(shape.iter().product()).collect()
}

fn drawn(seed: u64, shape: &[usize]) -> candle_core::Result<Tensor> {
    let values: Vec<f32> = draw(seed, shape).into_iter().map(|value| value as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// `initial` of the golden script.
fn initial(key: &str, seed: u64, shape: &[usize]) -> candle_core::Result<Tensor> {
    let (scale, shift) = match *shape {
        [_, inputs, height, width] => ((6.0 / (inputs * height * width) as f64).sqrt(), 0.0),
        _ if key.ends_with("running_var") => (0.5, 1.0),
        _ if key.ends_with("weight") => (0.25, 1.0),
        _ => (0.25, 0.0),
    };
    let values = draw(seed, shape).into_iter().map(|value| (shift + value * scale) as f32);
    Tensor::from_vec(values.collect::<Vec<f32>>(), shape, &Device::Cpu)
}

/// One stem's network, and what it is to give.
struct Golden {
    variables: BTreeMap<String, Var>,
    parameters: Parameters,
    resnet: Encoder,
    images: Tensor,
    loss_weights: Tensor,
    expected: BTreeMap<String, Tensor>,
}

impl Golden {
    fn new(stem: Stem, name: &str, (height, width, seed): (usize, usize, u64)) -> TestResult<Self> {
        let parameters = Parameters::new(0);
        let config = ResNetConfig { stem, channels: CHANNELS, ..ResNetConfig::resnet18() };
        let encoder = EncoderConfig {
            architecture: Architecture::ResNet(config),
            image_size: 0,
            trained: Trained::All,
            precision: Precision::F32,
        };
        let resnet = Encoder::new(&encoder, &parameters.builder(&Device::Cpu))?;
        for (place, (key, variable)) in parameters.all().iter().enumerate() {
            variable.set(&initial(key, 3 + place as u64, variable.dims())?)?;
        }
        Ok(Self {
            variables: parameters.trainable(),
            parameters,
            resnet,
            images: channels_last(&drawn(seed, &[BATCH, 3, height, width])?)?,
            loss_weights: drawn(2, &[BATCH, CHANNELS[3]])?,
            expected: arrays(&format!("resnet18_{name}.safetensors"))?,
        })
    }

    fn check(&self, key: &str, got: &Tensor, tolerance: f64) -> TestResult {
        assert_close(key, got, array(&self.expected, key)?, tolerance)
    }
}

#[test]
fn resnet18_in_training_follows_the_golden_path() -> TestResult {
    for (stem, name, images) in CASES {
        let golden = Golden::new(stem, name, images)?;
        let Golden { variables, resnet, images, loss_weights, .. } = &golden;
        golden.check("features_eval", &resnet.forward(images, Mode::Evaluate)?, FEATURES)?;
        for step in 0..STEPS {
            let features = resnet.forward(images, Mode::Train)?;
            let tolerance = if step == 0 { FEATURES } else { TRAINED };
            golden.check(&format!("features.{step}"), &features, tolerance)?;
            let gradients = (features * loss_weights)?.sum_all()?.backward()?;
            for (key, variable) in variables {
                let gradient = gradient(&gradients, variable)?;
                if step == 0 {
                    golden.check(&format!("grad.{key}"), gradient, GRADIENT)?;
                }
                variable.set(&(variable.as_detached_tensor() - (gradient * RATE)?)?)?;
            }
        }
        let statistics = golden.parameters.all();
        for (key, variable) in statistics.iter().filter(|(key, _)| key.contains("running_")) {
            golden.check(&format!("after.{key}"), variable, TRAINED)?;
        }
        golden.check("features_after", &resnet.forward(images, Mode::Evaluate)?, TRAINED)?;
        let n_expected = statistics.len() + STEPS + 2;
        assert_eq!(golden.expected.len(), n_expected, "everything golden was compared");
    }
    Ok(())
}
