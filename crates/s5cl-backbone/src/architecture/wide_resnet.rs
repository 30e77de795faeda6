//! Wide residual networks, which normalize before they convolve.

use candle_core::{Result, bail};
use candle_nn::VarBuilder;
use s5cl_kernels::Maps;

use crate::stages::Stages;
use crate::{Conv, Layers};

/// PyTorch's default.
const EPSILON: f64 = 1e-5;

/// The shape of a Wide ResNet.
///
/// # Source
///
/// Zagoruyko and Komodakis, "Wide Residual Networks", 2016, with ReLU as there; FixMatch's and its
/// followers' have a leaky ReLU of slope 0.1 in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WideResNetConfig {
    /// Convolutions one after the other, 4 more than a multiple of 6.
    pub depth: usize,
    /// Channels of the stem.
    pub stem_channels: usize,
    /// Channels of the three groups; each but the first halves the maps.
    pub channels: [usize; 3],
}

impl WideResNetConfig {
    /// WRN-28-2, the standard of semi-supervised learning on small images.
    #[must_use]
    pub fn wide_resnet28_2() -> Self {
        Self { depth: 28, stem_channels: 16, channels: [32, 64, 128] }
    }

    /// Keys are those of the published code: `conv1`, `block1.layer.0.{bn1, conv1, bn2, conv2,
    /// convShortcut}`, `bn1`.
    pub(super) fn build(&self, stages: &mut Stages, builder: &VarBuilder<'_>) -> Result<usize> {
        let n_blocks = match self.depth.checked_sub(4) {
            Some(rest) if rest > 0 && rest.is_multiple_of(6) => rest / 6,
            _ => bail!("the depth of a Wide ResNet is 4 more than a multiple of 6: {}", self.depth),
        };
        let images = stages.images();
        let conv = Conv::same((3, self.stem_channels), 3, 1);
        let maps = stages.layers().conv(images, conv, None, &builder.pp("conv1"))?;
        let mut maps = stages.end(maps);
        let mut inputs = self.stem_channels;
        for (group, &outputs) in self.channels.iter().enumerate() {
            let builder = builder.pp(format!("block{}", group + 1)).pp("layer");
            for index in 0..n_blocks {
                let stride = if group > 0 && index == 0 { 2 } else { 1 };
                let channels = [inputs, outputs];
                maps = block(stages.layers(), maps, channels, stride, &builder.pp(index))?;
                inputs = outputs;
            }
            if group + 1 < self.channels.len() {
                maps = stages.end(maps);
            }
        }
        let layers = stages.layers();
        let maps = layers.batch_norm(maps, inputs, (None, true), EPSILON, &builder.pp("bn1"))?;
        layers.global_average_pool(maps);
        Ok(inputs)
    }
}

/// Two convolutions beside a shortcut; where the channels change, a convolution of what was
/// normalized first.
fn block(
    layers: &mut Layers,
    input: Maps,
    [inputs, outputs]: [usize; 2],
    stride: usize,
    builder: &VarBuilder<'_>,
) -> Result<Maps> {
    let normal = layers.batch_norm(input, inputs, (None, true), EPSILON, &builder.pp("bn1"))?;
    let shortcut = if inputs == outputs {
        input
    } else {
        let conv = Conv::same((inputs, outputs), 1, stride);
        layers.conv(normal, conv, None, &builder.pp("convShortcut"))?
    };
    let conv = Conv::same((inputs, outputs), 3, stride);
    let maps = layers.conv(normal, conv, None, &builder.pp("conv1"))?;
    let maps = layers.batch_norm(maps, outputs, (None, true), EPSILON, &builder.pp("bn2"))?;
    let conv = Conv::same((outputs, outputs), 3, 1);
    layers.conv(maps, conv, Some(shortcut), &builder.pp("conv2"))
}
