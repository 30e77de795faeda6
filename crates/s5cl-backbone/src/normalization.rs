//! From pixels to what an encoder reads.

use candle_core::{DType, Result, Tensor};

/// Mean and standard deviation of each channel, in units of the full range, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Subtracted from red, green and blue.
    pub mean: [f32; 3],
    /// Divides red, green and blue afterwards; above 0.
    pub std: [f32; 3],
}

impl Normalization {
    /// Maps the full range to -1 to 1: for when nothing is known of the images.
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };

    /// u8 `[batch, height, width, 3]` to f32 of the same shape.
    ///
    /// # Errors
    ///
    /// If the tensor has another type, or other than three channels.
    pub fn apply(&self, pixels: &Tensor) -> Result<Tensor> {
        if pixels.dtype() != DType::U8 {
            candle_core::bail!("expected u8 pixels, got {:?}", pixels.dtype())
        }
        let scale = self.std.map(|std| 1.0 / (255.0 * std));
        let shift = [0, 1, 2].map(|c| -self.mean[c] / self.std[c]);
        let scale = Tensor::new(&scale, pixels.device())?;
        let shift = Tensor::new(&shift, pixels.device())?;
        pixels.to_dtype(DType::F32)?.broadcast_mul(&scale)?.broadcast_add(&shift)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::Normalization;

    #[test]
    fn normalization_maps_range_and_channels() -> Result<()> {
        let pixels = Tensor::new(&[[[[0_u8, 255, 51]]]], &Device::Cpu)?;
        let normalization = Normalization { mean: [0.5, 0.5, 0.2], std: [0.5, 0.25, 0.1] };
        let values = normalization.apply(&pixels)?.flatten_all()?.to_vec1::<f32>()?;
        for (value, expected) in values.iter().zip([-1.0, 2.0, 0.0]) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
        Ok(())
    }
}
