//! What an encoder is, and the encoders by name.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use s5cl_kernels::Precision;

use crate::{ResNet, ResNetConfig};

/// Whether a forward pass learns from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Normalizes by the batch's statistics and updates the running ones.
    Train,
    /// Normalizes by the running statistics and changes nothing.
    Evaluate,
}

/// Images in, one vector an image out.
pub trait Encoder: Send + Sync {
    /// Length of the encoding.
    fn dim(&self) -> usize;

    /// Encodes a batch.
    ///
    /// # Shapes
    ///
    /// - `images`: f32 `[batch, height, width, 3]`, normalized
    /// - result: f32 `[batch, dim]`
    ///
    /// # Errors
    ///
    /// If the images are too small for the architecture, or not as above.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor>;
}

/// The names that [`encoder`] knows.
pub const ENCODERS: [&str; 3] = ["resnet18", "resnet18-small", "resnet-slim"];

/// Builds an encoder by its name: `resnet18` is torchvision's, `resnet18-small` has the stem for
/// small images, `resnet-slim` is the small stem on one narrow block a stage, for the CPU.
///
/// # Errors
///
/// If the name is not one of [`ENCODERS`], or the builder's device does not have the precision.
pub fn encoder(
    name: &str,
    precision: Precision,
    builder: &VarBuilder<'_>,
) -> Result<Box<dyn Encoder>> {
    let config = match name {
        "resnet18" => ResNetConfig::resnet18(),
        "resnet18-small" => ResNetConfig::resnet18_small(),
        "resnet-slim" => ResNetConfig::slim(),
        _ => bail!("unknown encoder {name:?}: use one of {}", ENCODERS.join(", ")),
    };
    Ok(Box::new(ResNet::new(&config, precision, builder)?))
}
