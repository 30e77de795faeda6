//! From images to one vector an image.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use s5cl_kernels::Precision;

use crate::stages::{Cut, Stages};
use crate::{Architecture, ENCODERS, Layers};

/// Whether a forward pass learns from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Normalizes by the batch's statistics and updates the running ones.
    Train,
    /// Normalizes by the running statistics and changes nothing.
    Evaluate,
}

/// Which part of an encoder is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// Every weight.
    All,
    /// The last so many stages, at least one: what [`Architecture::n_stages`] counts. The stages
    /// before them normalize by their running statistics, which stay as they are.
    Last(usize),
    /// Weights and biases of normalizations; running statistics follow the batches.
    Norm,
    /// Nothing.
    None,
}

impl Trained {
    /// How many of so many stages are frozen.
    ///
    /// # Errors
    ///
    /// If more stages are to be trained than there are, or none of the last ones.
    pub fn n_frozen(self, n_stages: usize) -> Result<usize> {
        match self {
            Self::All | Self::Norm => Ok(0),
            Self::Last(last) if last > n_stages || last == 0 => {
                bail!("the encoder has {n_stages} stages: last:{last} is not among them")
            }
            Self::Last(last) => Ok(n_stages - last),
            Self::None => Ok(n_stages),
        }
    }
}

impl std::str::FromStr for Trained {
    type Err = String;

    /// `all`, `last:N`, `norm` or `none`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let unknown = || format!("expected all, last:N, norm or none, got {text:?}");
        match text {
            "all" => Ok(Self::All),
            "norm" => Ok(Self::Norm),
            "none" => Ok(Self::None),
            _ => {
                let stages = text.strip_prefix("last:").ok_or_else(unknown)?;
                match stages.parse() {
                    Ok(0) | Err(_) => Err(unknown()),
                    Ok(stages) => Ok(Self::Last(stages)),
                }
            }
        }
    }
}

/// What an encoder is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Kind and shape.
    pub architecture: Architecture,
    /// Side of the images in pixels; only architectures with positions depend on it.
    pub image_size: usize,
    /// What training changes.
    pub trained: Trained,
    /// What the layers are computed in.
    pub precision: Precision,
}

impl EncoderConfig {
    /// One of [`ENCODERS`], trained as a whole, in f32.
    ///
    /// # Errors
    ///
    /// If there is no such encoder.
    pub fn named(name: &str, image_size: usize) -> Result<Self> {
        let Some(architecture) = Architecture::named(name) else {
            bail!("unknown encoder {name:?}: use one of {}", ENCODERS.join(", "))
        };
        let (trained, precision) = (Trained::All, Precision::F32);
        Ok(Self { architecture, image_size, trained, precision })
    }
}

/// An encoder with its weights.
///
/// It is two networks: the stages that are frozen, which are only evaluated, and those that train.
pub struct Encoder {
    frozen: Option<Layers>,
    trained_layers: Option<Layers>,
    trained: Trained,
    dim: usize,
    n_stages: usize,
    stages: BTreeMap<String, usize>,
    /// Where the architecture has positions: height and width of every image.
    image_size: Option<usize>,
    smallest: usize,
}

impl Encoder {
    /// Builds one; all its weights are drawn.
    ///
    /// # Errors
    ///
    /// If the architecture cannot be for that size, has fewer stages than are to be trained, the
    /// builder knows one of the weights with another shape, or its device does not have the
    /// precision.
    pub fn new(config: &EncoderConfig, builder: &VarBuilder<'_>) -> Result<Self> {
        let &EncoderConfig { ref architecture, image_size, trained, precision } = config;
        let n_stages = architecture.n_stages();
        let n_frozen = trained.n_frozen(n_stages)?;
        let has_positions = architecture.image_size_step() > 1;
        if has_positions {
            architecture.check_image_size(image_size)?;
        }
        let mut stages = Stages::new(n_frozen, precision, builder)?;
        let dim = architecture.build(&mut stages, image_size, builder)?;
        let Cut { frozen, trained: trained_layers, stages } = stages.finish(n_stages)?;
        let smallest = architecture.smallest_image();
        let stages = stages.into_iter().collect();
        let image_size = has_positions.then_some(image_size);
        Ok(Self { frozen, trained_layers, trained, dim, n_stages, stages, image_size, smallest })
    }

    /// Length of the encoding.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Stages, the frozen ones among them.
    #[must_use]
    pub fn n_stages(&self) -> usize {
        self.n_stages
    }

    /// Whether a part of the encoder is only evaluated.
    #[must_use]
    pub fn has_frozen_stages(&self) -> bool {
        self.frozen.is_some()
    }

    /// The stage of each parameter by its full name, 0 for the one that reads the images.
    #[must_use]
    pub fn stages(&self) -> &BTreeMap<String, usize> {
        &self.stages
    }

    /// Full names of the parameters that training leaves alone.
    #[must_use]
    pub fn frozen_parameters(&self) -> Vec<String> {
        let frozen = self.frozen.iter().flat_map(Layers::parameter_names);
        let left = self.trained_layers.iter().flat_map(|layers| layers.frozen_names(self.trained));
        frozen.chain(left).map(str::to_owned).collect()
    }

    /// The factor of each parameter's learning rate by its full name: `decay` for the last stage,
    /// its square for the one before, and so on.
    ///
    /// # Source
    ///
    /// Layer-wise decay as Bao et al., "BEiT", 2022, fine-tune with, but that a normalization behind
    /// the last block belongs to it; heads keep the whole rate.
    #[must_use]
    pub fn learning_rate_factors(&self, decay: f64) -> BTreeMap<String, f64> {
        let factor = |stage: usize| decay.powi((self.n_stages - stage) as i32);
        self.stages.iter().map(|(name, &stage)| (name.clone(), factor(stage))).collect()
    }

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
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_trained(&self.forward_frozen(images)?, mode)
    }

    /// What the frozen stages make of images, in evaluation mode and detached: the images
    /// themselves where no stage is frozen, the encoding where all are. It does not change while
    /// the other stages train.
    ///
    /// # Errors
    ///
    /// As for [`Self::forward`].
    pub fn forward_frozen(&self, images: &Tensor) -> Result<Tensor> {
        let (_batch, height, width, channels) = images.dims4()?;
        if channels != 3 || height.min(width) < self.smallest {
            bail!(
                "expected images [batch, height, width, 3] of {} pixels or more, got {:?}",
                self.smallest,
                images.shape()
            )
        }
        if let Some(size) = self.image_size.filter(|&size| (height, width) != (size, size)) {
            bail!("the encoder is made for images of {size} x {size} px, got {height} x {width}")
        }
        match &self.frozen {
            Some(frozen) => frozen.forward(images, Mode::Evaluate),
            None => Ok(images.clone()),
        }
    }

    /// The encoding of what [`Self::forward_frozen`] gave.
    ///
    /// # Errors
    ///
    /// If it is not of the shape that that gives.
    pub fn forward_trained(&self, maps: &Tensor, mode: Mode) -> Result<Tensor> {
        match &self.trained_layers {
            Some(layers) => layers.forward_trained(maps, mode, self.trained),
            None => Ok(maps.clone()),
        }
    }
}
