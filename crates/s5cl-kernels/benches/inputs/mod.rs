//! Tensors that the benchmarks work on.

use candle_core::{Device, Result, Tensor, Var};

/// Values that repeat after a while, between -1 and 1.
pub(crate) fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 10_007) as f32 / 5003.5 - 1.0).collect()
}

/// A constant.
pub(crate) fn tensor(shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values(shape.iter().product()), shape, &Device::Cpu)
}

/// What asks for a gradient.
pub(crate) fn variable(shape: &[usize]) -> Result<Var> {
    Var::from_tensor(&tensor(shape)?)
}
