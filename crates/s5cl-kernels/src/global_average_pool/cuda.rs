//! The mean over all pixels on CUDA devices.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::geometry;
use super::launch::Averaging;
use crate::cuda::{CudaGpu, Gpu, operand, values};

const NAME: &str = "global_average_pool";

pub(super) fn forward(maps: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
    let (batch, pixels, channels) = geometry(layout.shape())?;
    let gpu = CudaGpu::of(&maps.device);
    let out = gpu.allocate::<f32>(batch * channels)?;
    if batch > 0 {
        let maps = operand::<f32>(maps, layout, NAME)?;
        // SAFETY: all were allocated for these shapes.
        unsafe { Averaging { batch, pixels, channels }.forward(&gpu, maps, out.pointer())? };
    }
    Ok((gpu.storage(out), (batch, channels).into()))
}

pub(super) fn backward(maps: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (batch, pixels, channels) = geometry(maps.shape())?;
    if batch == 0 {
        return maps.zeros_like();
    }
    let gpu = CudaGpu::of(maps.device().as_cuda_device()?);
    let gradient = gradient.contiguous()?;
    let out = gpu.allocate::<f32>(maps.elem_count())?;
    let above = values::<f32>(&gradient, NAME)?;
    // SAFETY: all were allocated for these shapes.
    unsafe { Averaging { batch, pixels, channels }.backward(&gpu, above, out.pointer())? };
    Ok(gpu.tensor(out, maps.shape()))
}
