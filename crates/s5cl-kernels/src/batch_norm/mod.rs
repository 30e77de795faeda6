//! Batch normalization, fused with the residual sum and ReLU that follow it in a ResNet.

pub(crate) mod affine;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;
mod op;
pub(crate) mod passes;
mod rows;
mod running;

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Result, Tensor, bail};

use op::{Mode, Normalize};

pub use running::running_statistics_step;

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
/// If the shapes do not fit, a tensor is not f32, or they are not on one device.
pub fn batch_norm_train(
    maps: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    epsilon: f64,
) -> Result<BatchNormOutput> {
    check(maps, [("weight", weight), ("bias", bias)])?;
    let kept = Arc::new(OnceLock::new());
    let mode = Mode::Batch { epsilon, kept: kept.clone() };
    let parameters = Tensor::stack(&[weight, bias], 0)?;
    let normalized = normalize(maps, &parameters, residual, relu, mode)?;
    let Some(of_batch) = kept.get() else {
        bail!("batch_norm: {:?} has no implementation here", maps.device())
    };
    let [mean, variance] = of_batch.statistics()?;
    Ok(BatchNormOutput { maps: normalized, mean, variance })
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
/// If the shapes do not fit, a tensor is not f32, or they are not on one device.
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
    // candle's operations have a fixed number of operands: a number stands for none.
    let residual = match residual {
        Some(residual) => residual.contiguous()?,
        None => Tensor::zeros(1, maps.dtype(), maps.device())?,
    };
    maps.contiguous()?.apply_op3(parameters, &residual, op)
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
