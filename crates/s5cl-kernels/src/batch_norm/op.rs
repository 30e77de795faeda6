//! The operation that candle's graph holds.

use std::sync::{Arc, OnceLock};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Device, Error, Layout, Result, Shape, Tensor, bail};

use super::affine::{Affine, Mask};
#[cfg(feature = "cuda")]
use super::cuda;
use super::passes::{Backward, Moments};
use crate::values::{Values, operand};

/// `(x - mean) * inverse_deviation * parameters[0] + parameters[1]`, residual sum, ReLU.
pub(super) struct Normalize {
    pub(super) mode: Mode,
    pub(super) relu: bool,
    pub(super) has_residual: bool,
}

pub(super) enum Mode {
    /// Mean 0 and deviation 1: the parameters hold the whole affine map.
    Fixed,
    /// The statistics of the batch, kept by the forward pass for the backward pass.
    Batch { epsilon: f64, kept: Arc<OnceLock<OfBatch>> },
}

/// The statistics of a batch.
pub(super) enum OfBatch {
    Cpu(Moments),
    #[cfg(feature = "cuda")]
    Cuda(cuda::OfBatch),
}

impl OfBatch {
    /// Mean and unbiased variance.
    pub(super) fn statistics(&self) -> Result<[Tensor; 2]> {
        match self {
            Self::Cpu(moments) => {
                let mean: Vec<f32> = moments.mean.iter().map(|&m| m as f32).collect();
                let variance: Vec<f32> = moments.unbiased_variance().map(|v| v as f32).collect();
                Ok([Tensor::new(mean, &Device::Cpu)?, Tensor::new(variance, &Device::Cpu)?])
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(of_batch) => Ok(of_batch.statistics.clone()),
        }
    }

    fn moments(&self) -> Result<&Moments> {
        match self {
            Self::Cpu(moments) => Ok(moments),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => bail!("batch_norm: the maps left the GPU"),
        }
    }
}

impl Normalize {
    pub(super) fn channels(&self, maps: &Shape, parameters: &Shape) -> Result<usize> {
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
            Mode::Batch { kept, .. } => {
                kept.get_or_init(|| OfBatch::Cpu(Moments::of(maps, channels))).moments()?
            }
        };
        let affine = affine(parameters, moments, self.epsilon());
        let mut out = vec![0.0; maps.len()];
        affine.apply(maps, self.has_residual.then_some(residual), self.relu, &mut out);
        Ok((CpuStorage::F32(out), maps_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        maps: &CudaStorage,
        maps_layout: &Layout,
        parameters: &CudaStorage,
        parameters_layout: &Layout,
        residual: &CudaStorage,
        residual_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (parameters, residual) = ((parameters, parameters_layout), (residual, residual_layout));
        cuda::forward(self, (maps, maps_layout), parameters, residual)
    }

    fn bwd(
        &self,
        maps: &Tensor,
        parameters: &Tensor,
        residual: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if maps.device().is_cuda() {
            return cuda::backward(self, [maps, parameters, residual, result], gradient);
        }
        let channels = self.channels(maps.shape(), parameters.shape())?;
        let fixed = Moments::standard(channels);
        let moments = match &self.mode {
            Mode::Fixed => &fixed,
            Mode::Batch { kept, .. } => {
                let missing = || Error::Msg("batch_norm: backward before forward".into());
                kept.get().ok_or_else(missing)?.moments()?
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
