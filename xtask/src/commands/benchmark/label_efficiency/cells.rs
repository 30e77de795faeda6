//! The runs of a benchmark, one after the other; those that are there already are gone on with.

use std::path::Path;

use anyhow::{Context, Result};
use s5cl_trainer::TrainError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::{Budget, Metric, Settings};
use crate::config::RunConfig;
use crate::failure::{BadInput, Interrupted};
use crate::run_folder::RunFolder;
use crate::training::{Options, Run, Trained};

/// One finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) method: String,
    pub(crate) budget: Budget,
    pub(crate) seed: u32,
    pub(crate) learning_rate: f64,
    /// The hash of its split: the same for all methods with this budget and seed.
    pub(crate) split: String,
    pub(crate) n_classes: u64,
    pub(crate) n_labeled: u64,
    pub(crate) n_unlabeled: u64,
    pub(crate) n_test: u64,
    pub(crate) balanced_accuracy: f64,
    pub(crate) accuracy: f64,
    pub(crate) macro_f1: f64,
    /// Of the same labels and test images.
    pub(crate) color_knn: f64,
    pub(crate) seconds: f64,
}

impl Cell {
    /// The figure that the benchmark is about.
    pub(super) fn metric(&self, metric: Metric) -> f64 {
        match metric {
            Metric::BalancedAccuracy => self.balanced_accuracy,
            Metric::Accuracy => self.accuracy,
            Metric::MacroF1 => self.macro_f1,
        }
    }

    fn new(run: &Run<'_>, budget: Budget, metrics: &Value) -> Result<Self> {
        let figure = |section: &str, key: &str| {
            let value = metrics[section][key].as_f64();
            value.with_context(|| format!("{} has no {section}.{key}", run.folder.path().display()))
        };
        let count = |key: &str| metrics["dataset"][key].as_u64().unwrap_or(0);
        Ok(Self {
            method: run.config.method.clone(),
            budget,
            seed: u32::try_from(run.config.seed)?,
            learning_rate: run.config.optimizer.learning_rate,
            split: run.experiment.manifest.hash.clone(),
            n_classes: count("n_classes"),
            n_labeled: count("n_labeled"),
            n_unlabeled: count("n_unlabeled"),
            n_test: count("n_test"),
            balanced_accuracy: figure("test", "balanced_accuracy")?,
            accuracy: figure("test", "accuracy")?,
            macro_f1: figure("test", "macro_f1")?,
            color_knn: figure("baselines", "color_knn")?,
            seconds: figure("train", "seconds")?,
        })
    }
}

/// Where the runs are, and how they are run.
pub(super) struct Runner<'a> {
    pub(super) settings: &'a Settings,
    pub(super) out: &'a Path,
    pub(super) options: &'a Options<'a>,
}

impl Runner<'_> {
    /// All cells, in the order of budgets, methods and seeds.
    pub(super) fn cells(&self) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for &budget in &self.settings.budgets {
            for method in &self.settings.methods {
                let rate = self.learning_rate(method, budget)?;
                for seed in 0..self.settings.seeds {
                    cells.push(self.cell(method, budget, seed, rate)?);
                }
            }
        }
        Ok(cells)
    }

    /// The rate with the best balanced accuracy on validation, with seed 0. Nothing is tested here.
    fn learning_rate(&self, method: &str, budget: Budget) -> Result<f64> {
        if let [only] = self.settings.learning_rates[..] {
            return Ok(only);
        }
        let mut best: Option<(f64, f64)> = None;
        for &rate in &self.settings.learning_rates {
            let run = self.open_run(method, budget, 0, rate)?;
            let trained = match train(&run) {
                Ok(trained) => trained,
                // A rate that diverges is a bad rate, and no reason to stop.
                Err(error) if is_divergence(&error) => {
                    eprintln!("{method}, {budget}, seed 0, learning rate {rate}: {error}");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let validation = trained
                .validation
                .context("a learning rate needs validation images to be chosen by")?;
            let score = validation["balanced_accuracy"].as_f64().unwrap_or(0.0);
            eprintln!("{method}, {budget}, seed 0, learning rate {rate}: validation {score:.3}");
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((rate, score));
            }
        }
        let (rate, _) = best.context("every learning rate diverged")?;
        Ok(rate)
    }

    fn cell(&self, method: &str, budget: Budget, seed: u32, rate: f64) -> Result<Cell> {
        let run = self.open_run(method, budget, seed, rate)?;
        let metrics = match run.folder.metrics() {
            Some(metrics) => metrics,
            None => run.finish(train(&run)?, false)?.metrics,
        };
        let cell = Cell::new(&run, budget, &metrics)?;
        let metric = self.settings.metric;
        eprintln!(
            "{method}, {budget}, seed {seed}, learning rate {rate}: test {} {:.3}",
            metric.name(),
            cell.metric(metric)
        );
        Ok(cell)
    }

    /// A new run, or the one of this cell that is there already.
    fn open_run(&self, method: &str, budget: Budget, seed: u32, rate: f64) -> Result<Run<'_>> {
        let name = format!("{method}-{}-seed{seed}-rate{rate}", budget.slug());
        let place = self.out.join(name);
        let config = self.settings.config(method, budget, seed, rate)?;
        if place.exists() {
            let folder = RunFolder::open(&place)?;
            if !same_settings(&config, &folder.config()?) {
                let message =
                    format!("{} is a run with other settings: give another --out", place.display());
                return Err(BadInput::new(message).into());
            }
            return Run::open(folder, self.options);
        }
        std::fs::create_dir_all(self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        Run::create(config, |_, _| place, self.options)
    }
}

fn train(run: &Run<'_>) -> Result<Trained> {
    run.train().map_err(|error| match error.downcast::<Interrupted>() {
        // The run alone would be one cell of many.
        Ok(Interrupted { step, .. }) => {
            Interrupted { step, resume: "the same command".to_owned() }.into()
        }
        Err(other) => other,
    })
}

fn is_divergence(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(TrainError::NotFinite { .. }))
}

/// Whether a run was started with these settings; what it filled in from its images is left out.
fn same_settings(asked: &RunConfig, run: &RunConfig) -> bool {
    let mut run = run.clone();
    run.data.image_size = asked.data.image_size;
    run.data.mean.clone_from(&asked.data.mean);
    run.data.std.clone_from(&asked.data.std);
    *asked == run
}
