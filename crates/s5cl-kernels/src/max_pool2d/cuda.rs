//! Max pooling on CUDA devices.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, bail};

use super::launch::Pooling;
use super::{MaxPool2d, Winners};
use crate::cuda::{CudaGpu, Gpu, Memory, Pointer, operand, values};

pub(super) fn forward(
    op: &MaxPool2d,
    maps: &CudaStorage,
    layout: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let (batch, window, channels) = op.geometry(layout.shape())?;
    let gpu = CudaGpu::of(&maps.device);
    let len = batch * window.out_pixels() * channels;
    let out = gpu.allocate::<f32>(len)?;
    let winners = op.winners.as_ref().map(|_| gpu.allocate::<u8>(len)).transpose()?;
    if batch > 0 {
        let maps = operand::<f32>(maps, layout, "max_pool2d")?;
        let places = winners.as_ref().map_or(Pointer::NULL, Memory::pointer);
        let pooling = Pooling { batch, window: &window, channels };
        // SAFETY: all were allocated for these shapes.
        unsafe { pooling.forward(&gpu, maps, out.pointer(), places)? };
    }
    if let (Some(kept), Some(winners)) = (&op.winners, winners) {
        // A second forward pass of the same operation gives the same winners.
        let _ = kept.set(Winners::Cuda(winners));
    }
    let shape = (batch, window.out_height(), window.out_width(), channels);
    Ok((gpu.storage(out), shape.into()))
}

pub(super) fn backward(
    op: &MaxPool2d,
    winners: &Memory<CudaGpu, u8>,
    maps: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let (batch, window, channels) = op.geometry(maps.shape())?;
    if batch == 0 {
        return maps.zeros_like();
    }
    let gpu = CudaGpu::of(maps.device().as_cuda_device()?);
    let gradient = gradient.contiguous()?;
    if gradient.elem_count() != winners.len() {
        bail!("max_pool2d: a gradient of {:?} for {} windows", gradient.shape(), winners.len())
    }
    let out = gpu.allocate::<f32>(maps.elem_count())?;
    let above = values::<f32>(&gradient, "max_pool2d")?;
    let pooling = Pooling { batch, window: &window, channels };
    // SAFETY: all were allocated for these shapes.
    unsafe { pooling.backward(&gpu, winners.pointer(), above, out.pointer())? };
    Ok(gpu.tensor(out, maps.shape()))
}
