//! One run: from settings to weights.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use candle_core::Tensor;
use s5cl_backbone::{EncoderConfig, Model, ModelConfig, Parameters, Precision, load_weights};
use s5cl_eval::ClassificationResult;
use s5cl_trainer::{
    BatchSource, Checkpoints, Event, LossScale, Method, MethodKind, Optimizer, Outcome,
    SourceError, StepRecord, TrainConfig, TrainError, TrainState, WeightAverage, train,
    write_atomic,
};
use serde_json::Value;

use crate::batches::{BatchMaker, PrefetchedBatches};
use crate::config::{RunConfig, Select};
use crate::device::{Device, out_of_memory};
use crate::experiment::{Experiment, with_labels};
use crate::failure::{Interrupted, boxed};
use crate::features::{FeatureBatches, Features, Kept};
use crate::inference::{Card, Predictor, write_weights};
use crate::journal::Journal;
use crate::pretrained::Pretrained;
use crate::pseudo_labels::PseudoLabelHealth;
use crate::resident::ResidentBatches;
use crate::run_folder::RunFolder;
use crate::timing::SpanTimes;

/// What changes how a run is computed and shown, and none of its results.
pub(crate) struct Options<'a> {
    /// Where to compute; of what is in this list it alone changes results, by roundings.
    pub(crate) device: Device,
    /// Threads that make batches.
    pub(crate) workers: usize,
    /// Batches made ahead.
    pub(crate) prefetch: usize,
    /// No progress.
    pub(crate) quiet: bool,
    /// Measures the parts of a step.
    pub(crate) times: SpanTimes,
    /// Asked before every step.
    pub(crate) should_stop: &'a dyn Fn() -> bool,
}

/// A run that can train, or has trained.
pub(crate) struct Run<'a> {
    /// Resolved settings.
    pub(crate) config: RunConfig,
    /// Its data.
    pub(crate) experiment: Experiment,
    /// Its folder.
    pub(crate) folder: RunFolder,
    pub(crate) options: &'a Options<'a>,
    pub(crate) maker: Arc<BatchMaker>,
    /// How the network computes.
    pub(crate) precision: Precision,
    predictor: Predictor,
    notes: Vec<String>,
}

/// What training took and gave, before any test.
pub(crate) struct Trained {
    /// Share of each part of a step.
    pub(crate) timing: BTreeMap<String, f64>,
    /// Time that making views took on the loader's threads, as a share of that of the steps.
    pub(crate) views_share: f64,
    /// The figures of the last validation, if there are validation images.
    pub(crate) validation: Option<Value>,
    /// Where the figures on test go.
    pub(crate) journal: Journal,
}

impl<'a> Run<'a> {
    /// Prepares a new run; the folder is made last, once everything that could be refused was
    /// accepted. `place` decides on it with the settings and the dataset's name.
    pub(crate) fn create(
        mut config: RunConfig,
        place: impl FnOnce(&RunConfig, &str) -> PathBuf,
        options: &'a Options<'a>,
    ) -> Result<Self> {
        let device = &options.device;
        let precision = device.precision(config.training.precision)?;
        let mut notes = Pretrained::settle(&mut config)?;
        let experiment = Experiment::open(&mut config, None, options.workers, device)?;
        notes.extend(experiment.notes.iter().cloned());
        let maker = Arc::new(BatchMaker::new(&config, &experiment, &mut notes)?);
        let predictor = Predictor::new(card(&config, &experiment), device)?;
        if let Some(Pretrained { path, note }) = Pretrained::fetch(&mut config, options.quiet)? {
            // Reading them twice is cheaper than a run folder for weights that do not fit.
            let report = load_weights(&path, &predictor.weights())?;
            notes.extend(note);
            notes.push(format!("initial weights {}: {report}", path.display()));
        }
        let path = place(&config, &experiment.dataset.name);
        let folder = RunFolder::create(&path, &config, &experiment.manifest)?;
        Ok(Self { config, experiment, folder, options, maker, precision, predictor, notes })
    }

    /// Opens the run of a folder to go on with it, or to look at its data.
    pub(crate) fn open(folder: RunFolder, options: &'a Options<'a>) -> Result<Self> {
        let mut config = folder.config()?;
        let device = &options.device;
        let precision = device.precision(config.training.precision)?;
        let split = Some(folder.split()?);
        let experiment = Experiment::open(&mut config, split, options.workers, device)?;
        let mut notes = experiment.notes.clone();
        let maker = Arc::new(BatchMaker::new(&config, &experiment, &mut notes)?);
        let predictor = Predictor::new(card(&config, &experiment), device)?;
        Ok(Self { config, experiment, folder, options, maker, precision, predictor, notes })
    }

