//! Residual networks with torchvision's key names.

use candle_core::Result;
use candle_nn::VarBuilder;
use s5cl_kernels::Maps;

use crate::stages::Stages;
use crate::{Conv, Layers};

/// PyTorch's default, with which every torchvision weight was made.
const EPSILON: f64 = 1e-5;

/// How images become the first feature maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stem {
    /// 7x7 convolution of stride 2, then 3x3 max pooling of stride 2: for 224 px.
    Standard,
    /// 3x3 convolution of stride 1, no pooling: for images of up to about 64 px.
    Small,
}

/// What stands beside a shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 and 1x1 convolutions, the last with four times the channels; the 3x3 one has the
    /// stride, as torchvision's do.
    Bottleneck,
}

impl Block {
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// The shape of a ResNet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNetConfig {
    /// The stem.
    pub stem: Stem,
    /// The kind of all blocks.
    pub block: Block,
    /// Blocks in each of the four stages; every stage but the first halves the maps.
    pub blocks: [usize; 4],
    /// Channels of the convolutions in each stage, and of the stem, which has those of the first.
    pub channels: [usize; 4],
}

impl ResNetConfig {
    /// ResNet-18 of He et al., "Deep Residual Learning", 2016, as torchvision builds it.
    #[must_use]
    pub fn resnet18() -> Self {
        Self {
            stem: Stem::Standard,
            block: Block::Basic,
            blocks: [2; 4],
            channels: [64, 128, 256, 512],
        }
    }

    /// ResNet-34.
    #[must_use]
    pub fn resnet34() -> Self {
        Self { blocks: [3, 4, 6, 3], ..Self::resnet18() }
    }

    /// ResNet-50.
    #[must_use]
    pub fn resnet50() -> Self {
        Self { block: Block::Bottleneck, ..Self::resnet34() }
    }

    /// ResNet-101.
    #[must_use]
    pub fn resnet101() -> Self {
        Self { blocks: [3, 4, 23, 3], ..Self::resnet50() }
    }

    /// ResNet-18 with the stem for small images (SimCLR, Chen et al., 2020, appendix B.9).
    #[must_use]
    pub fn resnet18_small() -> Self {
        Self { stem: Stem::Small, ..Self::resnet18() }
    }

    /// One block a stage and a quarter of the channels, for small images on a CPU.
    #[must_use]
    pub fn slim() -> Self {
        let channels = [16, 32, 64, 128];
        Self { stem: Stem::Small, block: Block::Basic, blocks: [1; 4], channels }
    }

    /// Keys are torchvision's (`conv1.weight`, `layer1.0.bn1.running_mean`, ...); the encoding is
    /// the mean over all pixels.
    pub(super) fn build(&self, stages: &mut Stages, builder: &VarBuilder<'_>) -> Result<usize> {
        let images = stages.images();
        let maps = self.stem(stages.layers(), images, builder)?;
        let mut maps = stages.end(maps);
        let mut in_channels = self.channels[0];
        for (stage, n_blocks) in self.blocks.into_iter().enumerate() {
            let builder = builder.pp(format!("layer{}", stage + 1));
            for block in 0..n_blocks {
                let channels = [in_channels, self.channels[stage]];
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                maps = self.block(stages.layers(), maps, channels, stride, &builder.pp(block))?;
                in_channels = self.channels[stage] * self.block.expansion();
            }
            if stage + 1 < self.blocks.len() {
                maps = stages.end(maps);
            }
        }
        stages.layers().global_average_pool(maps);
        Ok(in_channels)
    }

    fn stem(&self, layers: &mut Layers, images: Maps, builder: &VarBuilder<'_>) -> Result<Maps> {
        let (kernel, stride) = match self.stem {
            Stem::Standard => (7, 2),
            Stem::Small => (3, 1),
        };
        let conv = Conv::same((3, self.channels[0]), kernel, stride);
        let maps = layers.conv(images, conv, None, &builder.pp("conv1"))?;
        let maps =
            layers.batch_norm(maps, self.channels[0], (None, true), EPSILON, &builder.pp("bn1"))?;
        Ok(match self.stem {
            Stem::Standard => layers.max_pool(maps, 3, 2, 1),
            Stem::Small => maps,
        })
    }

    /// Convolutions beside a shortcut, which is a convolution too where the size changes.
    fn block(
        &self,
        layers: &mut Layers,
        input: Maps,
        [inputs, channels]: [usize; 2],
        stride: usize,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        let outputs = channels * self.block.expansion();
        let shortcut = if stride == 1 && inputs == outputs {
            input
        } else {
            let builder = builder.pp("downsample");
            let conv = Conv::same((inputs, outputs), 1, stride);
            let maps = layers.conv(input, conv, None, &builder.pp(0))?;
            layers.batch_norm(maps, outputs, (None, false), EPSILON, &builder.pp(1))?
        };
        let convs = match self.block {
            Block::Basic => vec![
                Conv::same((inputs, channels), 3, stride),
                Conv::same((channels, outputs), 3, 1),
            ],
            Block::Bottleneck => vec![
                Conv::same((inputs, channels), 1, 1),
                Conv::same((channels, channels), 3, stride),
                Conv::same((channels, outputs), 1, 1),
            ],
        };
        let (n_convs, mut maps) = (convs.len(), input);
        for (index, conv) in convs.into_iter().enumerate() {
            let number = index + 1;
            maps = layers.conv(maps, conv, None, &builder.pp(format!("conv{number}")))?;
            let behind = ((number == n_convs).then_some(shortcut), true);
            let builder = builder.pp(format!("bn{number}"));
            maps = layers.batch_norm(maps, conv.channels.1, behind, EPSILON, &builder)?;
        }
        Ok(maps)
    }
}
