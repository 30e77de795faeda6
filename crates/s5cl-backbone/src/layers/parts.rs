//! What layers are described with.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use s5cl_kernels::{Conv2dConfig, Maps};

use super::parameter::full_name;

/// A square convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Channels in and out.
    pub channels: (usize, usize),
    /// Side of the kernel in pixels.
    pub kernel: usize,
    /// Step in pixels.
    pub stride: usize,
    /// Pixels of zeros around the map.
    pub padding: usize,
    /// Parts of the channels that are convolved by themselves.
    pub groups: usize,
}

impl Conv {
    /// One that keeps the map's size but for its stride; the kernel is odd.
    #[must_use]
    pub fn same(channels: (usize, usize), kernel: usize, stride: usize) -> Self {
        Self { channels, kernel, stride, padding: kernel / 2, groups: 1 }
    }

    /// One whose kernel meets each pixel once: patches of the map.
    #[must_use]
    pub fn patches(channels: (usize, usize), size: usize) -> Self {
        Self { channels, kernel: size, stride: size, padding: 0, groups: 1 }
    }

    /// Each channel by itself, keeping the map's size but for its stride.
    #[must_use]
    pub fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        let channels = (channels, channels);
        Self { groups: channels.0, ..Self::same(channels, kernel, stride) }
    }

    pub(super) fn config(self) -> Conv2dConfig {
        let Self { stride, padding, groups, .. } = self;
        Conv2dConfig { stride, padding, dilation: 1, groups }
    }

    pub(super) fn shape(self) -> (usize, usize, usize, usize) {
        let (inputs, outputs) = self.channels;
        (outputs, inputs / self.groups, self.kernel, self.kernel)
    }
}

/// What follows the sums of a linear layer or a convolution with a bias.
#[derive(Clone, Copy, Default)]
pub struct Behind<'a> {
    /// Layer scale, `[outputs]`.
    pub scale: Option<&'a LayerScale>,
    /// Maps that are added last.
    pub residual: Option<Maps>,
}

/// A factor for each channel of what a block adds.
pub struct LayerScale {
    pub(super) factors: Tensor,
    pub(super) name: String,
}

impl LayerScale {
    /// The parameter under the builder's own name.
    ///
    /// # Errors
    ///
    /// If the builder knows it with another shape.
    pub fn new(
        channels: usize,
        initial: f64,
        name: &str,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        let factors = builder.get_with_hints(channels, name, Init::Const(initial))?;
        Ok(Self { factors, name: full_name(builder, name) })
    }
}

/// Which tokens a vision transformer has beside those of its patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Registers, which nothing reads in the end.
    pub n_registers: usize,
    /// How many tokens, the class token first, have a position, as all patches have.
    pub n_positioned: usize,
}

impl Prefix {
    /// The class token and the registers.
    #[must_use]
    pub fn len(self) -> usize {
        1 + self.n_registers
    }

    /// Never: there is a class token.
    #[must_use]
    pub fn is_empty(self) -> bool {
        false
    }
}
