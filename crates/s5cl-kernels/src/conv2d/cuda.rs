//! The convolution on CUDA devices, in f32 throughout.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::Conv2d;
use super::geometry::Geometry;
use super::launch::{Weight, pack, unpack};
use crate::cuda::library::{Convolution, Library, Operands, Pass};
use crate::cuda::{CudaGpu, Gpu, Memory, Pointer, operand, values};

const NAME: &str = "conv2d";

/// A weight in the order in which the device takes it, which is not that of training.
fn stored(geometry: &Geometry, trained: Pointer<f32>, stored: Pointer<f32>) -> Weight<f32> {
    Weight {
        trained,
        stored,
        scale: Pointer::NULL,
        outputs: geometry.output.channels,
        inputs: geometry.group_inputs(),
        taps: geometry.taps(),
        padded_inputs: geometry.group_inputs(),
    }
}

fn weight_len(geometry: &Geometry) -> usize {
    geometry.output.channels * geometry.taps() * geometry.group_inputs()
}

/// # Safety
///
/// The weight must have the geometry's shape.
unsafe fn packed(
    gpu: &CudaGpu,
    geometry: &Geometry,
    weight: Pointer<f32>,
) -> Result<Memory<CudaGpu, f32>> {
    let room = gpu.allocate::<f32>(weight_len(geometry))?;
    // SAFETY: the caller's promise, and room for the weight.
    unsafe { pack(gpu, &[stored(geometry, weight, room.pointer())])? };
    Ok(room)
}

fn pass(geometry: &Geometry, pass: Pass) -> Convolution {
    Convolution { geometry: *geometry, pass, adds: false, rounds_factors: false }
}

pub(super) fn forward(
    op: &Conv2d,
    maps: (&CudaStorage, &Layout),
    weight: (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    let geometry = Geometry::new(maps.1.dims(), weight.1.dims(), op.config)?;
    let gpu = CudaGpu::of(&maps.0.device);
    let Geometry { batch, output, .. } = geometry;
    let out = gpu.allocate::<f32>(batch * output.len())?;
    if batch > 0 {
        let weight = operand::<f32>(weight.0, weight.1, NAME)?;
        let maps = operand::<f32>(maps.0, maps.1, NAME)?;
        // SAFETY: the operands have the geometry's shapes.
        unsafe {
            let weight = packed(&gpu, &geometry, weight)?;
            let operands = Operands { maps, weight: weight.pointer(), output: out.pointer() };
            gpu.convolve(&pass(&geometry, Pass::Forward), operands)?;
        }
    }
    let shape = (batch, output.height, output.width, output.channels);
    Ok((gpu.storage(out), shape.into()))
}

pub(super) fn backward(
    op: &Conv2d,
    maps: &Tensor,
    weight: &Tensor,
    gradient: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let geometry = Geometry::new(maps.dims(), weight.dims(), op.config)?;
    if geometry.batch == 0 {
        return Ok((Some(maps.zeros_like()?), Some(weight.zeros_like()?)));
    }
    let gpu = CudaGpu::of(maps.device().as_cuda_device()?);
    let gradient = gradient.contiguous()?;
    let output = values::<f32>(&gradient, NAME)?;
    let of_weight = gpu.allocate::<f32>(weight.elem_count())?;
    let turned = gpu.allocate::<f32>(weight_len(&geometry))?;
    let operands = Operands { maps: values::<f32>(maps, NAME)?, weight: turned.pointer(), output };
    // SAFETY: the operands have the geometry's shapes, the gradient that of the result.
    unsafe {
        gpu.convolve(&pass(&geometry, Pass::WeightGradient), operands)?;
        let weight = stored(&geometry, of_weight.pointer(), turned.pointer());
        unpack(&gpu, &[weight])?;
    }
    let of_maps = if op.needs_input_gradient {
        let of_maps = gpu.allocate::<f32>(maps.elem_count())?;
        let trained = values::<f32>(weight, NAME)?;
        // SAFETY: as above.
        unsafe {
            let weight = packed(&gpu, &geometry, trained)?;
            let operands = Operands { maps: of_maps.pointer(), weight: weight.pointer(), output };
            gpu.convolve(&pass(&geometry, Pass::InputGradient), operands)?;
        }
        Some(gpu.tensor(of_maps, maps.shape()))
    } else {
        None
    };
    Ok((of_maps, Some(gpu.tensor(of_weight, weight.shape()))))
}
