//! A network of the layers of a ResNet-18 with the stem for small images.
//!
//! `cargo bench --profile dev -p xtask -p s5cl-kernels --bench network`

mod inputs;

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use s5cl_kernels::{
    Conv2dConfig, CrossEntropyConfig, GradientScale, Maps, Network, StepConfig, StepItem, StepRule,
    cross_entropy, optimizer_step,
};

use inputs::{tensor, values, variable};

const BATCH: usize = 32;
/// Pixels along a side of an image.
const SIDE: usize = 32;
/// Channels of the four stages, of two blocks each.
const STAGES: [usize; 4] = [64, 128, 256, 512];
/// PyTorch's default.
const EPSILON: f64 = 1e-5;

/// A network and its parameters, in the order of the layers.
struct ResNet {
    network: Network,
    parameters: Vec<Var>,
    /// Mean and variance of each normalization.
    statistics: Vec<(Tensor, Tensor)>,
}

impl ResNet {
    fn new() -> Result<Self> {
        let network = Network::new();
        let (parameters, statistics) = (Vec::new(), Vec::new());
        let mut net = Self { network, parameters, statistics };
        let images = net.network.images();
        let mut maps = net.layer(images, [3, STAGES[0]], [3, 1], None, true)?;
        let mut inputs = STAGES[0];
        for outputs in STAGES {
            for _ in 0..2 {
                let is_same = inputs == outputs;
                let stride = if is_same { 1 } else { 2 };
                let shortcut = match is_same {
                    true => maps,
                    false => net.layer(maps, [inputs, outputs], [1, stride], None, false)?,
                };
                maps = net.layer(maps, [inputs, outputs], [3, stride], None, true)?;
                maps = net.layer(maps, [outputs, outputs], [3, 1], Some(shortcut), true)?;
                inputs = outputs;
            }
        }
        net.network.global_average_pool(maps);
        Ok(net)
    }

    /// A convolution and its normalization.
    fn layer(
        &mut self,
        maps: Maps,
        [inputs, outputs]: [usize; 2],
        [kernel, stride]: [usize; 2],
        residual: Option<Maps>,
        relu: bool,
    ) -> Result<Maps> {
        // Small enough that maps stay finite.
        let scale = 1.0 / ((inputs * kernel * kernel) as f64).sqrt();
        let weight = tensor(&[outputs, inputs, kernel, kernel])?.affine(scale, 0.0)?;
        let positive: Vec<f32> = values(outputs).iter().map(|value| value + 2.0).collect();
        let positive = Tensor::new(positive, &Device::Cpu)?;
        self.parameters.push(Var::from_tensor(&weight)?);
        self.parameters.push(Var::from_tensor(&positive)?);
        self.parameters.push(variable(&[outputs])?);
        self.statistics.push((tensor(&[outputs])?, positive));
        let config = Conv2dConfig { stride, ..Conv2dConfig::same(kernel) };
        let maps = self.network.conv2d(maps, config);
        Ok(self.network.batch_norm(maps, residual, relu, EPSILON))
    }

    fn step(&self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let parameters: Vec<&Tensor> = self.parameters.iter().map(Var::as_tensor).collect();
        let encodings = self.network.train(images, &parameters)?.maps;
        let config = CrossEntropyConfig { label_smoothing: 0.0 };
        let gradients = cross_entropy(&encodings, labels, config)?.backward()?;
        // No movement: every call finds the same weights.
        let config = StepConfig { learning_rate: 0.0, weight_decay: 0.0, steps: 1 };
        let rule = StepRule::Sgd { momentum: 0.0, nesterov: false };
        let mut items: Vec<StepItem<'_>> = Vec::new();
        for parameter in &self.parameters {
            if let Some(gradient) = gradients.get(parameter) {
                items.push(StepItem { parameter, gradient, slots: &mut [] });
            }
        }
        optimizer_step(rule, config, GradientScale::Given(1.0), &mut items)
    }

    fn evaluate(&self, images: &Tensor) -> Result<Tensor> {
        let parameters: Vec<&Tensor> = self.parameters.iter().map(Var::as_tensor).collect();
        let known: Vec<_> = self.statistics.iter().map(|(mean, var)| (mean, var)).collect();
        self.network.evaluate(images, &parameters, &known)
    }
}

fn networks(criterion: &mut Criterion) -> Result<()> {
    let net = ResNet::new()?;
    let images = tensor(&[BATCH, SIDE, SIDE, 3])?;
    let labels = Tensor::from_vec((0..BATCH as u32).map(|i| i % 9).collect(), BATCH, &Device::Cpu)?;
    // One call of each that may fail, as those that are timed may not.
    net.step(&images, &labels)?;
    net.evaluate(&images)?;
    criterion.bench_function("training step", |bencher| {
        bencher.iter(|| net.step(black_box(&images), &labels));
    });
    criterion.bench_function("evaluation", |bencher| {
        bencher.iter(|| net.evaluate(black_box(&images)));
    });
    Ok(())
}

fn all(criterion: &mut Criterion) {
    networks(criterion).expect("the shapes fit, and every tensor is on the CPU");
}

criterion_group! {
    name = network;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(network);
