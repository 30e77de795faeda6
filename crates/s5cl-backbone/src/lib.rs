//! Trainable encoders and heads with torchvision's key names and seeded initialization.
//!
//! - [`Parameters`]: every weight of a model by name, drawn from a seed; hands candle's
//!   `VarBuilder` to the layers.
//! - [`ConvNet`]: layers, weights and running statistics of a network of convolutions.
//! - [`ResNet`]: residual networks whose batch normalization trains.
//! - [`Model`]: encoder, embedder and classifier, the model of S5CL.
//! - [`load_weights`], [`WeightsFile`]: weights of timm, torchvision, transformers and DINOv2 in,
//!   from safetensors and `torch.save`, with a report of the keys; [`save_weights`]: out.
//! - [`known_encoders`]: pretrained encoders by name, with their place, license and normalization.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use s5cl_backbone::{Mode, Model, ModelConfig, Normalization, Parameters, Precision};
//!
//! # fn main() -> candle_core::Result<()> {
//! let parameters = Parameters::new(0);
//! let config = ModelConfig {
//!     encoder: "resnet-slim".into(),
//!     embedding_dim: 64,
//!     n_classes: 9,
//!     precision: Precision::F32,
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

mod conv_net;
mod resnet;

mod encoder;
mod model;
mod normalization;

mod registry;
mod weights;

pub use conv_net::ConvNet;
pub use encoder::{ENCODERS, Encoder, Mode, encoder};
pub use model::{Model, ModelConfig, ModelOutput};
pub use normalization::Normalization;
pub use parameters::Parameters;
pub use registry::{Embedding, EncoderOptions, KnownEncoder, known_encoder, known_encoders};
pub use resnet::{ResNet, ResNetConfig, Stem};
pub use s5cl_kernels::Precision;
pub use weights::{
    KeyReport, WeightsError, WeightsFile, load_weights, read_metadata, save_weights, verify_sha256,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
