//! The operation on CUDA devices.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::CrossEntropyConfig;
use super::launch::launch;
use crate::cuda::{CudaGpu, operand, values};

/// Cross entropy of logits `[n, classes]` on a CUDA device; shapes and types were checked.
pub(super) fn apply(
    logits: &Tensor,
    labels: &Tensor,
    config: CrossEntropyConfig,
) -> Result<Tensor> {
    let gradient = logits.track_op().then(OnceLock::new);
    logits.contiguous()?.apply_op1(CudaCrossEntropy {
        labels: labels.contiguous()?,
        config,
        gradient,
    })
}

struct CudaCrossEntropy {
    labels: Tensor,
    config: CrossEntropyConfig,
    /// Of the logits, for a gradient of 1 from above; absent where nobody can ask for it.
    gradient: Option<OnceLock<Tensor>>,
}

impl CustomOp1 for CudaCrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("cross_entropy: the logits left the GPU")
    }

    fn cuda_fwd(&self, logits: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let gpu = CudaGpu::of(&logits.device);
        let (rows, classes) = layout.shape().dims2()?;
        let pointer = operand::<f32>(logits, layout, self.name())?;
        let labels = values::<u32>(&self.labels, self.name())?;
        let wanted = self.gradient.is_some();
        let (loss, gradient) =
            launch(&gpu, pointer, labels, [rows, classes], self.config, wanted)?;
        if let (Some(place), Some(gradient)) = (&self.gradient, gradient) {
            // A second forward pass of the same operation gives the same gradient.
            let _ = place.set(gpu.tensor(gradient, (rows, classes)));
        }
        Ok((gpu.storage(loss), ().into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, from_above: &Tensor) -> Result<Option<Tensor>> {
        match self.gradient.as_ref().and_then(OnceLock::get) {
            Some(gradient) => gradient.broadcast_mul(from_above).map(Some),
            None => bail!("cross_entropy: backward before forward"),
        }
    }
}
