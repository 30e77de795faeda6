//! The start of the kernel, and its values against the operation on the CPU.
#![expect(unsafe_code, reason = "a kernel is started with raw pointers")]

use candle_core::Result;

use super::CrossEntropyConfig;
use crate::cuda::{Gpu, Launch, Memory, Pointer};

/// Threads of the one block.
const THREADS: u32 = 512;

/// What the kernel gives.
pub(super) struct Output<G: Gpu> {
    /// One value.
    pub(super) loss: Memory<G, f32>,
    /// Of the logits, if it was wanted.
    pub(super) gradient: Option<Memory<G, f32>>,
}

/// The loss of logits `[rows, classes]`.
pub(super) fn launch<G: Gpu>(
    gpu: &G,
    logits: Pointer<f32>,
    labels: Pointer<u32>,
    [rows, classes]: [usize; 2],
    config: CrossEntropyConfig,
    wants_gradient: bool,
) -> Result<Output<G>> {
    let loss = gpu.allocate(1)?;
    let gradient = wants_gradient.then(|| gpu.allocate(rows * classes)).transpose()?;
    let of_gradient = gradient.as_ref().map_or(Pointer::NULL, Memory::pointer);
    let launch = Launch::new("cross_entropy", "cross_entropy", 1, THREADS);
    let arguments = [
        logits.into(),
        labels.into(),
        loss.pointer().into(),
        of_gradient.into(),
        (rows as u32).into(),
        (classes as u32).into(),
        (config.label_smoothing as f32).into(),
    ];
    // SAFETY: these are the kernel's parameters; logits and gradient are `rows * classes` values,
    // labels `rows`.
    unsafe { gpu.launch(&launch, &arguments)? };
    Ok(Output { loss, gradient })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::launch;
    use crate::checks::{assert_within, draw, gradient};
    use crate::cuda::Gpu;
    use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
    use crate::{CrossEntropyConfig, cross_entropy};

    /// Sums of f32 against those of f64: a few roundings, of logits up to 8.
    const TOLERANCE: f64 = 2e-6;

    fn on_gpu(gpu: &EmulatedGpu, logits: &[f32], labels: &[u32], smoothing: f64) -> Vec<f32> {
        let shape = [labels.len(), logits.len() / labels.len()];
        let (logits, labels) = (gpu.upload(logits).unwrap(), gpu.upload(labels).unwrap());
        let config = CrossEntropyConfig { label_smoothing: smoothing };
        let output = launch(gpu, logits.pointer(), labels.pointer(), shape, config, true).unwrap();
        [gpu.download(&output.loss), gpu.download(&output.gradient.unwrap())].concat()
    }

    fn on_cpu(logits: &[f32], labels: &[u32], smoothing: f64) -> Vec<f64> {
        let shape = (labels.len(), logits.len() / labels.len());
        let logits = Var::from_slice(logits, shape, &Device::Cpu).unwrap();
        let labels = Tensor::new(labels, &Device::Cpu).unwrap();
        let config = CrossEntropyConfig { label_smoothing: smoothing };
        let loss = cross_entropy(&logits, &labels, config).unwrap();
        let mut values = vec![loss.to_scalar::<f32>().unwrap()];
        values.extend(gradient(&loss.backward().unwrap(), &logits).unwrap());
        values.into_iter().map(f64::from).collect()
    }

    #[test]
    fn cross_entropy_kernel_is_the_operation_on_the_cpu() {
        with_emulated_gpu(|gpu| {
            for (rows, classes) in [(1, 1), (1, 9), (33, 2), (64, 9), (70, 40), (2, 1000)] {
                for smoothing in [0.0, 0.1, 1.0] {
                    let logits: Vec<f32> =
                        draw(1, rows * classes).into_iter().map(|v| 8.0 * v).collect();
                    let labels: Vec<u32> = (0..rows).map(|i| (i * 7 % classes) as u32).collect();
                    let what = format!("{rows} x {classes}, smoothing {smoothing}");
                    let expected = on_cpu(&logits, &labels, smoothing);
                    let got = on_gpu(gpu, &logits, &labels, smoothing);
                    assert_within(&what, &got, &expected, TOLERANCE * expected[0].max(1.0));
                }
            }
        });
    }

    #[test]
    fn cross_entropy_kernel_survives_large_logits_and_tells_of_wrong_labels() {
        with_emulated_gpu(|gpu| {
            let logits = [1e30, -1e30, f32::NEG_INFINITY, 88.0];
            assert_eq!(on_gpu(gpu, &logits, &[0, 1], 0.0), [0.0; 5]);
            assert!(on_gpu(gpu, &logits, &[0, 2], 0.0)[0].is_nan());
            assert!(on_gpu(gpu, &[0.0, f32::NAN, 1.0], &[0], 0.0)[0].is_nan());
        });
    }
}
