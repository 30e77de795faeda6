//! Residual networks with torchvision's key names.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use s5cl_kernels::{Maps, Precision};

use crate::{ConvNet, Encoder, Mode};

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
    net: ConvNet,
    dim: usize,
}

impl ResNet {
    /// Builds one; keys are torchvision's (`conv1.weight`, `layer1.0.bn1.running_mean`, ...).
    ///
    /// # Errors
    ///
    /// If the builder knows one of the weights with another shape, or its device does not have the
    /// precision.
    pub fn new(
        config: &ResNetConfig,
        precision: Precision,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        precision.check(builder.device())?;
        let ResNetConfig { stem, blocks: n_blocks, channels } = config;
        let window = match stem {
            Stem::Standard => (7, 2),
            Stem::Small => (3, 1),
        };
        let mut net = ConvNet::new(precision);
        let maps = net.conv(net.images(), (3, channels[0]), window, &builder.pp("conv1"))?;
        let mut maps = net.batch_norm(maps, channels[0], None, true, &builder.pp("bn1"))?;
        if *stem == Stem::Standard {
            maps = net.max_pool(maps, 3, 2, 1);
        }
        let mut in_channels = channels[0];
        for stage in 0..channels.len() {
            let builder = builder.pp(format!("layer{}", stage + 1));
            for block in 0..n_blocks[stage] {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let channels = (in_channels, channels[stage]);
                maps = basic_block(&mut net, maps, channels, stride, &builder.pp(block))?;
                in_channels = channels.1;
            }
        }
        net.global_average_pool(maps);
        Ok(Self { net, dim: in_channels })
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
        self.net.forward(images, mode)
    }
}

/// Two 3x3 convolutions beside a shortcut.
fn basic_block(
    net: &mut ConvNet,
    input: Maps,
    (in_channels, channels): (usize, usize),
    stride: usize,
    builder: &VarBuilder<'_>,
) -> Result<Maps> {
    let shortcut = if stride == 1 && in_channels == channels {
        input
    } else {
        let builder = builder.pp("downsample");
        let maps = net.conv(input, (in_channels, channels), (1, stride), &builder.pp(0))?;
        net.batch_norm(maps, channels, None, false, &builder.pp(1))?
    };
    let maps = net.conv(input, (in_channels, channels), (3, stride), &builder.pp("conv1"))?;
    let maps = net.batch_norm(maps, channels, None, true, &builder.pp("bn1"))?;
    let maps = net.conv(maps, (channels, channels), (3, 1), &builder.pp("conv2"))?;
    net.batch_norm(maps, channels, Some(shortcut), true, &builder.pp("bn2"))
}
