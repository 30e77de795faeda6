//! The small operations of a training step, at the sizes of a ResNet-18 on images of 224 pixels.
//!
//! `cargo bench --profile dev -p xtask -p s5cl-kernels --bench small_ops`

mod inputs;
mod passes;

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Result, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use s5cl_kernels::{
    CrossEntropyConfig, GradientScale, Slot, StepConfig, StepItem, StepRule, average_step,
    cross_entropy, global_average_pool, gradient_norm, linear, max_pool2d, optimizer_step,
};

use inputs::{tensor, variable};
use passes::passes;

/// As many as ResNet-18 has.
const N_PARAMETERS: usize = 11_200_000;

fn operations(criterion: &mut Criterion) -> Result<()> {
    let maps = tensor(&[16, 112, 112, 64])?;
    passes(criterion, "max_pool2d", &maps, |maps| max_pool2d(maps, 3, 2, 1))?;
    let maps = tensor(&[64, 7, 7, 512])?;
    passes(criterion, "global_average_pool", &maps, global_average_pool)?;
    let (weight, bias) = (variable(&[64, 512])?, variable(&[64])?);
    let encodings = tensor(&[512, 512])?;
    passes(criterion, "linear", &encodings, |input| linear(input, &weight, Some(&bias)))?;
    let labels = Tensor::from_vec((0..512_u32).map(|i| i % 9).collect(), 512, &Device::Cpu)?;
    let config = CrossEntropyConfig { label_smoothing: 0.0 };
    let logits = tensor(&[512, 9])?;
    passes(criterion, "cross_entropy", &logits, |logits| cross_entropy(logits, &labels, config))
}

fn updates(criterion: &mut Criterion) -> Result<()> {
    let parameter = variable(&[N_PARAMETERS])?;
    let gradient = tensor(&[N_PARAMETERS])?;
    let zeros = || Slot::zeros(N_PARAMETERS, &Device::Cpu);
    let mut slots = [zeros()?, zeros()?];
    let rule = StepRule::Adamax { betas: [0.9, 0.999], epsilon: 1e-8 };
    let config = StepConfig { learning_rate: 1e-3, weight_decay: 1e-4, steps: 1 };
    criterion.bench_function("optimizer_step", |bencher| {
        bencher.iter(|| {
            let item = StepItem { parameter: &parameter, gradient: &gradient, slots: &mut slots };
            optimizer_step(rule, config, GradientScale::Given(1.0), &mut [item])
        });
    });
    criterion.bench_function("gradient_norm", |bencher| {
        bencher.iter(|| gradient_norm([black_box(&gradient)]));
    });
    let mut average = Slot::copy_of(&gradient)?;
    criterion.bench_function("average_step", |bencher| {
        bencher.iter(|| average_step(&mut [(&mut average, &parameter)], 0.999));
    });
    Ok(())
}

fn all(criterion: &mut Criterion) {
    let timed = operations(criterion).and_then(|()| updates(criterion));
    timed.expect("the shapes fit, and every tensor is on the CPU");
}

criterion_group! {
    name = small_ops;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(small_ops);
