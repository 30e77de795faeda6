//! The types in which a network computes.

use std::fmt;

use candle_core::{Device, Result, bail};

/// The type in which maps and weights lie on a CUDA device while a network computes. Parameters,
/// statistics, images, the result and all gradients that candle sees are f32 with any of them, and
/// so are sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32, with products of 24 bits; the only one on the CPU.
    #[default]
    F32,
    /// f32, whose products take 11 bits of each factor, on tensor cores.
    Tf32,
    /// bfloat16: 8 bits, and the exponents of f32.
    Bf16,
    /// IEEE half precision: 11 bits, and few exponents: gradients below 6e-8 vanish unless the loss
    /// is scaled.
    F16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl Precision {
    /// Fails where a device does not have it.
    ///
    /// # Errors
    ///
    /// If it is another than [`Self::F32`], and the device is not a CUDA device.
    pub fn check(self, device: &Device) -> Result<()> {
        if self != Self::F32 && !device.is_cuda() {
            bail!("precision {self:?} is for CUDA devices; on {:?} it is F32", device.location())
        }
        Ok(())
    }
}
