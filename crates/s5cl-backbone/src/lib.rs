//! Trainable encoders and heads with timm's and torchvision's key names and seeded initialization.
//!
//! - [`Parameters`]: every weight of a model by name, drawn from a seed; hands candle's
//!   `VarBuilder` to the layers.
//! - [`Architecture`]: the kinds of encoders by name, [`Encoder`]: one with its weights, of which
//!   [`Trained`] says what is trained; made of [`Layers`].
//! - [`Model`]: encoder, embedder and classifier, the model of S5CL.
//! - [`load_weights`], [`WeightsFile`]: weights of timm, torchvision, transformers and DINOv2 in,
//!   from safetensors and `torch.save`, with a report of the keys; [`save_weights`]: out.
//! - [`known_encoders`]: pretrained encoders by name, with their place, license and normalization.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use s5cl_backbone::{EncoderConfig, Mode, Model, ModelConfig, Normalization, Parameters};
//!
//! # fn main() -> candle_core::Result<()> {
//! let parameters = Parameters::new(0);
//! let config = ModelConfig {
//!     encoder: EncoderConfig::named("resnet-slim", 32)?,
//!     embedding_dim: 64,
//!     n_classes: 9,
//! };
//! let model = Model::new(&config, &parameters.builder(&Device::Cpu))?;
//! let pixels = Tensor::zeros((2, 32, 32, 3), candle_core::DType::U8, &Device::Cpu)?;
//! let images = Normalization::HALF.apply(&pixels)?;
//! let output = model.forward(&images, Mode::Evaluate)?;
//! assert_eq!(output.embeddings.dims(), [2, 64]);
//! assert_eq!(output.logits.dims(), [2, 9]);
//! # Ok(())
//! # }
//! ```

mod parameters;

mod architecture;
mod encoder;
mod layers;
mod model;
mod normalization;
mod stages;

mod registry;
mod weights;

pub use architecture::{
    Architecture, Block, ConvNextConfig, ENCODERS, EfficientNetConfig, FeedForward, MobileStage,
    ResNetConfig, StageKind, Stem, VitConfig, WideResNetConfig,
};
pub use encoder::{Encoder, EncoderConfig, Mode, Trained};
pub use layers::{Behind, Conv, LayerScale, Layers, Prefix};
pub use model::{Model, ModelConfig, ModelOutput};
pub use normalization::Normalization;
pub use parameters::Parameters;
pub use registry::{KnownEncoder, known_encoder, known_encoders};
pub use s5cl_kernels::{Activation, Maps, Precision, TokenPool};
pub use weights::{
    KeyReport, WeightsError, WeightsFile, load_weights, read_metadata, save_weights, sha256,
    verify_sha256,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
