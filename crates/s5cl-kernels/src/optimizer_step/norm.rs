//! The norm of all gradients together, and what it makes of them.

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::update::BLOCK;
use crate::simd;
use crate::values::Values;

/// The norm of all gradients taken together: the root of the sum of all squares, in f64.
///
/// Squares are summed in blocks of the tensors, and the blocks in order.
///
/// # Shapes
///
/// - `gradients`: f32, any shapes, on one device
/// - result: f64 scalar on that device; 0 without gradients
///
/// # Errors
///
/// If a gradient is not f32, or on another device than the first.
pub fn gradient_norm<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<Tensor> {
    let gradients: Vec<Tensor> =
        gradients.into_iter().map(Tensor::contiguous).collect::<Result<_>>()?;
    let device = gradients.first().map_or(&Device::Cpu, Tensor::device);
    for gradient in &gradients {
        if gradient.dtype() != DType::F32 || !gradient.device().same_device(device) {
            let (dtype, shape, got) = (gradient.dtype(), gradient.shape(), gradient.device());
            bail!("gradient_norm: expected f32 on {device:?}, got {dtype:?} {shape:?} on {got:?}")
        }
    }
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return super::cuda::norm(&gradients);
    }
    let mut sum = 0.0;
    for gradient in &gradients {
        let values = Values::of(gradient, "gradient_norm")?;
        let blocks: Vec<f64> = values.par_chunks(BLOCK).map(sum_of_squares).collect();
        sum += blocks.iter().sum::<f64>();
    }
    Tensor::new(sum.sqrt(), &Device::Cpu)
}

fn sum_of_squares(values: &[f32]) -> f64 {
    /// Sums that grow side by side, so that vector instructions can be used.
    const LANES: usize = 32;
    simd::dispatch(
        #[inline(always)]
        || {
            let mut sums = [0.0_f64; LANES];
            let (rows, rest) = values.as_chunks::<LANES>();
            for row in rows {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += f64::from(value) * f64::from(value);
                }
            }
            for (sum, &value) in sums.iter_mut().zip(rest) {
                *sum += f64::from(value) * f64::from(value);
            }
            sums.iter().sum()
        },
    )
}

/// The factor that brings gradients of norm `norm`, taken together, to a norm of at most
/// `largest` (0: no limit): 1 where they are short enough, NaN where the norm is. The formula is
/// `torch.nn.utils.clip_grad_norm_`'s.
#[must_use]
pub fn clip_scale(norm: f64, largest: f64) -> f64 {
    // PyTorch adds this so that a norm of zero divides.
    const MARGIN: f64 = 1e-6;
    if largest <= 0.0 {
        return 1.0;
    }
    let scale = largest / (norm + MARGIN);
    // The smaller one, as `f64::min` is, but for NaN, which that would hide.
    if scale > 1.0 { 1.0 } else { scale }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor};

    use super::{clip_scale, gradient_norm};
    use crate::checks::{drawn, refusal, same_everywhere, values};
    use crate::optimizer_step::update::BLOCK;

    /// The sum is in f64, and so is its root.
    const EXACT: f64 = 1e-12;
    /// Several blocks, the last one not full.
    const LEN: usize = 2 * BLOCK + 77;

    #[test]
    fn gradient_norm_is_that_of_all_values_in_f64() -> Result<()> {
        let norm = |gradients: &[Tensor]| gradient_norm(gradients)?.to_scalar::<f64>();
        let gradients = [drawn(1, &[LEN])?, drawn(2, &[3, 5])?.t()?, drawn(3, &[1])?];
        let mut sum = 0.0;
        for gradient in &gradients {
            sum += values(gradient)?.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        }
        let got = norm(&gradients)?;
        assert!((got / sum.sqrt() - 1.0).abs() < EXACT, "{got}, expected {}", sum.sqrt());
        // Squares of f32 would overflow.
        let large = Tensor::new(&[3e30_f32, 4e30], &Device::Cpu)?;
        assert!((norm(std::slice::from_ref(&large))? / 5e30 - 1.0).abs() < f64::from(f32::EPSILON));
        assert_eq!(norm(&[])?, 0.0);
        assert!(norm(&[Tensor::new(f32::NAN, &Device::Cpu)?])?.is_nan());
        same_everywhere(|| Ok(vec![norm(&gradients)? as f32]));
        let message = refusal(norm(&[large.to_dtype(DType::F64)?]));
        assert!(message.contains("gradient_norm: expected f32 on Cpu, got F64 [2]"), "{message}");
        Ok(())
    }

    #[test]
    fn clip_scale_shortens_what_is_too_long() {
        assert!((clip_scale(4.0, 1.0) - 0.25).abs() < f64::from(f32::EPSILON));
        assert_eq!([clip_scale(0.5, 1.0), clip_scale(9.0, 0.0)], [1.0; 2]);
        assert!(clip_scale(f64::NAN, 1.0).is_nan());
    }
}
