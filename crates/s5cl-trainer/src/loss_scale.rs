//! The factor of the loss for gradients in half precision.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};

use crate::state::kept;

/// What the loss is multiplied with before its gradient is taken, so that gradients in half
/// precision neither vanish nor overflow.
///
/// It starts at 65536, is halved where the norm of the gradient is not finite, and doubled after
/// 2000 steps in a row where it is; it stays within 1 and 2^24. It is on the device, and so known to
/// the very next step without a read back.
///
/// # Source
///
/// Micikevicius et al., "Mixed Precision Training", 2018, section 3.2, with PyTorch's constants.
pub struct LossScale {
    /// f32 `[2]`: the factor, and the good steps since it was set.
    state: Tensor,
}

const FIRST: f32 = 65536.0;
const RANGE: [f32; 2] = [1.0, 16_777_216.0];
const STEPS_UNTIL_DOUBLED: f64 = 2000.0;
const KEY: &str = "state";

impl LossScale {
    /// Before the first step.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn new(device: &Device) -> Result<Self> {
        Ok(Self { state: Tensor::new(&[FIRST, 0.0], device)? })
    }

    /// The factor of the next step: f32, one value.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn factor(&self) -> Result<Tensor> {
        self.state.get(0)
    }

    /// Decides on the factor of the next step by the norm of the gradients of this: f64 scalar.
    ///
    /// # Errors
    ///
    /// If the norm is not f64, or on another device.
    pub fn update(&mut self, norm: &Tensor) -> Result<()> {
        // 1 where the norm is finite, else 0: zero times anything else is no number, and that is not
        // equal to itself.
        let zero = norm.affine(0.0, 0.0)?;
        let is_good = zero.eq(&zero)?.to_dtype(DType::F32)?;
        let (factor, n_good) = (self.state.get(0)?, (self.state.get(1)? + 1.0)?);
        let is_doubled = n_good.ge(STEPS_UNTIL_DOUBLED)?.to_dtype(DType::F32)?;
        // 1 + doubled where the step was good, else one half.
        let change = ((&is_doubled + 0.5)? * &is_good)?.affine(1.0, 0.5)?;
        let factor = (factor * change)?.clamp(RANGE[0], RANGE[1])?;
        let n_good = (n_good * is_good)?.mul(&is_doubled.affine(-1.0, 1.0)?)?;
        self.state = Tensor::stack(&[factor, n_good], 0)?;
        Ok(())
    }

    /// A copy of the state by name.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Tensor> {
        // Every update makes a new tensor.
        [(KEY.to_owned(), self.state.clone())].into()
    }

    /// Puts back what [`LossScale::tensors`] gave, from any device.
    pub(crate) fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let state = kept("scale of the loss", tensors, KEY, self.state.shape())?;
        self.state = state.to_device(self.state.device())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::LossScale;

    fn after(norms: impl IntoIterator<Item = f64>) -> Result<f32> {
        let mut scale = LossScale::new(&Device::Cpu)?;
        for norm in norms {
            scale.update(&Tensor::new(norm, &Device::Cpu)?)?;
        }
        scale.factor()?.to_scalar()
    }

    #[test]
    fn loss_scale_is_halved_at_once_and_doubled_after_many_good_steps() -> Result<()> {
        let good = |n: usize| std::iter::repeat_n(1.0, n);
        assert_eq!(after([])?, 65536.0);
        assert_eq!(after([f64::INFINITY, f64::NAN])?, 16384.0);
        assert_eq!(after(good(1999))?, 65536.0);
        assert_eq!(after(good(2000))?, 131_072.0);
        assert_eq!(after(good(3999))?, 131_072.0);
        assert_eq!(after(good(4000))?, 262_144.0);
        // A bad step starts the count again.
        assert_eq!(after(good(1999).chain([f64::NAN]).chain(good(1999)))?, 32768.0);
        assert_eq!(after(good(1999).chain([f64::NAN]).chain(good(2000)))?, 65536.0);
        Ok(())
    }

    #[test]
    fn loss_scale_stays_in_its_range() -> Result<()> {
        assert_eq!(after([f64::NAN; 40])?, 1.0);
        assert_eq!(after(std::iter::repeat_n(0.0, 20_000))?, 16_777_216.0);
        Ok(())
    }

    #[test]
    fn loss_scale_goes_on_from_what_was_kept() -> Result<()> {
        let mut first = LossScale::new(&Device::Cpu)?;
        let norm = Tensor::new(1.0, &Device::Cpu)?;
        for _ in 0..1500 {
            first.update(&norm)?;
        }
        let mut second = LossScale::new(&Device::Cpu)?;
        second.restore(&first.tensors())?;
        for _ in 0..500 {
            second.update(&norm)?;
        }
        assert_eq!(second.factor()?.to_scalar::<f32>()?, 131_072.0);
        assert!(second.restore(&Default::default()).is_err());
        Ok(())
    }
}
