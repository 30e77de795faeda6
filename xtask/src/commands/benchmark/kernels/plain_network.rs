//! A residual network of candle's layers, as one writes it first.

use candle_core::{D, Result, Tensor};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, batch_norm,
    conv2d_no_bias, linear,
};
use s5cl_backbone::{ResNetConfig, Stem};

use super::ours::OUTPUTS;

/// A ResNet of basic blocks over maps `[batch, channels, height, width]`, with torchvision's names.
pub(super) struct Network {
    stem: Normalized,
    pools: bool,
    blocks: Vec<Block>,
    head: Linear,
}

impl Network {
    /// With the weights of a builder.
    pub(super) fn new(config: &ResNetConfig, builder: &VarBuilder<'_>) -> Result<Self> {
        let ResNetConfig { stem, blocks: n_blocks, channels, .. } = config;
        let pools = *stem == Stem::Standard;
        let window = if pools { (7, 2) } else { (3, 1) };
        let stem =
            Normalized::new([3, channels[0]], window, &builder.pp("conv1"), &builder.pp("bn1"))?;
        let mut blocks = Vec::new();
        let mut in_channels = channels[0];
        for (stage, (&channels, &n_blocks)) in channels.iter().zip(n_blocks).enumerate() {
            let builder = builder.pp(format!("layer{}", stage + 1));
            for block in 0..n_blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Block::new([in_channels, channels], stride, &builder.pp(block))?);
                in_channels = channels;
            }
        }
        let head = linear(in_channels, OUTPUTS, builder.pp("embedder"))?;
        Ok(Self { stem, pools, blocks, head })
    }

    /// The embeddings of images `[batch, 3, height, width]`; by the statistics of the batch in
    /// training.
    pub(super) fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let mut maps = self.stem.forward(images, train)?.relu()?;
        if self.pools {
            // Zeros cannot win behind a ReLU, so that they may stand for the padding.
            let padded = maps.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
            maps = padded.max_pool2d_with_stride(3, 2)?;
        }
        for block in &self.blocks {
            maps = block.forward(&maps, train)?;
        }
        self.head.forward(&maps.mean((D::Minus2, D::Minus1))?)
    }
}

/// Two 3x3 convolutions beside a shortcut.
struct Block {
    first: Normalized,
    second: Normalized,
    shortcut: Option<Normalized>,
}

impl Block {
    fn new(channels: [usize; 2], stride: usize, builder: &VarBuilder<'_>) -> Result<Self> {
        let pair = |channels, window, conv: &str, bn: &str| {
            Normalized::new(channels, window, &builder.pp(conv), &builder.pp(bn))
        };
        let shortcut = (stride > 1 || channels[0] != channels[1])
            .then(|| pair(channels, (1, stride), "downsample.0", "downsample.1"));
        Ok(Self {
            first: pair(channels, (3, stride), "conv1", "bn1")?,
            second: pair([channels[1]; 2], (3, 1), "conv2", "bn2")?,
            shortcut: shortcut.transpose()?,
        })
    }

    fn forward(&self, maps: &Tensor, train: bool) -> Result<Tensor> {
        let inner = self.second.forward(&self.first.forward(maps, train)?.relu()?, train)?;
        match &self.shortcut {
            Some(shortcut) => (inner + shortcut.forward(maps, train)?)?.relu(),
            None => (inner + maps)?.relu(),
        }
    }
}

/// A convolution and the batch normalization behind it.
struct Normalized(Conv2d, BatchNorm);

impl Normalized {
    /// With `(kernel, stride)` in pixels.
    fn new(
        [in_channels, channels]: [usize; 2],
        (kernel, stride): (usize, usize),
        conv: &VarBuilder<'_>,
        bn: &VarBuilder<'_>,
    ) -> Result<Self> {
        let config = Conv2dConfig { stride, padding: kernel / 2, ..Conv2dConfig::default() };
        let conv = conv2d_no_bias(in_channels, channels, kernel, config, conv.clone())?;
        Ok(Self(conv, batch_norm(channels, 1e-5, bn.clone())?))
    }

    fn forward(&self, maps: &Tensor, train: bool) -> Result<Tensor> {
        self.1.forward_t(&self.0.forward(maps)?, train)
    }
}
