//! The small operations of a training step, at the sizes of a ResNet-18 on images of 224 pixels.
//!
//! `cargo bench --profile dev -p xtask -p s5cl-kernels --bench small_ops`

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use s5cl_kernels::{
    CrossEntropyConfig, StepConfig, adamax_step, average_step, cross_entropy, global_average_pool,
    gradient_norm, linear, max_pool2d,
};

/// As many as ResNet-18 has.
const N_PARAMETERS: usize = 11_200_000;

/// Values that repeat after a while, between -1 and 1.
fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 10_007) as f32 / 5003.5 - 1.0).collect()
}

fn tensor(shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values(shape.iter().product()), shape, &Device::Cpu)
}

/// Times an operation alone, and with the way back for a gradient of ones.
fn passes(
    criterion: &mut Criterion,
    name: &str,
    input: &Tensor,
    operation: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    criterion.bench_function(&format!("{name} forward"), |bencher| {
        bencher.iter(|| operation(black_box(input)));
    });
    let variable = Var::from_tensor(input)?;
    criterion.bench_function(&format!("{name} forward and backward"), |bencher| {
        bencher.iter(|| operation(black_box(&variable))?.backward());
    });
    Ok(())
}

fn operations(criterion: &mut Criterion) -> Result<()> {
    let maps = tensor(&[16, 112, 112, 64])?;
    passes(criterion, "max_pool2d", &maps, |maps| max_pool2d(maps, 3, 2, 1))?;
    let maps = tensor(&[64, 7, 7, 512])?;
    passes(criterion, "global_average_pool", &maps, global_average_pool)?;
    let (weight, bias) =
        (Var::from_tensor(&tensor(&[64, 512])?)?, Var::from_tensor(&tensor(&[64])?)?);
    let encodings = tensor(&[512, 512])?;
    passes(criterion, "linear", &encodings, |input| linear(input, &weight, Some(&bias)))?;
    let labels = Tensor::from_vec((0..512_u32).map(|i| i % 9).collect(), 512, &Device::Cpu)?;
    let config = CrossEntropyConfig { label_smoothing: 0.0 };
    let logits = tensor(&[512, 9])?;
    passes(criterion, "cross_entropy", &logits, |logits| cross_entropy(logits, &labels, config))
}

fn updates(criterion: &mut Criterion) -> Result<()> {
    let parameter = Var::from_tensor(&tensor(&[N_PARAMETERS])?)?;
    let gradient = tensor(&[N_PARAMETERS])?;
    let (mut mean, mut largest) = (vec![0.0; N_PARAMETERS], vec![0.0; N_PARAMETERS]);
    let config =
        StepConfig { learning_rate: 1e-3, gradient_scale: 1.0, weight_decay: 1e-4, steps: 1 };
    criterion.bench_function("adamax_step", |bencher| {
        bencher.iter(|| {
            let state = [mean.as_mut_slice(), largest.as_mut_slice()];
            adamax_step(&parameter, &gradient, state, [0.9, 0.999], 1e-8, config)
        });
    });
    criterion.bench_function("gradient_norm", |bencher| {
        bencher.iter(|| gradient_norm([black_box(&gradient)]));
    });
    let mut average = values(N_PARAMETERS);
    criterion.bench_function("average_step", |bencher| {
        bencher.iter(|| average_step(&mut average, &parameter, 0.999));
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
