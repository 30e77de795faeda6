//! Batch normalization, fused with the residual sum and ReLU that follow it in a ResNet.

pub(crate) mod affine;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;
pub(crate) mod passes;
mod rows;

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, DType, Error, Layout, Result, Shape, Tensor, bail};

use crate::values::{Values, operand};
use affine::{Affine, Mask};
use passes::{Backward, Moments};

/// What normalization by the batch's own statistics gives.
#[derive(Clone, Debug)]
pub struct BatchNormOutput {
    /// The normalized maps, of the shape of the input.
    pub maps: Tensor,
    /// Mean of each channel over the batch and all pixels, f32 `[channels]`, without gradient.
    pub mean: Tensor,
    /// Unbiased variance of each channel, as PyTorch's running statistics use it, f32
    /// `[channels]`, without gradient; the biased one if a channel has a single value.
    pub variance: Tensor,
}

/// Normalizes by the statistics of the batch: `torch.nn.BatchNorm2d` in training mode, then an
/// optional residual sum and an optional ReLU, forward and backward in one pass each.
///
/// ```text
/// y = relu((x - mean) / sqrt(variance + epsilon) * weight + bias + residual)
/// ```
///
/// The variance inside the formula is the biased one. Sums are in f64 across blocks of rows.
///
/// # Shapes
///
/// - `maps`, `residual`: f32 `[batch, height, width, channels]` (any rank with channels last)
/// - `weight`, `bias`: f32 `[channels]`
///
/// # Errors
///
/// If the shapes do not fit, a tensor is not f32, or one is not on the CPU.
pub fn batch_norm_train(
    maps: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    epsilon: f64,
) -> Result<BatchNormOutput> {
    check(maps, [("weight", weight), ("bias", bias)])?;
    let moments = Arc::new(OnceLock::new());
    let mode = Mode::Batch { epsilon, moments: moments.clone() };
    let parameters = Tensor::stack(&[weight, bias], 0)?;
    let normalized = normalize(maps, &parameters, residual, relu, mode)?;
    let Some(moments) = moments.get() else {
        bail!("batch_norm: {:?} has no implementation here", maps.device())
    };
    let device = maps.device();
    let mean: Vec<f32> = moments.mean.iter().map(|&m| m as f32).collect();
    let variance: Vec<f32> = moments.unbiased_variance().map(|v| v as f32).collect();
    Ok(BatchNormOutput {
        maps: normalized,
        mean: Tensor::new(mean, device)?,
        variance: Tensor::new(variance, device)?,
    })
}

/// Normalizes by given statistics: `torch.nn.BatchNorm2d` in evaluation mode, with the optional
/// residual sum and ReLU of [`batch_norm_train`], whose shapes and formula hold.
///
/// # Shapes
///
/// - `mean`, `variance`: f32 `[channels]`, treated as constants
///
/// # Errors
///
/// If the shapes do not fit, a tensor is not f32, or one is not on the CPU.
#[expect(clippy::too_many_arguments, reason = "the formula has that many parts")]
pub fn batch_norm_eval(
    maps: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    mean: &Tensor,
    variance: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    epsilon: f64,
) -> Result<Tensor> {
    check(maps, [("weight", weight), ("bias", bias), ("mean", mean), ("variance", variance)])?;
    let scale = (weight / (variance.detach() + epsilon)?.sqrt()?)?;
    let shift = (bias - (mean.detach() * &scale)?)?;
    let parameters = Tensor::stack(&[&scale, &shift], 0)?;
    normalize(maps, &parameters, residual, relu, Mode::Fixed)
}

/// Fails where a parameter or statistic is not one number for each channel.
fn check<const N: usize>(maps: &Tensor, vectors: [(&str, &Tensor); N]) -> Result<()> {
    let channels = maps.dims().last().copied().unwrap_or(0);
    for (what, vector) in vectors {
        if vector.dims() != [channels] || vector.dtype() != DType::F32 {
            bail!(
                "batch_norm: expected {what} f32 [{channels}] for maps {:?}, got {:?} {:?}",
                maps.shape(),
                vector.dtype(),
                vector.shape()
            )
        }
    }
    Ok(())
}

fn normalize(
    maps: &Tensor,
    parameters: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    if let Some(residual) = residual
        && residual.dims() != maps.dims()
    {
        let (residual, maps) = (residual.shape(), maps.shape());
        bail!("batch_norm: residual {residual:?} is not of the maps' shape {maps:?}")
    }
    let op = Normalize { mode, relu, has_residual: residual.is_some() };
    // candle's operations have a fixed number of operands: an empty one stands for none.
    let residual = match residual {
        Some(residual) => residual.contiguous()?,
        None => Tensor::zeros(0, maps.dtype(), maps.device())?,
    };
    maps.contiguous()?.apply_op3(parameters, &residual, op)
}

/// `(x - mean) * inverse_deviation * parameters[0] + parameters[1]`, residual sum, ReLU.
struct Normalize {
    mode: Mode,
    relu: bool,
    has_residual: bool,
}

enum Mode {
    /// Mean 0 and deviation 1: the parameters hold the whole affine map.
    Fixed,
    /// The statistics of the batch, kept by the forward pass for the backward pass.
    Batch { epsilon: f64, moments: Arc<OnceLock<Moments>> },
}

