//! One call of a contrastive loss, forward and backward.

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use s5cl_kernels::{Reduction, Segment, contrast, device_memory, forget_peak_memory, sup_con};
use s5cl_random::named_stream;

/// Of the loss on labels.
pub(super) const TEMPERATURE: f64 = 0.1;
/// Length of S5CL's embeddings.
pub(super) const S5CL_DIM: usize = 64;
/// Temperatures of S5CL's two losses.
const S5CL_TEMPERATURES: [f64; 2] = [0.2, 0.7];
const N_CLASSES: u32 = 9;

/// Makes one call and does not wait for it.
pub(super) type Call = Box<dyn FnMut() -> candle_core::Result<()>>;

/// Drawn embeddings `[n, dim]` and a label of nine for each.
pub(super) fn drawn(n: usize, dim: usize, device: &Device) -> Result<(Var, Tensor)> {
    let mut random = named_stream(0, "benchmark gpu");
    let values: Vec<f32> = (0..n * dim).map(|_| random.normal()).collect();
    let labels: Vec<u32> = (0..n as u32).map(|i| i % N_CLASSES).collect();
    Ok((Var::from_vec(values, (n, dim), device)?, Tensor::from_vec(labels, n, device)?))
}

/// SupCon of `n` rows.
pub(super) fn supcon(n: usize, dim: usize, device: &Device) -> Result<Call> {
    let (embeddings, labels) = drawn(n, dim, device)?;
    Ok(Box::new(move || {
        sup_con(&embeddings, &labels, TEMPERATURE, Reduction::MeanValid)?.backward().map(drop)
    }))
}

/// The two contrastive losses of S5CL's step.
pub(super) fn s5cl([labeled, unlabeled]: [usize; 2], device: &Device) -> Result<Call> {
    let n = labeled + unlabeled;
    let (embeddings, labels) = drawn(n, S5CL_DIM, device)?;
    Ok(Box::new(move || {
        let segment = |rows, temperature: f64| Segment {
            rows,
            temperature: temperature.into(),
            weight: 1.0,
            reduction: Reduction::MeanValid,
        };
        let [of_labeled, of_unlabeled] = S5CL_TEMPERATURES;
        let segments = [segment(0..labeled, of_labeled), segment(labeled..n, of_unlabeled)];
        contrast(&embeddings, &labels, &segments)?.backward().map(drop)
    }))
}

/// Peak of device memory of a call in MiB, above what is there before it; none on the processor.
pub(super) fn memory_mib(call: &mut Call, device: &Device) -> Result<Option<f64>> {
    call()?;
    device.synchronize()?;
    forget_peak_memory(device)?;
    let Some(before) = device_memory(device)? else { return Ok(None) };
    call()?;
    device.synchronize()?;
    let after = device_memory(device)?.map_or(0, |memory| memory.peak);
    Ok(Some(after.saturating_sub(before.used) as f64 / f64::from(1 << 20)))
}

/// A loss and the gradient of its rows, on the host.
pub(super) fn values(loss: &Tensor, of: &Var) -> Result<(f64, Vec<f32>)> {
    let gradients = loss.backward()?;
    let gradient = match gradients.get(of) {
        Some(gradient) => gradient.flatten_all()?.to_vec1()?,
        None => Vec::new(),
    };
    Ok((loss.to_dtype(DType::F64)?.to_scalar()?, gradient))
}
