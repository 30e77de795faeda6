//! The operation on CUDA devices.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, bail};

use super::launch::{
    Affine, Backward, Coefficients, Mask, OwnScratch, Parameters, Rows, Running, Statistics, apply,
    moments, running,
};
use super::op::{Mode, Normalize, OfBatch as Kept};
use super::running::NAME as RUNNING;
use crate::cuda::maps::{self, Channels};
use crate::cuda::{CudaGpu, Gpu, Memory, Pointer, operand, values};

const NAME: &str = "batch_norm";

/// The statistics of a batch, and what normalizes by them.
pub(super) struct OfBatch {
    coefficients: Memory<CudaGpu, f32>,
    /// Mean and unbiased variance.
    pub(super) statistics: [Tensor; 2],
}

/// Weight and bias, which lie one behind the other.
fn parted(parameters: Pointer<f32>, channels: usize) -> Parameters {
    Parameters { weight: parameters, bias: parameters.offset(channels) }
}

pub(super) fn forward(
    op: &Normalize,
    maps: (&CudaStorage, &Layout),
    parameters: (&CudaStorage, &Layout),
    residual: (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    let channels = op.channels(maps.1.shape(), parameters.1.shape())?;
    let shape = Rows { rows: maps.1.shape().elem_count() / channels, channels };
    let gpu = CudaGpu::of(&maps.0.device);
    let pointer = operand::<f32>(maps.0, maps.1, NAME)?;
    let of_parameters = parted(operand::<f32>(parameters.0, parameters.1, NAME)?, channels);
    let residual =
        if op.has_residual { operand::<f32>(residual.0, residual.1, NAME)? } else { Pointer::NULL };
    let affine = match &op.mode {
        Mode::Fixed => Affine { scale: of_parameters.weight, shift: of_parameters.bias },
        Mode::Batch { epsilon, kept } => {
            let of_batch = of_batch(&gpu, pointer, shape, of_parameters, *epsilon)?;
            // A second forward pass of the same operation gives the same statistics.
            match kept.get_or_init(|| Kept::Cuda(of_batch)) {
                Kept::Cuda(of_batch) => {
                    Coefficients { all: of_batch.coefficients.pointer(), channels }.affine()
                }
                Kept::Cpu(_) => bail!("batch_norm: the statistics are not on the GPU"),
            }
        }
    };
    let out = gpu.allocate::<f32>(shape.rows * channels)?;
    // SAFETY: all have the maps' shape or its channels.
    unsafe { apply(&gpu, [pointer, residual, out.pointer()], shape, affine, op.relu)? };
    Ok((gpu.storage(out), maps.1.shape().clone()))
}

fn of_batch(
    gpu: &CudaGpu,
    maps: Pointer<f32>,
    shape @ Rows { channels, .. }: Rows,
    parameters: Parameters,
    epsilon: f64,
) -> Result<OfBatch> {
    let coefficients = gpu.allocate::<f32>(Coefficients::PARTS * channels)?;
    let (mean, variance) = (gpu.allocate::<f32>(channels)?, gpu.allocate::<f32>(channels)?);
    let scratch = OwnScratch::new(gpu, shape)?;
    let statistics = Statistics { mean: mean.pointer(), variance: variance.pointer() };
    let into = Coefficients { all: coefficients.pointer(), channels };
    // SAFETY: everything has the maps' shape or its channels.
    unsafe { moments(gpu, maps, shape, parameters, epsilon, scratch.get(), into, statistics)? };
    let statistics = [gpu.tensor(mean, channels), gpu.tensor(variance, channels)];
    Ok(OfBatch { coefficients, statistics })
}

/// Moves running statistics; the shapes of each pair are the same.
pub(super) fn move_running(pairs: &[(&Tensor, &Tensor)], [kept, share]: [f32; 2]) -> Result<()> {
    let Some((first, _)) = pairs.first() else { return Ok(()) };
    let device = first.device();
    let all = pairs.iter().map(|(of_model, of_batch)| {
        if !of_model.device().same_device(device) || !of_batch.device().same_device(device) {
            bail!("{RUNNING}: the statistics are not on one device")
        }
        let to = values::<f32>(of_model, RUNNING)?;
        Ok((to, values::<f32>(of_batch, RUNNING)?, of_model.elem_count()))
    });
    let all: Vec<Running> = all.collect::<Result<_>>()?;
    let gpu = CudaGpu::of(device.as_cuda_device()?);
    // SAFETY: each pair has so many values.
    unsafe { running(&gpu, &all, kept, share) }
}

pub(super) fn backward(
    op: &Normalize,
    [maps, parameters, residual, result]: [&Tensor; 4],
    gradient: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let channels = op.channels(maps.shape(), parameters.shape())?;
    let shape = Rows { rows: maps.elem_count() / channels, channels };
    let gpu = CudaGpu::of(maps.device().as_cuda_device()?);
    let of_parameters = parted(values::<f32>(parameters, NAME)?, channels);
    let coefficients = match &op.mode {
        Mode::Fixed => Pointer::NULL,
        Mode::Batch { kept, .. } => match kept.get() {
            Some(Kept::Cuda(of_batch)) => of_batch.coefficients.pointer(),
            _ => bail!("batch_norm: backward before forward"),
        },
    };
    let affine = match &op.mode {
        Mode::Fixed => Affine { scale: of_parameters.weight, shift: of_parameters.bias },
        Mode::Batch { .. } => Coefficients { all: coefficients, channels }.affine(),
    };
    let backward = Backward {
        maps: values::<f32>(maps, NAME)?,
        shape,
        weight: of_parameters.weight,
        coefficients,
        is_from_batch: matches!(op.mode, Mode::Batch { .. }),
        mask: match (op.relu, op.has_residual) {
            (false, _) => Mask::Open,
            (true, false) => Mask::Affine(affine),
            (true, true) => Mask::Result(values::<f32>(result, NAME)?),
        },
    };
    let gradient = gradient.contiguous()?;
    let len = shape.rows * channels;
    // It is masked in place, and others may hold what candle hands over.
    let above = gpu.allocate::<f32>(len)?;
    let scratch = OwnScratch::new(&gpu, shape)?;
    let for_parameters = gpu.allocate::<f32>(2 * channels)?;
    let line = gpu.allocate::<f32>(Backward::<f32>::line_len(shape))?;
    let for_maps = op.has_residual.then(|| gpu.allocate::<f32>(len)).transpose()?;
    let to = for_maps.as_ref().unwrap_or(&above).pointer();
    // SAFETY: everything has the maps' shape or its channels.
    unsafe {
        let from = values::<f32>(&gradient, NAME)?;
        maps::store(&gpu, from, above.pointer(), Channels::same(len))?;
        let (above, line) = (above.pointer(), line.pointer());
        let into = parted(for_parameters.pointer(), channels);
        backward.parameters(&gpu, above, scratch.get(), into, line)?;
        backward.maps(&gpu, above, line, to)?;
    }
    let (for_maps, for_residual) = match for_maps {
        Some(for_maps) => (for_maps, Some(gpu.tensor(above, residual.shape()))),
        None => (above, None),
    };
    let for_parameters = gpu.tensor(for_parameters, parameters.shape());
    Ok((Some(gpu.tensor(for_maps, maps.shape())), Some(for_parameters), for_residual))
}
