//! ConvNeXt with timm's key names.

use candle_core::Result;
use candle_nn::VarBuilder;
use s5cl_kernels::{Activation, Maps};

use crate::layers::{Behind, LayerScale, TRANSFORMER};
use crate::stages::Stages;
use crate::{Conv, Layers};

/// Of all layer normalizations.
const EPSILON: f64 = 1e-6;
/// Layer scale at first.
const LAYER_SCALE: f64 = 1e-6;
/// Channels inside of a block, for each one outside.
const EXPANSION: usize = 4;

/// The shape of a ConvNeXt.
///
/// # Source
///
/// Liu et al., "A ConvNet for the 2020s", 2022; without stochastic depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvNextConfig {
    /// Blocks in each of the four stages; every stage but the first halves the maps.
    pub blocks: [usize; 4],
    /// Channels of each stage; the last is the length of the encoding.
    pub channels: [usize; 4],
}

impl ConvNextConfig {
    /// ConvNeXt-Tiny.
    #[must_use]
    pub fn tiny() -> Self {
        Self { blocks: [3, 3, 9, 3], channels: [96, 192, 384, 768] }
    }

    /// Keys are timm's: `stem.{0, 1}`, `stages.1.downsample.{0, 1}`, `stages.0.blocks.0.{conv_dw,
    /// norm, mlp.fc1, mlp.fc2, gamma}`, `head.norm`.
    pub(super) fn build(&self, stages: &mut Stages, builder: &VarBuilder<'_>) -> Result<usize> {
        let (images, layers) = (stages.images(), stages.layers());
        let stem = builder.pp("stem");
        let conv = Conv::patches((3, self.channels[0]), 4);
        let maps = layers.conv_with_bias(images, conv, TRANSFORMER, None, &stem.pp(0))?;
        let maps = layers.layer_norm(maps, self.channels[0], EPSILON, &stem.pp(1))?;
        let mut maps = stages.end(maps);
        for (stage, channels) in self.channels.into_iter().enumerate() {
            let builder = builder.pp("stages").pp(stage);
            let layers = stages.layers();
            if stage > 0 {
                let (inputs, builder) = (self.channels[stage - 1], builder.pp("downsample"));
                maps = layers.layer_norm(maps, inputs, EPSILON, &builder.pp(0))?;
                let conv = Conv::patches((inputs, channels), 2);
                maps = layers.conv_with_bias(maps, conv, TRANSFORMER, None, &builder.pp(1))?;
            }
            for index in 0..self.blocks[stage] {
                maps = block(layers, maps, channels, &builder.pp("blocks").pp(index))?;
            }
            if stage + 1 < self.channels.len() {
                maps = stages.end(maps);
            }
        }
        let (layers, dim) = (stages.layers(), self.channels[3]);
        let maps = layers.global_average_pool(maps);
        layers.layer_norm(maps, dim, EPSILON, &builder.pp("head").pp("norm"))?;
        Ok(dim)
    }
}

/// A depthwise convolution and two linear layers, beside the input.
fn block(
    layers: &mut Layers,
    input: Maps,
    channels: usize,
    builder: &VarBuilder<'_>,
) -> Result<Maps> {
    let conv = Conv::depthwise(channels, 7, 1);
    let maps = layers.conv_with_bias(input, conv, TRANSFORMER, None, &builder.pp("conv_dw"))?;
    let maps = layers.layer_norm(maps, channels, EPSILON, &builder.pp("norm"))?;
    let (mlp, wide) = (builder.pp("mlp"), EXPANSION * channels);
    let maps = layers.linear(maps, (channels, wide), Behind::default(), &mlp.pp("fc1"))?;
    let maps = layers.activation(maps, Activation::Gelu);
    let scale = LayerScale::new(channels, LAYER_SCALE, "gamma", builder)?;
    let behind = Behind { scale: Some(&scale), residual: Some(input) };
    layers.linear(maps, (wide, channels), behind, &mlp.pp("fc2"))
}
