//! The architectures of encoders.

mod convnext;
mod efficientnet;
mod resnet;
mod shapes;
mod vit;
mod wide_resnet;

use std::collections::BTreeMap;

use candle_core::{Result, bail};
use candle_nn::VarBuilder;

pub use convnext::ConvNextConfig;
pub use efficientnet::{EfficientNetConfig, MobileStage, StageKind};
pub use resnet::{Block, ResNetConfig, Stem};
pub use vit::{FeedForward, VitConfig};
pub use wide_resnet::WideResNetConfig;

use s5cl_kernels::Precision;

use crate::stages::Stages;
use crate::{Encoder, EncoderConfig, Trained};

/// Kind and shape of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    /// Residual networks.
    ResNet(ResNetConfig),
    /// Residual networks that normalize first.
    WideResNet(WideResNetConfig),
    /// Convolutions in the shape of a transformer.
    ConvNext(ConvNextConfig),
    /// Mobile convolutions.
    EfficientNet(EfficientNetConfig),
    /// Vision transformers.
    Vit(VitConfig),
}

/// An architecture under its name.
type Named = (&'static str, fn() -> Architecture);

/// Every name, in the order of the documentation.
const NAMED: [Named; 24] = [
    ("resnet-slim", || Architecture::ResNet(ResNetConfig::slim())),
    ("resnet18-small", || Architecture::ResNet(ResNetConfig::resnet18_small())),
    ("resnet18", || Architecture::ResNet(ResNetConfig::resnet18())),
    ("resnet34", || Architecture::ResNet(ResNetConfig::resnet34())),
    ("resnet50", || Architecture::ResNet(ResNetConfig::resnet50())),
    ("resnet101", || Architecture::ResNet(ResNetConfig::resnet101())),
    ("wide-resnet28-2", || Architecture::WideResNet(WideResNetConfig::wide_resnet28_2())),
    ("convnext-tiny", || Architecture::ConvNext(ConvNextConfig::tiny())),
    ("efficientnet-v2-s", || Architecture::EfficientNet(EfficientNetConfig::v2_small())),
    ("vit-small-8", || Architecture::Vit(VitConfig::small(8))),
    ("vit-small-16", || Architecture::Vit(VitConfig::small(16))),
    ("vit-base-8", || Architecture::Vit(VitConfig::base(8))),
    ("vit-base-16", || Architecture::Vit(VitConfig::base(16))),
    ("vit-large-16", || Architecture::Vit(VitConfig::large(16))),
    ("vit-small-14-dinov2", || Architecture::Vit(VitConfig::small(14).dinov2())),
    ("vit-base-14-dinov2", || Architecture::Vit(VitConfig::base(14).dinov2())),
    ("vit-large-14-dinov2", || Architecture::Vit(VitConfig::large(14).dinov2())),
    ("vit-large-16-dinov2", || Architecture::Vit(VitConfig::large(16).dinov2())),
    ("vit-small-14-reg4", || Architecture::Vit(VitConfig::small(14).dinov2().with_registers(4))),
    ("vit-base-14-reg4", || Architecture::Vit(VitConfig::base(14).dinov2().with_registers(4))),
    ("vit-large-14-reg4", || Architecture::Vit(VitConfig::large(14).dinov2().with_registers(4))),
    ("uni2-h", || Architecture::Vit(VitConfig::uni2_h())),
    ("virchow2", || Architecture::Vit(VitConfig::virchow2())),
    ("h-optimus-0", || Architecture::Vit(VitConfig::h_optimus_0())),
];

/// The names that [`Architecture::named`] knows.
pub const ENCODERS: [&str; NAMED.len()] = {
    let mut names = [""; NAMED.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = NAMED[index].0;
        index += 1;
    }
    names
};

impl Architecture {
    /// The architecture of one of [`ENCODERS`].
    ///
    /// ```
    /// use s5cl_backbone::{Architecture, ENCODERS};
    ///
    /// assert!(ENCODERS.iter().all(|name| Architecture::named(name).is_some()));
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, make)| make())
    }

    /// Stages that can be frozen one after the other; the first reads the images.
    #[must_use]
    pub fn n_stages(&self) -> usize {
        match self {
            Self::ResNet(config) => 1 + config.blocks.len(),
            Self::WideResNet(_) => 4,
            Self::ConvNext(config) => 1 + config.blocks.len(),
            Self::EfficientNet(config) => config.stages.len() + 2,
            Self::Vit(config) => 1 + config.depth,
        }
    }

    /// Pixels that each side of an image must have.
    #[must_use]
    pub fn smallest_image(&self) -> usize {
        match self {
            Self::ResNet(_) | Self::WideResNet(_) | Self::EfficientNet(_) => 8,
            Self::ConvNext(_) => 32,
            Self::Vit(config) => config.patch_size,
        }
    }

    /// A side that square images must be a multiple of, in pixels.
    #[must_use]
    pub fn image_size_step(&self) -> usize {
        match self {
            Self::Vit(config) => config.patch_size.max(1),
            Self::ResNet(_) | Self::WideResNet(_) | Self::ConvNext(_) | Self::EfficientNet(_) => 1,
        }
    }

    /// Whether an encoder can be made of this architecture for square images of so many pixels.
    ///
    /// # Errors
    ///
    /// If it cannot: they are too small, or no whole number of patches.
    pub fn check_image_size(&self, image_size: usize) -> Result<()> {
        let (smallest, step) = (self.smallest_image(), self.image_size_step());
        if image_size < smallest || !image_size.is_multiple_of(step) {
            let multiple = if step > 1 { format!(", a multiple of {step}") } else { String::new() };
            bail!(
                "images of {image_size} px do not fit the encoder: use {smallest} px or \
                 more{multiple}"
            )
        }
        Ok(())
    }

    /// The shapes of all parameters and statistics by their full names, for square images of so
    /// many pixels.
    ///
    /// # Errors
    ///
    /// As for [`Self::check_image_size`].
    pub fn parameter_shapes(&self, image_size: usize) -> Result<BTreeMap<String, Vec<usize>>> {
        let (architecture, trained, precision) = (self.clone(), Trained::All, Precision::F32);
        let config = EncoderConfig { architecture, image_size, trained, precision };
        shapes::asked_for(|builder| Encoder::new(&config, builder))
    }

    /// Adds all layers and returns the length of the encoding.
    pub(crate) fn build(
        &self,
        stages: &mut Stages,
        image_size: usize,
        builder: &VarBuilder<'_>,
    ) -> Result<usize> {
        match self {
            Self::ResNet(config) => config.build(stages, builder),
            Self::WideResNet(config) => config.build(stages, builder),
            Self::ConvNext(config) => config.build(stages, builder),
            Self::EfficientNet(config) => config.build(stages, builder),
            Self::Vit(config) => config.build(stages, image_size, builder),
        }
    }
}
