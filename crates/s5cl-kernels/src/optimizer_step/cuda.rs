//! The operations on CUDA devices.

use candle_core::{CudaDevice, Result, Tensor, bail};

use super::launch::{self, Item, Scale};
use super::rules::Formula;
use super::slot::Place;
use super::{GradientScale, Slot, StepItem};
use crate::cuda::{CudaGpu, Pointer, values};

/// One step of items that were checked.
pub(super) fn step(
    formula: Formula,
    scale: GradientScale<'_>,
    items: &mut [StepItem<'_>],
) -> Result<()> {
    const NAME: &str = "optimizer_step";
    let Some(first) = items.first() else { return Ok(()) };
    let gpu = CudaGpu::of(cuda_device(first.parameter)?);
    let scale = match scale {
        GradientScale::Given(scale) => Scale::given(scale as f32),
        GradientScale::ByNorm { norm, largest, loss_scale } => {
            let loss_scale = loss_scale.map(|scale| values::<f32>(scale, NAME)).transpose()?;
            Scale::by_norm(values::<f64>(norm, NAME)?, largest, loss_scale)
        }
    };
    // Copies of gradients that are not contiguous live until the kernels are started; memory that
    // is given back later is not given to others before they have run.
    let gradients: Vec<Tensor> =
        items.iter().map(|item| item.gradient.contiguous()).collect::<Result<_>>()?;
    let pointers = items.iter().zip(&gradients).map(|(item, gradient)| {
        let mut at = [values(item.parameter, NAME)?, values(gradient, NAME)?, null(), null()];
        for (place, slot) in at[2..].iter_mut().zip(item.slots.iter()) {
            *place = pointer(slot, NAME)?;
        }
        Ok(Item { at, len: gradient.elem_count() })
    });
    launch::step(&gpu, formula, scale, &pointers.collect::<Result<Vec<_>>>()?)
}

/// Moves averages, which were checked.
pub(super) fn average(items: &mut [(&mut Slot, &Tensor)], share: f32) -> Result<()> {
    const NAME: &str = "average_step";
    let Some((_, first)) = items.first() else { return Ok(()) };
    let gpu = CudaGpu::of(cuda_device(first)?);
    let followed: Vec<Tensor> =
        items.iter().map(|(_, values)| values.contiguous()).collect::<Result<_>>()?;
    let pointers = items.iter().zip(&followed).map(|((average, _), followed)| {
        let at = [pointer(average, NAME)?, values(followed, NAME)?, null(), null()];
        Ok(Item { at, len: followed.elem_count() })
    });
    launch::average(&gpu, share, &pointers.collect::<Result<Vec<_>>>()?)
}

/// The norm of contiguous gradients, at least one.
pub(super) fn norm(gradients: &[Tensor]) -> Result<Tensor> {
    let Some(first) = gradients.first() else { bail!("gradient_norm: no gradient") };
    let gpu = CudaGpu::of(cuda_device(first)?);
    let pointers = gradients.iter().map(|gradient| {
        let at = [values(gradient, "gradient_norm")?, null(), null(), null()];
        Ok(Item { at, len: gradient.elem_count() })
    });
    let norm = launch::norm(&gpu, &pointers.collect::<Result<Vec<_>>>()?)?;
    Ok(gpu.tensor(norm, ()))
}

fn cuda_device(of: &Tensor) -> Result<&CudaDevice> {
    of.device().as_cuda_device()
}

fn pointer(slot: &Slot, op: &str) -> Result<Pointer<f32>> {
    match &slot.0 {
        Place::Cuda(tensor) => values(tensor, op),
        Place::Cpu(_) => bail!("{op}: the state is on the CPU, and what it is of on a GPU"),
    }
}

fn null() -> Pointer<f32> {
    Pointer::NULL
}
