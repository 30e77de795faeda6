//! The model of S5CL: encoder, embedder, classifier.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use s5cl_kernels::linear;

use crate::{Encoder, EncoderConfig, Mode, Parameters};

/// What a model is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The encoder.
    pub encoder: EncoderConfig,
    /// Length of the embedding.
    pub embedding_dim: usize,
    /// Classes that the classifier tells apart.
    pub n_classes: usize,
}

/// An encoder, a linear embedder on its encoding, and a linear classifier on the embedding; no
/// nonlinearity between them.
///
/// The encoder's parameters have timm's or torchvision's names at the root, the heads' are
/// `embedder.{weight, bias}` and `classifier.{weight, bias}`.
///
/// # Source
///
/// Tran et al., "S5CL", MICCAI 2022, and its code: ResNet-18 (512) to 64 to the classes.
pub struct Model {
    encoder: Encoder,
    embedder: Linear,
    classifier: Linear,
}

/// What one forward pass gives.
#[derive(Clone, Debug)]
pub struct ModelOutput {
    /// f32 `[batch, embedding_dim]`, not normalized.
    pub embeddings: Tensor,
    /// f32 `[batch, n_classes]`, before softmax.
    pub logits: Tensor,
}

impl Model {
    /// Builds one.
    ///
    /// # Errors
    ///
    /// As for [`Encoder::new`], and if the builder knows a weight of the heads with another shape.
    pub fn new(config: &ModelConfig, builder: &VarBuilder<'_>) -> Result<Self> {
        let encoder = Encoder::new(&config.encoder, builder)?;
        let embedder = Linear::new(encoder.dim(), config.embedding_dim, &builder.pp("embedder"))?;
        let classifier =
            Linear::new(config.embedding_dim, config.n_classes, &builder.pp("classifier"))?;
        Ok(Self { encoder, embedder, classifier })
    }

    /// The encoder.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What training changes of the model's parameters: all but those of the encoder that are
    /// frozen.
    #[must_use]
    pub fn trained(&self, parameters: &Parameters) -> BTreeMap<String, Var> {
        let frozen = self.encoder.frozen_parameters();
        let frozen: BTreeSet<&str> = frozen.iter().map(String::as_str).collect();
        let mut trained = parameters.trainable();
        trained.retain(|name, _| !frozen.contains(name.as_str()));
        trained
    }

    /// Embeds and classifies f32 images `[batch, height, width, 3]`, normalized.
    ///
    /// # Errors
    ///
    /// If the images do not fit the encoder.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<ModelOutput> {
        self.forward_trained(&self.encoder.forward_frozen(images)?, mode)
    }

    /// Embeds and classifies what [`Encoder::forward_frozen`] made of images.
    ///
    /// # Errors
    ///
    /// If it is not of the shape that that gives.
    pub fn forward_trained(&self, maps: &Tensor, mode: Mode) -> Result<ModelOutput> {
        let embeddings = self.embedder.forward(&self.encoder.forward_trained(maps, mode)?)?;
        let logits = self.classifier.forward(&embeddings)?;
        Ok(ModelOutput { embeddings, logits })
    }
}

/// A linear layer with PyTorch's default initialization: uniform within `1 / sqrt(in_dim)`.
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn new(in_dim: usize, out_dim: usize, builder: &VarBuilder<'_>) -> Result<Self> {
        let bound = (in_dim as f64).sqrt().recip();
        let init = Init::Uniform { lo: -bound, up: bound };
        let weight = builder.get_with_hints((out_dim, in_dim), "weight", init)?;
        let bias = builder.get_with_hints(out_dim, "bias", init)?;
        Ok(Self { weight, bias })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        linear(input, &self.weight, Some(&self.bias))
    }
}
