//! The layer on CUDA devices.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::launch::{Layer, Sizes, sum_rows};
use super::{Linear, dims};
use crate::cuda::{CudaGpu, Gpu, Pointer, operand, values};

const NAME: &str = "linear";

fn sizes(input: &Shape, weight: &Shape) -> Result<Sizes> {
    let (in_dim, out_dim) = dims(input, weight)?;
    Ok(Sizes { rows: input.elem_count() / in_dim, in_dim, out_dim })
}

pub(super) fn forward(
    op: &Linear,
    [input, weight, bias]: [(&CudaStorage, &Layout); 3],
) -> Result<(CudaStorage, Shape)> {
    let sizes = sizes(input.1.shape(), weight.1.shape())?;
    let gpu = CudaGpu::of(&input.0.device);
    let layer = Layer {
        input: operand::<f32>(input.0, input.1, NAME)?,
        weight: operand::<f32>(weight.0, weight.1, NAME)?,
        bias: if op.has_bias { operand::<f32>(bias.0, bias.1, NAME)? } else { Pointer::NULL },
    };
    let out = match sizes.rows {
        0 => gpu.allocate::<f32>(0)?,
        // SAFETY: the operands have these sizes.
        _ => unsafe { layer.forward(&gpu, sizes)? },
    };
    let mut shape = input.1.dims().to_vec();
    shape.pop();
    shape.push(sizes.out_dim);
    Ok((gpu.storage(out), shape.into()))
}

pub(super) fn backward(
    op: &Linear,
    [input, weight, bias]: [&Tensor; 3],
    gradient: &Tensor,
) -> Result<[Option<Tensor>; 3]> {
    let sizes = sizes(input.shape(), weight.shape())?;
    if sizes.rows == 0 {
        let of_bias = op.has_bias.then(|| bias.zeros_like()).transpose()?;
        return Ok([Some(input.zeros_like()?), Some(weight.zeros_like()?), of_bias]);
    }
    let gpu = CudaGpu::of(input.device().as_cuda_device()?);
    let gradient = gradient.contiguous()?;
    let above = values::<f32>(&gradient, NAME)?;
    let layer = Layer {
        input: values::<f32>(input, NAME)?,
        weight: values::<f32>(weight, NAME)?,
        bias: Pointer::NULL,
    };
    // SAFETY: the operands have these sizes, and the gradient those of the result.
    let (of_input, of_weight, of_bias) = unsafe {
        let of_input = op.needs_input_gradient.then(|| layer.input_gradient(&gpu, sizes, above));
        let of_bias = op.has_bias.then(|| sum_rows(&gpu, sizes.rows, sizes.out_dim, above));
        (of_input.transpose()?, layer.weight_gradient(&gpu, sizes, above)?, of_bias.transpose()?)
    };
    Ok([
        of_input.map(|values| gpu.tensor(values, input.shape())),
        Some(gpu.tensor(of_weight, weight.shape())),
        of_bias.map(|values| gpu.tensor(values, bias.shape())),
    ])
}
