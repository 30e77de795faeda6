//! Convolutions of a ResNet-18 on images of 224 pixels, and of the slim encoder on 32.
//!
//! `cargo bench --profile dev -p xtask -p s5cl-kernels --bench conv2d`

mod inputs;
mod passes;

use std::time::Duration;

use candle_core::Result;
use criterion::{Criterion, criterion_group, criterion_main};
use s5cl_kernels::{Conv2dConfig, conv2d};

use inputs::{tensor, variable};
use passes::passes;

/// Maps of one call.
const BATCH: usize = 16;

struct Case {
    name: &'static str,
    /// Pixels along a side of the input.
    side: usize,
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    groups: usize,
}

const fn plain(name: &'static str, side: usize, channels: usize) -> Case {
    Case { name, side, channels: [channels; 2], kernel: 3, stride: 1, groups: 1 }
}

const CASES: [Case; 10] = [
    plain("3x3 56 px 64", 56, 64),
    plain("3x3 28 px 128", 28, 128),
    plain("3x3 14 px 256", 14, 256),
    plain("3x3 7 px 512", 7, 512),
    plain("3x3 32 px 16", 32, 16),
    plain("3x3 16 px 32", 16, 32),
    Case { channels: [64, 128], stride: 2, ..plain("3x3 stride 2 56 px 64 to 128", 56, 64) },
    Case { channels: [3, 64], kernel: 7, stride: 2, ..plain("stem 7x7 stride 2 224 px", 224, 3) },
    Case {
        channels: [64, 128],
        kernel: 1,
        stride: 2,
        ..plain("1x1 stride 2 56 px 64 to 128", 56, 64)
    },
    Case { groups: 8, ..plain("3x3 in 8 groups 28 px 128", 28, 128) },
];

fn convolutions(criterion: &mut Criterion) -> Result<()> {
    for Case { name, side, channels: [inputs, outputs], kernel, stride, groups } in CASES {
        let maps = tensor(&[BATCH, side, side, inputs])?;
        let weight = variable(&[outputs, inputs / groups, kernel, kernel])?;
        let config = Conv2dConfig { stride, groups, ..Conv2dConfig::same(kernel) };
        passes(criterion, name, &maps, |maps| conv2d(maps, &weight, config))?;
    }
    Ok(())
}

fn all(criterion: &mut Criterion) {
    convolutions(criterion).expect("the shapes fit, and every tensor is on the CPU");
}

criterion_group! {
    name = convolution;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(convolution);