    /// What the user should know before it starts.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Trains from the newest checkpoint, or from the start, and writes the final weights.
    pub(crate) fn train(&self) -> Result<Trained> {
        let config = &self.config;
        let checkpoints =
            Checkpoints::new(self.folder.checkpoints(), config.checkpoint.keep, self.identity());
        let mut state = self.starting_state(&checkpoints)?;
        let first = state.steps();
        let Options { quiet, times, should_stop, .. } = self.options;
        let journal = Journal::start(&self.folder, first, config.training.steps, *quiet)?;
        let journal = RefCell::new(journal);
        let mut listen = |event: Event| -> Result<(), SourceError> {
            let mut journal = journal.borrow_mut();
            match event {
                Event::Step(record) => journal.step(&record, self.health(&record)).map_err(boxed),
                Event::Checkpoint { .. } => {
                    journal.pause_ended();
                    Ok(())
                }
            }
        };
        let mut validate =
            |done: u64, weights: &BTreeMap<String, Tensor>| -> Result<(), SourceError> {
                let Some(result) = self.validate(weights).map_err(boxed)? else { return Ok(()) };
                if config.evaluation.select == Select::Best && self.is_best(&result)? {
                    write_weights(&self.folder.best_weights(), &self.predictor.card, weights)?;
                }
                journal.borrow_mut().validation(done, &result).map_err(boxed)
            };
        let method = Method::new(config.method()?)?;
        let train_config = TrainConfig {
            schedule: config.schedule()?,
            clip_norm: config.optimizer.clip_norm,
            checkpoint_every: config.checkpoint.every,
            validate_every: config.evaluation.every,
            normalization: self.experiment.normalization,
        };
        let steps = first..config.training.steps;
        let outcome = match self.batches(&state.model, steps)? {
            None => Ok(Outcome::Interrupted),
            Some(mut source) => {
                times.reset();
                train(
                    &mut state,
                    &method,
                    &train_config,
                    &checkpoints,
                    source.as_mut(),
                    &mut validate,
                    &mut listen,
                    should_stop,
                )
            }
        };
        journal.borrow().training_ended();
        if outcome.map_err(|error| self.told(error))? == Outcome::Interrupted {
            let resume = format!("cargo xtask train --resume {}", self.folder.path().display());
            return Err(Interrupted { step: state.steps(), resume }.into());
        }
        self.keep_weights(&state)?;
        FeatureBatches::forget(&self.folder)?;
        Ok(Trained {
            timing: times.shares(),
            views_share: times.views_share(),
            validation: self.folder.last_validation()?,
            journal: journal.into_inner(),
        })
    }

    /// The batches of some steps: of features where every view of an image is the same and has
    /// frozen stages before it, of views made on the GPU where all training images fit there; none
    /// where somebody asked to stop.
    fn batches(&self, model: &Model, steps: Range<u64>) -> Result<Option<Box<dyn BatchSource>>> {
        let Options { device, workers, prefetch, .. } = self.options;
        let labeled = self.experiment.labeled.iter().map(|(sample_idx, _)| *sample_idx);
        let mut samples: Vec<usize> = labeled.collect();
        if self.config.method.parse::<MethodKind>()?.uses_unlabeled() {
            samples.extend(&self.experiment.unlabeled);
        }
        if self.config.views.weak.is_empty() && self.config.views.strong.is_empty() {
            let features = Features {
                maker: &self.maker,
                dataset: &self.experiment.dataset,
                samples: &samples,
                encoder: model.encoder(),
                normalization: &self.experiment.normalization,
                device: &device.tensors,
                most_bytes: self.config.data.cache_mib << 20,
                folder: &self.folder,
            };
            match features.batches(*workers, self.options)? {
                Kept::Batches(batches) => return Ok(Some(Box::new(batches))),
                Kept::Stopped => return Ok(None),
                Kept::TooLarge => {}
            }
        }
        let resident = ResidentBatches::where_they_fit(
            &self.maker,
            &self.experiment.dataset,
            &samples,
            steps.clone(),
            (*workers, *prefetch),
            device,
        )?;
        Ok(Some(match resident {
            Some(resident) => Box::new(resident),
            None => {
                Box::new(PrefetchedBatches::new(self.maker.clone(), steps, *workers, *prefetch))
            }
        }))
    }

    /// The newest checkpoint's state, or that before the first step.
    fn starting_state(&self, checkpoints: &Checkpoints) -> Result<TrainState> {
        let Some(checkpoint) = checkpoints.newest()? else {
            let pretrained = Pretrained::fetch(&mut self.config.clone(), self.options.quiet)?;
            return self.new_state(pretrained.as_ref().map(|pretrained| pretrained.path.as_path()));
        };
        // A checkpoint holds every weight: the file of the initial ones may be gone by then.
        let mut state = self.new_state(None)?;
        checkpoint.restore(&mut state)?;
        Ok(state)
    }

