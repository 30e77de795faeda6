//! A convolution without bias, as every layer of a ResNet uses it.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::{FanInOut, Init, NonLinearity, NormalOrUniform};
use s5cl_kernels::{Conv2dConfig, conv2d};

/// torchvision's initialization of a ResNet's convolutions.
const INIT: Init = Init::Kaiming {
    dist: NormalOrUniform::Normal,
    fan: FanInOut::FanOut,
    non_linearity: NonLinearity::ReLU,
};

/// A square convolution that keeps the map's size but for its stride.
#[derive(Clone, Debug)]
pub struct Conv {
    weight: Tensor,
    config: Conv2dConfig,
}

impl Conv {
    /// Builds one with `kernel` (odd) and `stride` in pixels; the parameter is `weight`,
    /// `[out_channels, in_channels, kernel, kernel]`.
    ///
    /// # Errors
    ///
    /// If the builder knows the weight with another shape.
    pub fn new(
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let shape = (out_channels, in_channels, kernel, kernel);
        let weight = builder.get_with_hints(shape, "weight", INIT)?;
        Ok(Self { weight, config: Conv2dConfig { stride, ..Conv2dConfig::same(kernel) } })
    }

    /// f32 `[batch, height, width, in_channels]` to `[batch, height / stride, width / stride,
    /// out_channels]`, rounded up.
    ///
    /// # Errors
    ///
    /// If the maps are not as above.
    pub fn forward(&self, maps: &Tensor) -> Result<Tensor> {
        conv2d(maps, &self.weight, self.config)
    }
}
