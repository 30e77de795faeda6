//! The contrastive loss as an operation on CUDA devices.

use std::sync::Mutex;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail,
};

use super::problem::MOST_SEGMENTS;
use super::{Contrast, Inputs, small};
use crate::cuda::{CudaGpu, Gpu, operand, values};
use crate::similarity::SimilarityPrecision;
use crate::similarity::op::Part;

/// The loss of rows `[n, dim]` with labels `[n]`, whose shapes were checked; `temperatures` are
/// those of the parts, where any of them is learned.
pub(in crate::similarity) fn apply(
    embeddings: &Tensor,
    labels: &Tensor,
    parts: Vec<Part>,
    temperatures: Option<&Tensor>,
    precision: SimilarityPrecision,
) -> Result<Tensor> {
    if parts.len() > MOST_SEGMENTS {
        bail!("contrast: a GPU takes at most {MOST_SEGMENTS} segments, got {}", parts.len())
    }
    let is_tracked = embeddings.track_op() || temperatures.is_some();
    let op = CudaContrast {
        labels: labels.contiguous()?,
        parts,
        precision,
        is_tracked,
        computed: Mutex::default(),
    };
    let embeddings = embeddings.contiguous()?;
    match temperatures {
        Some(temperatures) => embeddings.apply_op2(&temperatures.contiguous()?, op),
        None => embeddings.apply_op1(op),
    }
}

/// The loss of each row, without a gradient.
pub(in crate::similarity) fn anchor_losses(
    embeddings: &Tensor,
    labels: &Tensor,
    part: Part,
) -> Result<Tensor> {
    let gpu = CudaGpu::of(embeddings.device().as_cuda_device()?);
    let (embeddings, labels) = (embeddings.contiguous()?, labels.contiguous()?);
    let (n, dim) = embeddings.dims2()?;
    let mut losses = gpu.allocate(n)?;
    gpu.clear(&mut losses)?;
    let inputs = Inputs {
        rows: values(&embeddings, "contrast")?,
        labels: values(&labels, "contrast")?,
        temperatures: None,
        n,
        dim,
    };
    let precision = SimilarityPrecision::Exact;
    Contrast::forward(&gpu, inputs, &[part], precision, Some(losses.pointer()))?;
    Ok(gpu.tensor(losses, n))
}

struct CudaContrast {
    labels: Tensor,
    parts: Vec<Part>,
    precision: SimilarityPrecision,
    is_tracked: bool,
    /// What the backward pass takes; it can be run as often as the graph asks for it.
    computed: Mutex<Option<Computed>>,
}

enum Computed {
    /// Of few rows the gradient for 1 from above, made with the loss.
    Gradient(Tensor),
    Contrast(Box<Contrast<CudaGpu>>),
}

impl CudaContrast {
    fn forward(
        &self,
        embeddings: &CudaStorage,
        layout: &Layout,
        temperatures: Option<(&CudaStorage, &Layout)>,
    ) -> Result<(CudaStorage, Shape)> {
        let gpu = CudaGpu::of(&embeddings.device);
        let (n, dim) = layout.shape().dims2()?;
        let temperatures = temperatures.map(|(t, layout)| operand(t, layout, "contrast"));
        let inputs = Inputs {
            rows: operand(embeddings, layout, "contrast")?,
            labels: values(&self.labels, "contrast")?,
            temperatures: temperatures.transpose()?,
            n,
            dim,
        };
        let (computed, loss) = if small::fits(&inputs, &self.parts) {
            let small::Output { loss, gradient } =
                small::contrast(&gpu, inputs, &self.parts, self.is_tracked)?;
            (gradient.map(|g| Computed::Gradient(gpu.tensor(g, (n, dim)))), loss)
        } else {
            let (contrast, loss) =
                Contrast::forward(&gpu, inputs, &self.parts, self.precision, None)?;
            (self.is_tracked.then_some(Computed::Contrast(Box::new(contrast))), loss)
        };
        let Ok(mut place) = self.computed.lock() else { bail!("contrast: a pass panicked") };
        *place = computed;
        Ok((gpu.storage(loss), ().into()))
    }

    /// The gradients of the embeddings, which the graph still holds, and of the temperatures.
    fn backward(
        &self,
        embeddings: &Tensor,
        from_above: &Tensor,
        wants_temperatures: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let Ok(computed) = self.computed.lock() else { bail!("contrast: a pass panicked") };
        let contrast = match &*computed {
            Some(Computed::Contrast(contrast)) => contrast,
            Some(Computed::Gradient(gradient)) => {
                return Ok((gradient.broadcast_mul(from_above)?, None));
            }
            None => bail!("contrast: the backward pass needs the forward pass of a tracked tensor"),
        };
        let gpu = CudaGpu::of(embeddings.device().as_cuda_device()?);
        let from_above = from_above.contiguous()?;
        let from_above = values(&from_above, "contrast")?;
        let gradients = contrast.backward(&gpu, from_above, wants_temperatures)?;
        let of_temperatures = gradients.temperatures.map(|t| gpu.tensor(t, self.parts.len()));
        Ok((gpu.tensor(gradients.rows, embeddings.shape()), of_temperatures))
    }
}

impl CustomOp1 for CudaContrast {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("contrast: the embeddings left the GPU")
    }

    fn cuda_fwd(&self, embeddings: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward(embeddings, layout, None)
    }

    fn bwd(&self, embeddings: &Tensor, _: &Tensor, from_above: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.backward(embeddings, from_above, false)?.0))
    }
}

impl CustomOp2 for CudaContrast {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("contrast: the embeddings left the GPU")
    }

    fn cuda_fwd(
        &self,
        embeddings: &CudaStorage,
        layout: &Layout,
        temperatures: &CudaStorage,
        temperatures_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward(embeddings, layout, Some((temperatures, temperatures_layout)))
    }

    fn bwd(
        &self,
        embeddings: &Tensor,
        _: &Tensor,
        _: &Tensor,
        from_above: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_embeddings, of_temperatures) = self.backward(embeddings, from_above, true)?;
        Ok((Some(of_embeddings), of_temperatures))
    }
}
