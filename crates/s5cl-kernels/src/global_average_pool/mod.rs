//! The mean over all pixels of a map.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::simd;
use crate::values::{Values, operand};

/// The mean of each channel over all pixels, as `torch.nn.AdaptiveAvgPool2d(1)`.
///
/// ```text
/// y[n, c] = sum_{i, j} x[n, i, j, c] / (height * width)
/// ```
///
/// Sums are f32, in reading order.
///
/// # Shapes
///
/// - `maps`: f32 `[batch, height, width, channels]`
/// - result: f32 `[batch, channels]`
///
/// # Errors
///
/// If the maps have no pixels or channels, or are not an f32 tensor of that rank.
pub fn global_average_pool(maps: &Tensor) -> Result<Tensor> {
    maps.contiguous()?.apply_op1(GlobalAveragePool)
}

struct GlobalAveragePool;

/// Batch, pixels and channels.
fn geometry(maps: &Shape) -> Result<(usize, usize, usize)> {
    match *maps.dims() {
        [batch, height, width, channels] if height * width * channels > 0 => {
            Ok((batch, height * width, channels))
        }
        _ => bail!("global_average_pool: expected [batch, height, width, channels], got {maps:?}"),
    }
}

impl CustomOp1 for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "global_average_pool"
    }

    fn cpu_fwd(&self, maps: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, _pixels, channels) = geometry(layout.shape())?;
        let maps = operand(maps, layout, self.name())?;
        let mut out = vec![0.0; batch * channels];
        global_average_pool_forward(maps, &mut out, channels);
        Ok((CpuStorage::F32(out), (batch, channels).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, maps: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::forward(maps, layout)
    }

    fn bwd(&self, maps: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if maps.device().is_cuda() {
            return cuda::backward(maps, gradient).map(Some);
        }
        let (_batch, _pixels, channels) = geometry(maps.shape())?;
        let gradient = gradient.contiguous()?;
        let mut out = vec![0.0; maps.elem_count()];
        global_average_pool_backward(&Values::of(&gradient, self.name())?, &mut out, channels);
        Ok(Some(Tensor::from_vec(out, maps.shape(), maps.device())?))
    }
}

/// Writes the mean over the pixels of each image of `maps`, `[batch, pixels, channels]`, into
/// `out`, `[batch, channels]`. What it holds does not matter.
pub(crate) fn global_average_pool_forward(maps: &[f32], out: &mut [f32], channels: usize) {
    let Some(len) = maps.len().checked_div(out.len() / channels) else { return };
    let pixels = (len / channels) as f32;
    out.par_chunks_mut(channels).zip(maps.par_chunks(len)).for_each(|(out, image)| {
        simd::dispatch(
            #[inline(always)]
            || {
                out.fill(0.0);
                for pixel in image.chunks_exact(channels) {
                    for (sum, value) in out.iter_mut().zip(pixel) {
                        *sum += value;
                    }
                }
                for sum in out.iter_mut() {
                    *sum /= pixels;
                }
            },
        );
    });
}

/// Writes the gradient of the maps, `[batch, pixels, channels]`, into `out`: every pixel gets its
/// share of `gradient`, `[batch, channels]`.
pub(crate) fn global_average_pool_backward(gradient: &[f32], out: &mut [f32], channels: usize) {
    let Some(len) = out.len().checked_div(gradient.len() / channels) else { return };
    let pixels = (len / channels) as f32;
    out.par_chunks_mut(len).zip(gradient.par_chunks(channels)).for_each(|(out, gradient)| {
        let (first, rest) = out.split_at_mut(channels);
        for (share, gradient) in first.iter_mut().zip(gradient) {
            *share = gradient / pixels;
        }
        rest.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(first));
    });
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor, Var};

    use super::global_average_pool;
    use crate::checks::{drawn, gradient, refusal, same_everywhere, values};

    #[test]
    fn global_average_pool_is_the_mean_and_shares_its_gradient() -> Result<()> {
        let maps = Var::new(&[[[[1_f32, 10.0], [2.0, 20.0], [6.0, 30.0]]]], &Device::Cpu)?;
        let pooled = global_average_pool(&maps)?;
        assert_eq!(pooled.to_vec2::<f32>()?, [[3.0, 20.0]]);
        let weighted = (pooled * Tensor::new(&[[3_f32, 6.0]], &Device::Cpu)?)?;
        let gradients = weighted.sum_all()?.backward()?;
        assert_eq!(gradient(&gradients, &maps)?, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        Ok(())
    }

    #[test]
    fn global_average_pool_takes_maps_of_any_strides() -> Result<()> {
        let maps = drawn(1, &[2, 5, 3, 7])?;
        let channels_second = maps.permute((0, 3, 1, 2))?.contiguous()?.permute((0, 2, 3, 1))?;
        let (strided, plain) =
            (global_average_pool(&channels_second)?, global_average_pool(&maps)?);
        assert_eq!(values(&strided)?, values(&plain)?);
        assert_eq!(global_average_pool(&maps.narrow(0, 0, 0)?)?.dims(), [0, 7]);
        Ok(())
    }

    #[test]
    fn global_average_pool_has_the_same_bits_everywhere() {
        same_everywhere(|| {
            let maps = Var::from_tensor(&drawn(2, &[7, 6, 5, 19])?)?;
            let pooled = global_average_pool(&maps)?;
            let gradients = pooled.sqr()?.sum_all()?.backward()?;
            Ok([values(&pooled)?, gradient(&gradients, &maps)?].concat())
        });
    }

    #[test]
    fn global_average_pool_refuses_maps_without_pixels() -> Result<()> {
        let empty = Tensor::zeros((2, 0, 4, 3), DType::F32, &Device::Cpu)?;
        let message = refusal(global_average_pool(&empty));
        assert!(message.contains("global_average_pool") && message.contains("[2, 0, 4, 3]"));
        let double = Tensor::zeros((1, 2, 2, 1), DType::F64, &Device::Cpu)?;
        assert!(
            refusal(global_average_pool(&double)).contains("global_average_pool: expected f32")
        );
        Ok(())
    }
}
