//! The contrastive loss as an operation of candle: checks, and the way back.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail,
};

use super::square::contrast;
use super::{Reduction, Segment, SimilarityPrecision, Temperature, matrix};
use crate::values::operand;

/// A segment whose values were read and checked.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) rows: Range<usize>,
    /// Of no meaning where the device has it, see [`Part::read`].
    pub(super) temperature: f64,
    pub(super) weight: f64,
    pub(super) reduction: Reduction,
}

/// The operation, and what its forward pass leaves for the backward pass.
struct Contrast {
    labels: Vec<u32>,
    parts: Vec<Part>,
    is_tracked: bool,
    gradients: OnceLock<Gradients>,
}

/// Gradients of the loss; the backward pass only scales them.
struct Gradients {
    embeddings: Tensor,
    temperatures: Vec<f64>,
}

/// Checks the arguments and applies the operation.
pub(super) fn apply(
    embeddings: &Tensor,
    labels: &Tensor,
    segments: &[Segment<'_>],
    precision: SimilarityPrecision,
) -> Result<Tensor> {
    check_operands(embeddings, labels)?;
    let parts: Vec<Part> = segments.iter().map(Part::read).collect::<Result<_>>()?;
    check_rows(&parts, labels.elem_count())?;
    let temperatures = learned_temperatures(segments, embeddings.device())?;
    #[cfg(feature = "cuda")]
    if embeddings.device().is_cuda() {
        return super::gpu::apply(embeddings, labels, parts, temperatures.as_ref(), precision);
    }
    // On the CPU all bits of f32 take part.
    let _ = precision;
    let labels = labels.to_vec1()?;
    let is_tracked = embeddings.track_op() || temperatures.is_some();
    let op = Contrast { labels, parts, is_tracked, gradients: OnceLock::new() };
    let embeddings = embeddings.contiguous()?;
    match temperatures {
        Some(temperatures) => embeddings.apply_op2(&temperatures, op),
        None => embeddings.apply_op1(op),
    }
}

/// The loss of each anchor, without a gradient.
pub(super) fn anchor_losses(
    embeddings: &Tensor,
    labels: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    check_operands(embeddings, labels)?;
    check_temperature(temperature)?;
    #[cfg(feature = "cuda")]
    if embeddings.device().is_cuda() {
        let (rows, reduction) = (0..labels.elem_count(), Reduction::MeanValid);
        let part = Part { rows, temperature, weight: 1.0, reduction };
        return super::gpu::anchor_losses(embeddings, labels, part);
    }
    let labels: Vec<u32> = labels.to_vec1()?;
    let embeddings = embeddings.contiguous()?;
    let values = crate::values::Values::of(&embeddings, "contrast")?;
    let dim = embeddings.dim(1)?;
    let outcome = contrast(&values, dim, &labels, temperature, Reduction::MeanValid, None);
    let losses: Vec<f32> = outcome.anchor_losses.into_iter().map(|loss| loss as f32).collect();
    Tensor::new(losses, embeddings.device())
}

/// Fails unless there is one u32 label for each row of f32 embeddings.
fn check_operands(embeddings: &Tensor, labels: &Tensor) -> Result<()> {
    let (n, dim) = matrix(embeddings, "contrast")?;
    if dim == 0 || embeddings.dtype() != DType::F32 {
        bail!(
            "contrast: expected f32 embeddings [n, dim], got {:?} {:?}",
            embeddings.dtype(),
            embeddings.shape()
        )
    }
    if labels.dims() != [n] || labels.dtype() != DType::U32 {
        bail!("contrast: expected u32 labels [{n}], got {:?} {:?}", labels.dtype(), labels.shape())
    }
    Ok(())
}

fn check_temperature(temperature: f64) -> Result<()> {
    if !(temperature > 0.0 && temperature.is_finite()) {
        bail!("contrast: the temperature must be above 0, got {temperature}")
    }
    Ok(())
}

fn check_rows(parts: &[Part], n: usize) -> Result<()> {
    let mut ranges: Vec<&Range<usize>> = parts.iter().map(|part| &part.rows).collect();
    ranges.sort_by_key(|rows| (rows.start, rows.end));
    for (index, rows) in ranges.iter().enumerate() {
        let next = ranges.get(index + 1).map_or(n, |next| next.start);
        if rows.start > rows.end || rows.end > next {
            bail!("contrast: the rows {rows:?} of a segment leave the {n} rows or meet another's")
        }
    }
    Ok(())
}

/// The temperatures as one tensor `[n_segments]`, if any of them is to be learned, or is where
/// reading it would stall the device.
fn learned_temperatures(segments: &[Segment<'_>], device: &Device) -> Result<Option<Tensor>> {
    let is_learned = |segment: &Segment<'_>| match segment.temperature {
        Temperature::Fixed(_) => false,
        Temperature::Learned(temperature) => temperature.track_op() || is_on_gpu(temperature),
    };
    if !segments.iter().any(is_learned) {
        return Ok(None);
    }
    let scalars: Vec<Tensor> = segments
        .iter()
        .map(|segment| match segment.temperature {
            Temperature::Fixed(temperature) => Tensor::new(temperature as f32, device),
            Temperature::Learned(temperature) => temperature.reshape(())?.to_dtype(DType::F32),
        })
        .collect::<Result<_>>()?;
    Tensor::stack(&scalars, 0).map(Some)
}

/// Whether the value is on a device that works ahead of the program.
fn is_on_gpu(tensor: &Tensor) -> bool {
    !matches!(tensor.device(), Device::Cpu)
}

impl Part {
    /// Reads and checks a temperature, unless that would stall a device: there it is taken as it
    /// is, and one that is not above 0 makes the loss NaN.
    fn read(segment: &Segment<'_>) -> Result<Self> {
        let temperature = match segment.temperature {
            Temperature::Fixed(temperature) => temperature,
            Temperature::Learned(temperature) if is_on_gpu(temperature) => 1.0,
            Temperature::Learned(temperature) => {
                temperature.reshape(())?.to_dtype(DType::F64)?.to_scalar()?
            }
        };
        check_temperature(temperature)?;
        let Segment { ref rows, weight, reduction, .. } = *segment;
        Ok(Self { rows: rows.clone(), temperature, weight, reduction })
    }
}

impl Contrast {
    fn forward(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = operand(storage, layout, "contrast")?;
        let (_, dim) = layout.shape().dims2()?;
        let mut gradient = vec![0.0; if self.is_tracked { values.len() } else { 0 }];
        let mut temperatures = Vec::new();
        let mut loss = 0.0;
        for part in &self.parts {
            let Part { ref rows, temperature, weight, reduction } = *part;
            let of_rows = rows.start * dim..rows.end * dim;
            let mut place = self.is_tracked.then(|| &mut gradient[of_rows.clone()]);
            let labels = &self.labels[rows.clone()];
            let place_ref = place.as_deref_mut();
            let outcome =
                contrast(&values[of_rows], dim, labels, temperature, reduction, place_ref);
            if let Some(place) = place.filter(|_| weight != 1.0) {
                place.iter_mut().for_each(|value| *value *= weight as f32);
            }
            temperatures.push(weight * outcome.temperature_gradient);
            loss += weight * outcome.loss;
        }
        if self.is_tracked {
            let embeddings = Tensor::from_vec(gradient, layout.shape(), &Device::Cpu)?;
            // A second forward pass of the same operation gives the same gradients.
            let _ = self.gradients.set(Gradients { embeddings, temperatures });
        }
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn backward(&self, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
        let Some(Gradients { embeddings, temperatures }) = self.gradients.get() else {
            bail!("contrast: the backward pass needs the forward pass of a tracked tensor")
        };
        let scale: f32 = gradient.to_scalar()?;
        let embeddings =
            if scale == 1.0 { embeddings.clone() } else { (embeddings * f64::from(scale))? };
        let temperatures: Vec<f32> =
            temperatures.iter().map(|t| (f64::from(scale) * t) as f32).collect();
        Ok((embeddings, Tensor::new(temperatures, gradient.device())?))
    }
}

impl CustomOp1 for Contrast {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn cpu_fwd(&self, embeddings: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(embeddings, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.backward(gradient)?.0))
    }
}

impl CustomOp2 for Contrast {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn cpu_fwd(
        &self,
        embeddings: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(embeddings, layout)
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (embeddings, temperatures) = self.backward(gradient)?;
        Ok((Some(embeddings), Some(temperatures)))
    }
}
