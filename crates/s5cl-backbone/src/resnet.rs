//! Residual networks with torchvision's key names.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use s5cl_kernels::{global_average_pool, max_pool2d};

use crate::{BatchNorm, Conv, Encoder, Mode};

/// How images become the first feature maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stem {
    /// 7x7 convolution of stride 2, then 3x3 max pooling of stride 2: for 224 px.
    Standard,
    /// 3x3 convolution of stride 1, no pooling: for images of up to about 64 px.
    Small,
}

/// The shape of a ResNet of basic blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNetConfig {
    /// The stem.
    pub stem: Stem,
    /// Blocks in each of the four stages; every stage but the first halves the maps.
    pub blocks: [usize; 4],
    /// Channels in each stage; the last is the length of the encoding.
    pub channels: [usize; 4],
}

impl ResNetConfig {
    /// ResNet-18 of He et al., "Deep Residual Learning", 2016, as torchvision builds it.
    #[must_use]
    pub fn resnet18() -> Self {
        Self { stem: Stem::Standard, blocks: [2; 4], channels: [64, 128, 256, 512] }
    }

    /// ResNet-18 with the stem for small images (SimCLR, Chen et al., 2020, appendix B.9).
    #[must_use]
    pub fn resnet18_small() -> Self {
        Self { stem: Stem::Small, ..Self::resnet18() }
    }

    /// One block a stage and a quarter of the channels, for small images on a CPU.
    #[must_use]
    pub fn slim() -> Self {
        Self { stem: Stem::Small, blocks: [1; 4], channels: [16, 32, 64, 128] }
    }
}

/// A ResNet of basic blocks without its classifier: the encoding is the mean over all pixels.
pub struct ResNet {
    stem: Stem,
    conv1: Conv,
    bn1: BatchNorm,
    blocks: Vec<BasicBlock>,
    dim: usize,
}

impl ResNet {
    /// Builds one; keys are torchvision's (`conv1.weight`, `layer1.0.bn1.running_mean`, ...).
    ///
    /// # Errors
    ///
    /// If the builder knows one of the weights with another shape.
    pub fn new(config: &ResNetConfig, builder: &VarBuilder<'_>) -> Result<Self> {
        let ResNetConfig { stem, blocks: n_blocks, channels } = config;
        let (kernel, stride) = match stem {
            Stem::Standard => (7, 2),
            Stem::Small => (3, 1),
        };
        let conv1 = Conv::new(3, channels[0], kernel, stride, &builder.pp("conv1"))?;
        let bn1 = BatchNorm::new(channels[0], &builder.pp("bn1"))?;
        let mut blocks = Vec::new();
        let mut in_channels = channels[0];
        for stage in 0..channels.len() {
            let builder = builder.pp(format!("layer{}", stage + 1));
            for block in 0..n_blocks[stage] {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(BasicBlock::new(
                    in_channels,
                    channels[stage],
                    stride,
                    &builder.pp(block),
                )?);
                in_channels = channels[stage];
            }
        }
        Ok(Self { stem: *stem, conv1, bn1, blocks, dim: in_channels })
    }
}

impl Encoder for ResNet {
    fn dim(&self) -> usize {
        self.dim
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let (_batch, height, width, channels) = images.dims4()?;
        if channels != 3 || height.min(width) < 8 {
            bail!(
                "expected images [batch, height, width, 3] of 8 pixels or more, got {:?}",
                images.shape()
            )
        }
        let maps = self.conv1.forward(images)?;
        let mut maps = self.bn1.forward(&maps, None, true, mode)?;
        if self.stem == Stem::Standard {
            maps = max_pool2d(&maps, 3, 2, 1)?;
        }
        for block in &self.blocks {
            maps = block.forward(&maps, mode)?;
        }
        global_average_pool(&maps)
    }
}

/// Two 3x3 convolutions beside a shortcut.
struct BasicBlock {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    downsample: Option<(Conv, BatchNorm)>,
}

impl BasicBlock {
    fn new(
        in_channels: usize,
        channels: usize,
        stride: usize,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let downsample = if stride == 1 && in_channels == channels {
            None
        } else {
            let builder = builder.pp("downsample");
            let conv = Conv::new(in_channels, channels, 1, stride, &builder.pp(0))?;
            Some((conv, BatchNorm::new(channels, &builder.pp(1))?))
        };
        Ok(Self {
            conv1: Conv::new(in_channels, channels, 3, stride, &builder.pp("conv1"))?,
            bn1: BatchNorm::new(channels, &builder.pp("bn1"))?,
            conv2: Conv::new(channels, channels, 3, 1, &builder.pp("conv2"))?,
            bn2: BatchNorm::new(channels, &builder.pp("bn2"))?,
            downsample,
        })
    }

    fn forward(&self, maps: &Tensor, mode: Mode) -> Result<Tensor> {
        let shortcut = match &self.downsample {
            Some((conv, bn)) => bn.forward(&conv.forward(maps)?, None, false, mode)?,
            None => maps.clone(),
        };
        let maps = self.bn1.forward(&self.conv1.forward(maps)?, None, true, mode)?;
        self.bn2.forward(&self.conv2.forward(&maps)?, Some(&shortcut), true, mode)
    }
}