    /// A state before the first step; with weights that somebody else trained, where a path is
    /// given.
    fn new_state(&self, weights: Option<&Path>) -> Result<TrainState> {
        let Self { config, experiment, precision, .. } = self;
        let device = &self.options.device.tensors;
        let parameters = Parameters::new(config.seed);
        let model = ModelConfig {
            encoder: EncoderConfig {
                trained: config.encoder.trained()?,
                precision: *precision,
                ..EncoderConfig::named(&config.encoder.name, config.data.image_size as usize)?
            },
            embedding_dim: config.embedder.dim,
            n_classes: experiment.dataset.n_classes(),
        };
        let model = Model::new(&model, &parameters.builder(device))?;
        if let Some(path) = weights {
            load_weights(path, &parameters.all())?;
        }
        let factors = model.encoder().learning_rate_factors(config.encoder.learning_rate_decay);
        let optimizer = Optimizer::new(config.optimizer()?, model.trained(&parameters))?
            .with_rate_factors(factors)?;
        let average = (config.training.ema_decay > 0.0)
            .then(|| WeightAverage::new(config.training.ema_decay, &parameters.all()))
            .transpose()?;
        let loss_scale =
            (*precision == Precision::F16).then(|| LossScale::new(device)).transpose()?;
        Ok(TrainState { model, parameters, optimizer, average, loss_scale })
    }

    /// An error of the training as this program tells it.
    fn told(&self, error: TrainError) -> anyhow::Error {
        match error {
            TrainError::OutOfMemory { step, memory } => {
                let device = &self.options.device.name;
                anyhow!(out_of_memory(device, step, &memory, &self.config.data))
            }
            other => other.into(),
        }
    }

    /// What the hidden labels say of a step's pseudo-labels.
    fn health(&self, record: &StepRecord) -> Option<PseudoLabelHealth> {
        let pseudo_labels = record.pseudo_labels.as_ref()?;
        let hidden_labels = self.maker.hidden_labels(record.step);
        let n_classes = self.experiment.dataset.n_classes();
        Some(PseudoLabelHealth::new(pseudo_labels, &hidden_labels, n_classes))
    }

    fn validate(&self, weights: &BTreeMap<String, Tensor>) -> Result<Option<ClassificationResult>> {
        if self.experiment.validation.is_empty() {
            return Ok(None);
        }
        self.predictor.set_weights(weights)?;
        let samples = with_labels(&self.experiment.dataset, &self.experiment.validation)?;
        self.predictor.evaluate(&self.experiment.dataset, &samples, self.options.workers).map(Some)
    }

    /// Whether no earlier validation of the run was as good. The events hold them all, so that a
    /// resumed run decides as an uninterrupted one.
    fn is_best(&self, result: &ClassificationResult) -> Result<bool> {
        let earlier =
            self.folder.events()?.into_iter().filter(|event| event["kind"] == "validation");
        let best =
            earlier.filter_map(|event| event["balanced_accuracy"].as_f64()).fold(-1.0, f64::max);
        // As the events give it back, so that a tie stays a tie.
        let written = serde_json::to_string(&result.balanced_accuracy)?;
        Ok(serde_json::from_str::<f64>(&written)? > best)
    }

    fn keep_weights(&self, state: &TrainState) -> Result<()> {
        if self.config.evaluation.select == Select::Best && self.folder.best_weights().is_file() {
            let bytes = std::fs::read(self.folder.best_weights())?;
            return Ok(write_atomic(&self.folder.weights(), &bytes)?);
        }
        write_weights(&self.folder.weights(), &self.predictor.card, &state.weights()?)
    }

    /// What a checkpoint must agree with.
    fn identity(&self) -> BTreeMap<String, String> {
        let config = &self.config;
        BTreeMap::from([
            ("encoder".to_owned(), config.encoder.name.clone()),
            ("encoder.train".to_owned(), config.encoder.train.clone()),
            ("embedder.dim".to_owned(), config.embedder.dim.to_string()),
            ("classes".to_owned(), self.experiment.dataset.n_classes().to_string()),
            ("optimizer".to_owned(), config.optimizer.name.clone()),
            ("seed".to_owned(), config.seed.to_string()),
        ])
    }
}

fn card(config: &RunConfig, experiment: &Experiment) -> Card {
    Card {
        version: config.version.clone(),
        preset: config.preset.clone(),
        method: config.method.clone(),
        encoder: config.encoder.name.clone(),
        embedding_dim: config.embedder.dim,
        class_names: experiment.dataset.class_names.clone(),
        image_size: config.data.image_size,
        mean: experiment.normalization.mean,
        std: experiment.normalization.std,
    }
}
