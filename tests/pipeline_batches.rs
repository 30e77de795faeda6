//! What the runs of `pipeline` train on: synthetic tissue, its views, and a state to start from.

use std::path::Path;

use candle_core::Device;
use s5cl_augment::{Pipeline, Transform};
use s5cl_backbone::{EncoderConfig, Model, ModelConfig, Normalization, Parameters};
use s5cl_data::{
    ClassBalancedSampler, Dataset, Draw, LabelBudget, PoolSampler, Spec, open, partition,
};
use s5cl_losses::HierarchyConfig;
use s5cl_random::stream;
use s5cl_trainer::{
    Batch, BatchSource, Checkpoints, Method, MethodConfig, MethodKind, Optimizer, OptimizerConfig,
    Schedule, ScheduleKind, SourceError, StepRule, TrainConfig, TrainState, Views, WeightAverage,
};

use crate::golden_files::TestResult;

/// Pixels of a tile's side.
const SIDE: usize = 16;
pub(crate) const STEPS: u64 = 12;

/// Batches as a pure function of the step, as the trainer asks for them.
pub(crate) struct TissueBatches {
    dataset: Dataset,
    labels: Vec<Option<u32>>,
    labeled: ClassBalancedSampler,
    pool: Option<PoolSampler>,
    weak: Pipeline,
    strong: Pipeline,
}

impl TissueBatches {
    /// Opens 90 tiles, keeps two labels of each class, and leaves the pool to the methods that
    /// use it.
    pub(crate) fn new(kind: MethodKind) -> TestResult<Self> {
        let spec: Spec = "synthetic:tissue?size=16&images=90".parse()?;
        let dataset = open(&spec)?.cached(1 << 20);
        let parts = partition(&dataset, LabelBudget::PerClass(2), 0)?;
        let mut labels = vec![None; dataset.samples.len()];
        for &sample_idx in &parts.labeled {
            labels[sample_idx] = dataset.samples[sample_idx].class_idx;
        }
        let with_labels: Vec<(usize, u32)> =
            parts.labeled.iter().filter_map(|&i| Some((i, labels[i]?))).collect();
        let jitter = Transform::ColorJitter([0.1; 4]);
        let weak = [Transform::Flip, Transform::Rot90, jitter];
        let strong =
            [Transform::Flip, Transform::HedJitter(0.02), Transform::RandomResizedCrop([0.5, 1.0])];
        Ok(Self {
            labeled: ClassBalancedSampler::new(&with_labels, 12, 2, 0)?,
            pool: kind
                .uses_unlabeled()
                .then(|| PoolSampler::new(&parts.unlabeled, 8, 0))
                .transpose()?,
            weak: Pipeline::new(&weak, 0)?,
            strong: Pipeline::new(&strong, 0)?,
            dataset,
            labels,
        })
    }

    fn views(&self, draws: &[Draw]) -> Result<Views, SourceError> {
        let (mut weak, mut strong) = (Vec::new(), Vec::new());
        for draw in draws {
            let tile = self.dataset.tile(draw.sample_idx)?;
            let key = |view| stream(0, draw.epoch, draw.sample_idx as u64, 2 * draw.repeat + view);
            weak.extend_from_slice(self.weak.apply(&tile, &mut key(0)).as_raw());
            strong.extend_from_slice(self.strong.apply(&tile, &mut key(1)).as_raw());
        }
        Ok(Views { weak, strong, n_images: draws.len(), height: SIDE, width: SIDE })
    }
}

impl BatchSource for TissueBatches {
    fn batch(&mut self, step: u64) -> Result<Batch, SourceError> {
        let labeled = self.labeled.batch(step);
        Ok(Batch {
            labels: labeled.iter().filter_map(|draw| self.labels[draw.sample_idx]).collect(),
            labeled: self.views(&labeled)?,
            unlabeled: match &self.pool {
                Some(pool) => Some(self.views(&pool.batch(step))?),
                None => None,
            },
            on_device: None,
        })
    }
}

/// What a run of `pipeline` differs in from the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) kind: MethodKind,
    pub(crate) rule: StepRule,
    pub(crate) learning_rate: f64,
    /// The last step without pseudo-labels, 0-based.
    pub(crate) pseudo_labels_after_steps: u64,
    pub(crate) embedding_dim: usize,
    pub(crate) ema_decay: Option<f64>,
    pub(crate) checkpoint_every: u64,
    /// Checkpoints that stay.
    pub(crate) keep: usize,
}

impl Setup {
    /// S5CL with Adamax and an average of the weights; pseudo-labels after the run.
    pub(crate) fn s5cl() -> Self {
        Self {
            kind: MethodKind::S5cl,
            rule: StepRule::Adamax { betas: [0.9, 0.999], epsilon: 1e-8 },
            learning_rate: 3e-3,
            pseudo_labels_after_steps: STEPS,
            embedding_dim: 16,
            ema_decay: Some(0.9),
            checkpoint_every: 5,
            keep: 100,
        }
    }

    pub(crate) fn method(&self) -> TestResult<Method> {
        Ok(Method::new(MethodConfig {
            kind: self.kind,
            hierarchy: HierarchyConfig::published(),
            pseudo_labels_after_steps: self.pseudo_labels_after_steps,
            pseudo_ramp_steps: 0,
            pseudo_threshold: 0.0,
        })?)
    }

    pub(crate) fn config(&self) -> TrainConfig {
        TrainConfig {
            schedule: Schedule {
                kind: ScheduleKind::Cosine,
                learning_rate: self.learning_rate,
                warmup_steps: 2,
                steps: STEPS,
            },
            clip_norm: 5.0,
            checkpoint_every: self.checkpoint_every,
            validate_every: 4,
            normalization: Normalization::HALF,
        }
    }

    /// A state without any step, its weights drawn from the seed.
    pub(crate) fn state(&self, seed: u64) -> TestResult<TrainState> {
        let parameters = Parameters::new(seed);
        let model = ModelConfig {
            encoder: EncoderConfig::named("resnet-slim", 32)?,
            embedding_dim: self.embedding_dim,
            n_classes: 9,
        };
        let model = Model::new(&model, &parameters.builder(&Device::Cpu))?;
        let config = OptimizerConfig { rule: self.rule, weight_decay: 1e-4 };
        let optimizer = Optimizer::new(config, parameters.trainable())?;
        let average = self.ema_decay.map(|decay| WeightAverage::new(decay, &parameters.all()));
        let (average, loss_scale) = (average.transpose()?, None);
        Ok(TrainState { model, parameters, optimizer, average, loss_scale })
    }

    /// Checkpoints in the folder that belong to a model called `model`.
    pub(crate) fn checkpoints(&self, folder: &Path, model: &str) -> Checkpoints {
        let identity = [("model".to_owned(), model.to_owned())].into();
        Checkpoints::new(folder.to_owned(), self.keep, identity)
    }
}
