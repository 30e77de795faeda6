//! The settings of a run: presets, config files and `--set`, resolved into one value.

mod resolve;
mod validate;

use std::fmt;

use s5cl_augment::Transform;
use s5cl_backbone::{Architecture, ENCODERS, Trained};
use s5cl_losses::{HierarchyConfig, Reduction};
use s5cl_trainer::{MethodConfig, OptimizerConfig, Schedule};
use serde::{Deserialize, Serialize};

use crate::failure::BadInput;

pub(crate) use resolve::{Overrides, resolve};

/// Every setting of a run; the presets give each key's meaning and unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunConfig {
    pub(crate) preset: String,
    /// The version of the code that resolved this config.
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) method: String,
    pub(crate) seed: u64,
    pub(crate) data: DataConfig,
    pub(crate) views: ViewsConfig,
    pub(crate) encoder: EncoderConfig,
    pub(crate) embedder: EmbedderConfig,
    pub(crate) loss: LossConfig,
    pub(crate) optimizer: OptimizerSection,
    pub(crate) schedule: ScheduleSection,
    pub(crate) training: TrainingSection,
    pub(crate) checkpoint: CheckpointSection,
    pub(crate) evaluation: EvaluationSection,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
                pub(crate) struct $name { $(pub(crate) $field: $type),* }
    };
}

section! {
    /// Which images, and how many at a time.
    DataConfig {
        spec: String, labels_per_class: usize, label_fraction: f64, image_size: u32,
        batch_labeled: usize, batch_unlabeled: usize, images_per_class: usize, sampler: Sampler,
        mean: Vec<f32>, std: Vec<f32>, cache_mib: usize, skip_bad_images: bool,
    }
}
section! {
    /// The transforms of the two views.
    ViewsConfig { weak: Vec<Transform>, strong: Vec<Transform> }
}
section! {
    /// The encoder and its initial weights.
    EncoderConfig {
        name: String, weights: String, weights_sha256: String, train: String,
        learning_rate_decay: f64,
    }
}
section! {
    /// The embedding.
    EmbedderConfig { dim: usize }
}
section! {
    /// The terms of the loss.
    LossConfig {
        supervised: String, reduction: ReductionName, margin: f64, temperature_labeled: f64,
        temperature_unlabeled: f64, temperature_pseudo: f64, weight_supervised: f64,
        weight_unsupervised: f64, weight_classification: f64, pseudo_labels_after_steps: u64,
        pseudo_ramp_steps: u64, pseudo_threshold: f64,
    }
}
section! {
    /// The update rule.
    OptimizerSection { name: String, learning_rate: f64, weight_decay: f64, clip_norm: f64 }
}
section! {
    /// The learning rate over the steps.
    ScheduleSection { name: String, warmup_steps: u64 }
}
section! {
    /// How long, and the average of the weights.
    TrainingSection { steps: u64, ema_decay: f64, precision: Precision }
}
section! {
    /// How often a checkpoint is saved, and how many stay.
    CheckpointSection { every: u64, keep: usize }
}
section! {
    /// How often the validation images are looked at, and what for.
    EvaluationSection { every: u64, select: Select }
}

/// How labeled batches are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sampler {
    /// Positives and negatives in every batch.
    Balanced,
    /// The authors' batches of 32 and 4.
    Reference,
}

/// The reductions of SupCon that a run can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReductionName {
    /// [`Reduction::MeanValid`].
    MeanValid,
    /// [`Reduction::PmlAvgNonZero`].
    PmlAvgNonzero,
}

/// The numbers that the network computes with; weights, statistics and losses are f32 in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// The best that the device has for training: bf16 on CUDA devices from compute capability 8.0
    /// on, f32 on the processor.
    Auto,
    /// Single precision.
    F32,
    /// Single precision, products of numbers with 10 bits behind the point.
    Tf32,
    /// bfloat16.
    Bf16,
    /// Half precision, with a scale of the loss.
    F16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

/// Which weights a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Select {
    /// Those of the last step.
    Last,
    /// Those with the best balanced accuracy on validation, whose labels then count as labels.
    Best,
}

impl EncoderConfig {
    /// What training changes of the encoder.
    pub(crate) fn trained(&self) -> anyhow::Result<Trained> {
        let trained = self.train.parse::<Trained>();
        trained.map_err(|reason| BadInput::new(format!("encoder.train: {reason}")).into())
    }

    /// Kind and shape of the encoder.
    pub(crate) fn architecture(&self) -> anyhow::Result<Architecture> {
        Architecture::named(&self.name).ok_or_else(|| {
            let known = ENCODERS.join(", ");
            BadInput::new(format!("unknown encoder.name {:?}: use one of {known}", self.name))
                .into()
        })
    }
}

impl RunConfig {
    /// The config as TOML, as the run folder keeps it.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// What the trainer's method is made from.
    pub(crate) fn method(&self) -> anyhow::Result<MethodConfig> {
        let loss = &self.loss;
        let reduction = match loss.reduction {
            ReductionName::MeanValid => Reduction::MeanValid,
            ReductionName::PmlAvgNonzero => Reduction::PmlAvgNonZero,
        };
        Ok(MethodConfig {
            kind: self.method.parse()?,
            hierarchy: HierarchyConfig {
                supervised: loss.supervised.clone(),
                temperature_labeled: loss.temperature_labeled,
                temperature_unlabeled: loss.temperature_unlabeled,
                temperature_pseudo: loss.temperature_pseudo,
                reduction,
                margin: loss.margin,
                weight_supervised: loss.weight_supervised,
                weight_unsupervised: loss.weight_unsupervised,
                weight_classification: loss.weight_classification,
            },
            pseudo_labels_after_steps: loss.pseudo_labels_after_steps,
            pseudo_ramp_steps: loss.pseudo_ramp_steps,
            pseudo_threshold: loss.pseudo_threshold,
        })
    }

    /// What the optimizer is made from.
    pub(crate) fn optimizer(&self) -> anyhow::Result<OptimizerConfig> {
        Ok(OptimizerConfig::named(&self.optimizer.name, self.optimizer.weight_decay)?)
    }

    /// The learning rate over the steps.
    pub(crate) fn schedule(&self) -> anyhow::Result<Schedule> {
        Ok(Schedule {
            kind: self.schedule.name.parse()?,
            learning_rate: self.optimizer.learning_rate,
            warmup_steps: self.schedule.warmup_steps,
            steps: self.training.steps,
        })
    }
}
