//! Operations on a CUDA device against the same on the processor; skipped where there is none.
//!
//! The kernels themselves are tested wherever there is a C++ compiler, in s5cl-kernels. Here it is
//! the device, its libraries, and candle's side of it.

use candle_core::{Device, Result, Tensor, Var};
use s5cl_backbone::{EncoderConfig, Mode, Model, ModelConfig, Parameters};
use s5cl_kernels::{
    CrossEntropyConfig, Reduction, cross_entropy, cuda_devices, open_cuda_device, sup_con,
};

/// Products of 11 bits in the gradient of the contrast.
const CONTRAST_TOLERANCE: f32 = 5e-3;
/// Sums of f32 in another order, through a network.
const NETWORK_TOLERANCE: f32 = 1e-3;

/// Runs a check on the first CUDA device, or says why not.
fn on_device(check: impl FnOnce(&Device) -> Result<()>) -> Result<()> {
    if !cfg!(feature = "cuda") {
        println!("skipped: built without CUDA");
        return Ok(());
    }
    match cuda_devices()?.first() {
        Some(device) => check(&open_cuda_device(device.ordinal)?),
        None => {
            println!("skipped: no CUDA device answers");
            Ok(())
        }
    }
}

/// Values that differ from each other, the same everywhere.
fn drawn(shape: &[usize], device: &Device) -> Result<Var> {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7311).sin()).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, device)?)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    let largest = expected.iter().fold(1e-6_f32, |most, value| most.max(value.abs()));
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = (got - expected).abs();
        assert!(difference <= tolerance * largest, "{what}: value {i} is {got}, not {expected}");
    }
}

#[test]
fn losses_on_a_device_are_those_of_the_cpu() -> Result<()> {
    on_device(|device| {
        // Few rows, which are one launch, and more.
        for (n, dim) in [(40, 16), (300, 64), (700, 200)] {
            let on = |device: &Device| -> Result<Vec<f32>> {
                let rows = drawn(&[n, dim], device)?;
                let labels: Vec<u32> = (0..n as u32).map(|i| i % 7).collect();
                let labels = Tensor::new(labels, device)?;
                let contrast = sup_con(&rows, &labels, 0.1, Reduction::MeanValid)?;
                let config = CrossEntropyConfig { label_smoothing: 0.0 };
                let loss = (contrast + cross_entropy(&rows, &labels, config)?)?;
                let gradients = loss.backward()?;
                let Some(gradient) = gradients.get(&rows) else { return Ok(Vec::new()) };
                Ok([values(&loss)?, values(gradient)?].concat())
            };
            let what = format!("{n} x {dim}");
            assert_close(&what, &on(device)?, &on(&Device::Cpu)?, CONTRAST_TOLERANCE);
        }
        Ok(())
    })
}

#[test]
fn network_on_a_device_is_that_of_the_cpu() -> Result<()> {
    on_device(|device| {
        let on = |device: &Device| -> Result<Vec<Vec<f32>>> {
            let parameters = Parameters::new(0);
            let encoder = EncoderConfig::named("resnet-slim", 24)?;
            let config = ModelConfig { encoder, embedding_dim: 8, n_classes: 3 };
            let model = Model::new(&config, &parameters.builder(device))?;
            let images = drawn(&[4, 24, 24, 3], device)?;
            let logits = model.forward(&images, Mode::Train)?.logits;
            let gradients = logits.sqr()?.sum_all()?.backward()?;
            let mut all = vec![values(&logits)?];
            for weight in parameters.trainable().values() {
                all.extend(gradients.get(weight).map(values).transpose()?);
            }
            all.push(values(&model.forward(&images, Mode::Evaluate)?.logits)?);
            Ok(all)
        };
        let (got, expected) = (on(device)?, on(&Device::Cpu)?);
        assert_eq!(got.len(), expected.len());
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_close(&format!("part {index}"), got, expected, NETWORK_TOLERANCE);
        }
        Ok(())
    })
}
