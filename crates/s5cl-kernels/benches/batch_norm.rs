//! Batch normalization at the sizes of a ResNet-18, and what is fused with it.
//!
//! `cargo bench --profile dev -p xtask -p s5cl-kernels --bench batch_norm`

mod inputs;
mod passes;

use std::time::Duration;

use candle_core::{Result, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use s5cl_kernels::{batch_norm_eval, batch_norm_train};

use inputs::{tensor, values, variable};
use passes::passes;

/// Maps of one call.
const BATCH: usize = 16;
/// PyTorch's default.
const EPSILON: f64 = 1e-5;

fn normalizations(criterion: &mut Criterion) -> Result<()> {
    for (side, channels) in [(112, 64), (56, 64), (28, 128), (14, 256), (7, 512)] {
        let maps = tensor(&[BATCH, side, side, channels])?;
        let (weight, bias) = (variable(&[channels])?, variable(&[channels])?);
        let name = format!("train with ReLU {side} px {channels}");
        passes(criterion, &name, &maps, |maps| {
            Ok(batch_norm_train(maps, &weight, &bias, None, true, EPSILON)?.maps)
        })?;
        let residual = variable(maps.dims())?;
        let name = format!("train with residual and ReLU {side} px {channels}");
        passes(criterion, &name, &maps, |maps| {
            Ok(batch_norm_train(maps, &weight, &bias, Some(&residual), true, EPSILON)?.maps)
        })?;
        let mean = tensor(&[channels])?;
        // Above zero.
        let variance: Vec<f32> = values(channels).iter().map(|value| value + 2.0).collect();
        let variance = Tensor::new(variance, mean.device())?;
        let name = format!("evaluate with ReLU {side} px {channels}");
        passes(criterion, &name, &maps, |maps| {
            batch_norm_eval(maps, &weight, &bias, &mean, &variance, None, true, EPSILON)
        })?;
    }
    Ok(())
}

fn all(criterion: &mut Criterion) {
    normalizations(criterion).expect("the shapes fit, and every tensor is on the CPU");
}

criterion_group! {
    name = batch_norm;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(batch_norm);
