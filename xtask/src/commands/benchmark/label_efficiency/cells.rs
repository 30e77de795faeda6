//! The runs of a benchmark, one after the other; those that are there already are gone on with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use s5cl_trainer::TrainError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metric::Metric;
use super::settings::{Budget, Settings};
use crate::config::RunConfig;
use crate::failure::{BadInput, Interrupted};
use crate::journal::Journal;
use crate::run_folder::RunFolder;
use crate::training::{Options, Run, Trained};

/// One finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) method: String,
    pub(crate) budget: Budget,
    pub(crate) seed: u32,
    pub(crate) learning_rate: f64,
    /// The name of the dataset.
    #[serde(default)]
    pub(crate) dataset: String,
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
        let absent = |section: &str, key: &str| {
            let run = run.folder.path().display();
            BadInput::new(format!("{run}/metrics.json has no {section}.{key}: is it damaged?"))
        };
        let figure = |section: &str, key: &str| {
            metrics[section][key].as_f64().ok_or_else(|| absent(section, key))
        };
        let count =
            |key: &str| metrics["dataset"][key].as_u64().ok_or_else(|| absent("dataset", key));
        Ok(Self {
            method: run.config.method.clone(),
            budget,
            seed: u32::try_from(run.config.seed)?,
            learning_rate: run.config.optimizer.learning_rate,
            dataset: run.experiment.dataset.name.clone(),
            split: run.experiment.manifest.hash.clone(),
            n_classes: count("n_classes")?,
            n_labeled: count("n_labeled")?,
            n_unlabeled: count("n_unlabeled")?,
            n_test: count("n_test")?,
            balanced_accuracy: figure("test", "balanced_accuracy")?,
            accuracy: figure("test", "accuracy")?,
            macro_f1: figure("test", "macro_f1")?,
            color_knn: figure("baselines", "color_knn")?,
            seconds: figure("train", "seconds")?,
        })
    }
}

/// A cell without a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Diverged {
    pub(crate) method: String,
    pub(crate) budget: Budget,
    pub(crate) seed: u32,
    /// All that were tried.
    pub(crate) learning_rates: Vec<f64>,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, budget, seed, learning_rates } = self;
        let rates: Vec<String> = learning_rates.iter().map(f64::to_string).collect();
        let rates = rates.join(", ");
        write!(f, "{method}, {budget}, seed {seed} diverged with learning rate {rates}")?;
        f.write_str(", and is in no mean")
    }
}

/// What became of all cells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cells {
    #[serde(rename = "rows")]
    pub(crate) finished: Vec<Cell>,
    #[serde(default)]
    pub(crate) diverged: Vec<Diverged>,
}

/// The learning rate that a method goes on with; and what its training with seed 0 gave, if that
/// was now.
struct Chosen {
    rate: f64,
    trained: Option<Trained>,
}

/// Where the runs are, and how they are run.
pub(super) struct Runner<'a> {
    pub(super) settings: &'a Settings,
    pub(super) out: &'a Path,
    pub(super) options: &'a Options<'a>,
}

impl Runner<'_> {
    /// All cells, in the order of budgets, methods and seeds.
    pub(super) fn cells(&self) -> Result<Cells> {
        let mut cells = Cells::default();
        for &budget in &self.settings.budgets {
            for method in &self.settings.methods {
                let diverged = |seed, learning_rates| {
                    let diverged =
                        Diverged { method: method.clone(), budget, seed, learning_rates };
                    eprintln!("{diverged}");
                    diverged
                };
                let Some(Chosen { rate, mut trained }) = self.choose(method, budget)? else {
                    cells.diverged.push(diverged(0, self.settings.learning_rates.clone()));
                    continue;
                };
                for seed in 0..self.settings.seeds {
                    match self.cell(method, budget, seed, rate, trained.take()) {
                        Ok(cell) => cells.finished.push(cell),
                        Err(error) if is_divergence(&error) => {
                            cells.diverged.push(diverged(seed, vec![rate]));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(cells)
    }

    /// The rate with the best balanced accuracy on validation, with seed 0; none where all diverge.
    /// Nothing is tested here.
    fn choose(&self, method: &str, budget: Budget) -> Result<Option<Chosen>> {
        if let [rate] = self.settings.learning_rates[..] {
            return Ok(Some(Chosen { rate, trained: None }));
        }
        let mut best: Option<(Chosen, f64)> = None;
        for &rate in &self.settings.learning_rates {
            let run = self.open_run(method, budget, 0, rate)?;
            let (validation, trained) = match is_trained(&run) {
                true => (run.folder.last_validation()?, None),
                false => match train(&run) {
                    Ok(trained) => (trained.validation.clone(), Some(trained)),
                    // A rate that diverges is a bad rate, and no reason to stop.
                    Err(error) if is_divergence(&error) => {
                        eprintln!("{method}, {budget}, seed 0, learning rate {rate}: {error}");
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let score = validation.as_ref().and_then(|event| event["balanced_accuracy"].as_f64());
            let score = score.ok_or_else(|| {
                let run = run.folder.path().display();
                BadInput::new(format!("{run} has no validation to choose a learning rate by"))
            })?;
            eprintln!("{method}, {budget}, seed 0, learning rate {rate}: validation {score:.3}");
            if best.as_ref().is_none_or(|(_, highest)| score > *highest) {
                best = Some((Chosen { rate, trained }, score));
            }
        }
        Ok(best.map(|(chosen, _)| chosen))
    }

    /// The result of one cell. `trained` is what its training gave, if that was now.
    fn cell(
        &self,
        method: &str,
        budget: Budget,
        seed: u32,
        rate: f64,
        trained: Option<Trained>,
    ) -> Result<Cell> {
        let run = self.open_run(method, budget, seed, rate)?;
        let metrics = match run.folder.metrics() {
            Some(metrics) => {
                // The report comes last, so that a kill can have left a run without it.
                if !run.folder.report().is_file() {
                    s5cl_report::write_report(run.folder.path())?;
                }
                metrics
            }
            None => {
                let trained = match trained {
                    Some(trained) => trained,
                    None if is_trained(&run) => earlier(&run)?,
                    None => train(&run)?,
                };
                run.finish(trained, false)?.metrics
            }
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

/// Whether a run was trained to its end; its weights come last.
fn is_trained(run: &Run<'_>) -> bool {
    run.folder.weights().is_file()
}

/// What a run gave that was trained before and has no figures of its test. No step is made, so
/// that there are no times.
fn earlier(run: &Run<'_>) -> Result<Trained> {
    let steps = run.config.training.steps;
    Ok(Trained {
        timing: BTreeMap::new(),
        views_share: 0.0,
        validation: run.folder.last_validation()?,
        // A test that was killed before its figures were written has left its line.
        journal: Journal::start(&run.folder, steps, steps, true)?,
    })
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