impl Normalize {
    fn channels(&self, maps: &Shape, parameters: &Shape) -> Result<usize> {
        let channels = maps.dims().last().copied().unwrap_or(0);
        if parameters.dims() != [2, channels] || maps.elem_count() == 0 {
            bail!("batch_norm: maps {maps:?} do not fit weight and bias {parameters:?}")
        }
        Ok(channels)
    }

    fn epsilon(&self) -> f64 {
        match self.mode {
            Mode::Fixed => 0.0,
            Mode::Batch { epsilon, .. } => epsilon,
        }
    }
}

impl CustomOp3 for Normalize {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        maps: &CpuStorage,
        maps_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let channels = self.channels(maps_layout.shape(), parameters_layout.shape())?;
        let maps = operand(maps, maps_layout, self.name())?;
        let parameters = operand(parameters, parameters_layout, self.name())?;
        let residual = operand(residual, residual_layout, self.name())?;
        let fixed = Moments::standard(channels);
        let moments = match &self.mode {
            Mode::Fixed => &fixed,
            Mode::Batch { moments, .. } => moments.get_or_init(|| Moments::of(maps, channels)),
        };
        let affine = affine(parameters, moments, self.epsilon());
        let mut out = vec![0.0; maps.len()];
        affine.apply(maps, self.has_residual.then_some(residual), self.relu, &mut out);
        Ok((CpuStorage::F32(out), maps_layout.shape().clone()))
    }

    fn bwd(
        &self,
        maps: &Tensor,
        parameters: &Tensor,
        residual: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let channels = self.channels(maps.shape(), parameters.shape())?;
        let fixed = Moments::standard(channels);
        let moments = match &self.mode {
            Mode::Fixed => &fixed,
            Mode::Batch { moments, .. } => {
                let missing = || Error::Msg("batch_norm: backward before forward".into());
                moments.get().ok_or_else(missing)?
            }
        };
        let (values, weights) =
            (Values::of(maps, self.name())?, Values::of(parameters, self.name())?);
        let result = Values::of(result, self.name())?;
        let affine = affine(&weights, moments, self.epsilon());
        let backward = Backward {
            maps: &values,
            weight: &weights[..channels],
            moments,
            epsilon: self.epsilon(),
            is_from_batch: matches!(self.mode, Mode::Batch { .. }),
            mask: match (self.relu, self.has_residual) {
                (false, _) => Mask::Open,
                (true, false) => Mask::Affine(&affine),
                (true, true) => Mask::Result(&result),
            },
        };
        let mut gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        let sums = backward.parameters(&mut gradient);
        let device = maps.device();
        let (for_maps, for_residual) = if self.has_residual {
            let mut for_maps = vec![0.0; gradient.len()];
            backward.maps(&sums, &mut gradient, Some(&mut for_maps));
            (for_maps, Some(Tensor::from_vec(gradient, residual.shape(), device)?))
        } else {
            backward.maps(&sums, &mut gradient, None);
            (gradient, None)
        };
        let for_maps = Tensor::from_vec(for_maps, maps.shape(), device)?;
        let for_parameters: Vec<f32> =
            sums.weight.iter().chain(&sums.bias).map(|&sum| sum as f32).collect();
        let for_parameters = Tensor::from_vec(for_parameters, parameters.shape(), device)?;
        Ok((Some(for_maps), Some(for_parameters), for_residual))
    }
}

/// `parameters` are weight and bias, one after the other.
fn affine(parameters: &[f32], moments: &Moments, epsilon: f64) -> Affine {
    let (weight, bias) = parameters.split_at(moments.mean.len());
    Affine::new(weight, bias, &moments.mean, &moments.variance, epsilon)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Result, Tensor};

    use super::{batch_norm_eval, batch_norm_train};
    use crate::checks::{drawn, refusal};

    const EPSILON: f64 = 1e-5;

    #[test]
    fn batch_norm_refuses_what_does_not_fit_and_names_it() -> Result<()> {
        let (maps, three, four) = (drawn(1, &[2, 4, 5, 3])?, drawn(2, &[3])?, drawn(3, &[4])?);
        let train = |weight: &Tensor, bias: &Tensor| {
            refusal(batch_norm_train(&maps, weight, bias, None, false, EPSILON))
        };
        let fixed = |mean: &Tensor, variance: &Tensor| {
            let evaluated =
                batch_norm_eval(&maps, &three, &three, mean, variance, None, false, EPSILON);
            refusal(evaluated)
        };
        let of = |what: &str| format!("batch_norm: expected {what} f32 [3] for maps [2, 4, 5, 3]");
        let double = three.to_dtype(DType::F64)?;
        for (message, what, got) in [
            (train(&three, &four), "bias", "got F32 [4]"),
            (train(&four, &three), "weight", "got F32 [4]"),
            (train(&four, &four), "weight", "got F32 [4]"),
            (train(&three, &three.reshape((1, 3))?), "bias", "got F32 [1, 3]"),
            (train(&three, &double), "bias", "got F64 [3]"),
            (fixed(&four, &three), "mean", "got F32 [4]"),
            (fixed(&three, &four), "variance", "got F32 [4]"),
        ] {
            assert!(message.contains(&of(what)) && message.contains(got), "{message}");
        }
        let message = refusal(batch_norm_train(&maps, &three, &three, Some(&four), false, EPSILON));
        assert!(message.contains("batch_norm: residual [4] is not of"), "{message}");
        Ok(())
    }
}
