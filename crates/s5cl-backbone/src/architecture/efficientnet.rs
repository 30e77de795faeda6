//! EfficientNetV2 with torchvision's key names.

use candle_core::Result;
use candle_nn::VarBuilder;
use s5cl_kernels::{Activation, Maps};

use crate::layers::CONV;
use crate::stages::Stages;
use crate::{Conv, Layers};

/// torchvision's for this family.
const EPSILON: f64 = 1e-3;

/// How a block widens its channels and convolves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageKind {
    /// In one 3x3 convolution.
    Fused,
    /// In a 1x1 convolution, a depthwise one, squeeze and excitation.
    Mobile,
}

/// Blocks of one kind, the first of which has the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MobileStage {
    /// The kind of all blocks.
    pub kind: StageKind,
    /// Channels inside of a block for each channel of its input.
    pub expansion: usize,
    /// Of the first block.
    pub stride: usize,
    /// Channels of the result.
    pub channels: usize,
    /// Blocks.
    pub blocks: usize,
}

/// The shape of an EfficientNetV2.
///
/// # Source
///
/// Tan and Le, "EfficientNetV2", 2021, as torchvision builds it; without stochastic depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EfficientNetConfig {
    /// Channels of the stem.
    pub stem_channels: usize,
    /// The stages behind it.
    pub stages: Vec<MobileStage>,
    /// Length of the encoding.
    pub dim: usize,
}

impl EfficientNetConfig {
    /// EfficientNetV2-S.
    #[must_use]
    pub fn v2_small() -> Self {
        let stage = |kind, expansion, stride, channels, blocks| MobileStage {
            kind,
            expansion,
            stride,
            channels,
            blocks,
        };
        use StageKind::{Fused, Mobile};
        Self {
            stem_channels: 24,
            stages: vec![
                stage(Fused, 1, 1, 24, 2),
                stage(Fused, 4, 2, 48, 4),
                stage(Fused, 4, 2, 64, 4),
                stage(Mobile, 4, 2, 128, 6),
                stage(Mobile, 6, 1, 160, 9),
                stage(Mobile, 6, 2, 256, 15),
            ],
            dim: 1280,
        }
    }

    /// Keys are torchvision's: `features.0.{0, 1}` for the stem, `features.1.0.block.0.0.weight`
    /// and so on.
    pub(super) fn build(&self, stages: &mut Stages, builder: &VarBuilder<'_>) -> Result<usize> {
        let builder = builder.pp("features");
        let images = stages.images();
        let conv = Conv::same((3, self.stem_channels), 3, 2);
        let maps = activated(stages.layers(), images, conv, &builder.pp(0))?;
        let mut maps = stages.end(maps);
        let mut inputs = self.stem_channels;
        for (index, stage) in self.stages.iter().enumerate() {
            for number in 0..stage.blocks {
                let stride = if number == 0 { stage.stride } else { 1 };
                let builder = builder.pp(index + 1).pp(number).pp("block");
                let block = MobileBlock { inputs, outputs: stage.channels, stride };
                maps = block.build(stages.layers(), maps, stage, &builder)?;
                inputs = stage.channels;
            }
            maps = stages.end(maps);
        }
        let layers = stages.layers();
        let conv = Conv::same((inputs, self.dim), 1, 1);
        let maps = activated(layers, maps, conv, &builder.pp(self.stages.len() + 1))?;
        layers.global_average_pool(maps);
        Ok(self.dim)
    }
}

/// A convolution and its normalization, the convolution under 0 and the normalization under 1.
fn normalized(
    layers: &mut Layers,
    input: Maps,
    conv: Conv,
    residual: Option<Maps>,
    builder: &VarBuilder<'_>,
) -> Result<Maps> {
    let maps = layers.conv(input, conv, None, &builder.pp(0))?;
    layers.batch_norm(maps, conv.channels.1, (residual, false), EPSILON, &builder.pp(1))
}

fn activated(
    layers: &mut Layers,
    input: Maps,
    conv: Conv,
    builder: &VarBuilder<'_>,
) -> Result<Maps> {
    let maps = normalized(layers, input, conv, None, builder)?;
    Ok(layers.activation(maps, Activation::Silu))
}

struct MobileBlock {
    inputs: usize,
    outputs: usize,
    stride: usize,
}

impl MobileBlock {
    fn build(
        &self,
        layers: &mut Layers,
        input: Maps,
        stage: &MobileStage,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        let &Self { inputs, outputs, stride } = self;
        let residual = (stride == 1 && inputs == outputs).then_some(input);
        let wide = inputs * stage.expansion;
        match stage.kind {
            StageKind::Fused if stage.expansion == 1 => {
                let conv = Conv::same((inputs, outputs), 3, stride);
                // The sum is behind the activation here, in no normalization.
                let maps = activated(layers, input, conv, &builder.pp(0))?;
                Ok(match residual {
                    Some(residual) => layers.add(maps, residual),
                    None => maps,
                })
            }
            StageKind::Fused => {
                let conv = Conv::same((inputs, wide), 3, stride);
                let maps = activated(layers, input, conv, &builder.pp(0))?;
                let conv = Conv::same((wide, outputs), 1, 1);
                normalized(layers, maps, conv, residual, &builder.pp(1))
            }
            StageKind::Mobile => {
                let maps =
                    activated(layers, input, Conv::same((inputs, wide), 1, 1), &builder.pp(0))?;
                let conv = Conv::depthwise(wide, 3, stride);
                let maps = activated(layers, maps, conv, &builder.pp(1))?;
                let maps = excited(layers, maps, wide, (inputs / 4).max(1), &builder.pp(2))?;
                let conv = Conv::same((wide, outputs), 1, 1);
                normalized(layers, maps, conv, residual, &builder.pp(3))
            }
        }
    }
}

/// Squeeze and excitation with so many channels in between.
fn excited(
    layers: &mut Layers,
    input: Maps,
    channels: usize,
    squeezed: usize,
    builder: &VarBuilder<'_>,
) -> Result<Maps> {
    let means = layers.global_average_pool(input);
    let conv = Conv::same((channels, squeezed), 1, 1);
    let maps = layers.conv_with_bias(means, conv, CONV, None, &builder.pp("fc1"))?;
    let maps = layers.activation(maps, Activation::Silu);
    let conv = Conv::same((squeezed, channels), 1, 1);
    let logits = layers.conv_with_bias(maps, conv, CONV, None, &builder.pp("fc2"))?;
    Ok(layers.gate(input, logits))
}
