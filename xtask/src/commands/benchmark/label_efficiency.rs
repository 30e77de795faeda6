//! `benchmark label-efficiency`: how far few labels go, by method.

use std::path::PathBuf;

use anyhow::{Context, Result};
use s5cl_trainer::{TrainError, write_atomic};
use serde_json::json;
use toml::Value;

use super::summary::{Cell, summary};
use crate::config::{Overrides, RunConfig, resolve};
use crate::failure::BadInput;
use crate::run_folder::RunFolder;
use crate::system::{machine, start_tracing, stop_on_signal};
use crate::training::{Options, Run};

#[derive(clap::Args)]
pub(crate) struct LabelEfficiency {
    /// The images: synthetic:tissue, a folder of class folders, or a MedMNIST .npz file
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// Methods to compare
    #[arg(long, value_delimiter = ',', default_value = "cross-entropy,supcon,s5cl")]
    methods: Vec<String>,
    /// Labels per class; 0 keeps all
    #[arg(long, value_delimiter = ',', default_value = "5")]
    labels: Vec<u32>,
    /// Seeds 0, 1, ... of each
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u32,
    /// Of these each method takes the one with the best balanced accuracy on validation, found
    /// with seed 0
    #[arg(long, value_delimiter = ',', default_value = "3e-3,1e-2,2e-2,4e-2")]
    learning_rates: Vec<f64>,
    /// Any setting, for all methods
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The folder of all runs, results.json and results.md; a benchmark that was interrupted goes
    /// on with the runs in it
    #[arg(long, value_name = "DIR", default_value = "runs/label-efficiency")]
    out: PathBuf,
    /// Print what would be run, and run nothing
    #[arg(long)]
    plan: bool,
    /// Threads that read images and make views
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// End standard output with the results as one line of JSON
    #[arg(long)]
    json: bool,
}

impl LabelEfficiency {
    /// Runs the suite.
    pub(crate) fn run(self) -> Result<()> {
        self.check()?;
        let tuning = if self.learning_rates.len() > 1 { self.learning_rates.len() } else { 0 };
        let per_pair = tuning + self.seeds as usize - usize::from(tuning > 0);
        eprintln!(
            "{} runs: {} methods x {} label counts x ({tuning} learning rates with seed 0, {} seeds)",
            per_pair * self.methods.len() * self.labels.len(),
            self.methods.len(),
            self.labels.len(),
            self.seeds
        );
        if self.plan {
            return Ok(());
        }
        if self.results().exists() {
            let message = format!("{} exists: give another --out", self.results().display());
            return Err(BadInput::new(message).into());
        }
        let should_stop = stop_on_signal()?;
        let times = start_tracing(None)?;
        let options = Options {
            workers: self.workers,
            prefetch: 4,
            quiet: true,
            times,
            should_stop: &should_stop,
        };
        let mut cells = Vec::new();
        for &labels in &self.labels {
            for method in &self.methods {
                cells.extend(self.method_cells(method, labels, &options)?);
            }
        }
        let table = summary(&cells);
        let results = json!({ "schema": 1, "suite": "label-efficiency", "machine": machine(), "rows": cells });
        write_atomic(&self.results(), &serde_json::to_vec_pretty(&results)?)?;
        write_atomic(&self.out.join("results.md"), table.markdown().as_bytes())?;
        println!("\n{}", table.text());
        println!("results  {}", self.results().display());
        if self.json {
            println!("{results}");
        }
        Ok(())
    }

    fn results(&self) -> PathBuf {
        self.out.join("results.json")
    }

    /// Refuses what no run could use, before the first one starts.
    fn check(&self) -> Result<()> {
        if self.seeds == 0 || self.learning_rates.is_empty() {
            return Err(BadInput::new(
                "--seeds must be at least 1, and --learning-rates must name one",
            )
            .into());
        }
        for method in &self.methods {
            for &labels in &self.labels {
                for &rate in &self.learning_rates {
                    self.config(method, labels, 0, rate)?;
                }
            }
        }
        Ok(())
    }

    fn config(
        &self,
        method: &str,
        labels: u32,
        seed: u32,
        learning_rate: f64,
    ) -> Result<RunConfig> {
        let mut flags = vec![
            ("method", Value::String(method.to_owned())),
            ("data.labels_per_class", Value::Integer(labels.into())),
            ("seed", Value::Integer(seed.into())),
            ("optimizer.learning_rate", Value::Float(learning_rate)),
        ];
        flags.extend(self.data.clone().map(|spec| ("data.spec", Value::String(spec))));
        resolve(&Overrides { set: self.set.clone(), flags, ..Overrides::default() })
    }

    /// The rate is chosen on validation with seed 0; only the chosen run of that seed is tested.
    fn method_cells(&self, method: &str, labels: u32, options: &Options<'_>) -> Result<Vec<Cell>> {
        let mut best: Option<(f64, f64)> = None;
        for &rate in &self.learning_rates {
            let run = self.open_run(method, labels, 0, rate, options)?;
            let trained = match run.train() {
                Ok(trained) => trained,
                // A rate that diverges is a bad rate, and no reason to stop.
                Err(error) if is_divergence(&error) => {
                    eprintln!("{method}, {labels} labels, seed 0, learning rate {rate}: {error}");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let validation = trained
                .validation
                .context("a learning rate needs validation images to be chosen by")?;
            let score = validation["balanced_accuracy"].as_f64().unwrap_or(0.0);
            eprintln!(
                "{method}, {labels} labels, seed 0, learning rate {rate}: validation {score:.3}"
            );
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((rate, score));
            }
        }
        let (rate, _) = best.context("every learning rate diverged")?;
        let mut cells = Vec::new();
        for seed in 0..self.seeds {
            let run = self.open_run(method, labels, seed, rate, options)?;
            let metrics = match run.folder.metrics() {
                Some(metrics) => metrics,
                None => run.finish(&run.train()?, false)?.metrics,
            };
            let figure = |section: &str, key: &str| metrics[section][key].as_f64().unwrap_or(0.0);
            let cell = Cell {
                method: method.to_owned(),
                labels_per_class: labels,
                seed,
                learning_rate: rate,
                balanced_accuracy: figure("test", "balanced_accuracy"),
                accuracy: figure("test", "accuracy"),
                macro_f1: figure("test", "macro_f1"),
                color_knn: figure("baselines", "color_knn"),
                seconds: figure("train", "seconds"),
            };
            eprintln!(
                "{method}, {labels} labels, seed {seed}, learning rate {rate}: test {:.3}",
                cell.balanced_accuracy
            );
            cells.push(cell);
        }
        Ok(cells)
    }

    /// A new run, or the one of this cell that is there already.
    fn open_run<'a>(
        &self,
        method: &str,
        labels: u32,
        seed: u32,
        rate: f64,
        options: &'a Options<'_>,
    ) -> Result<Run<'a>> {
        let place = self.out.join(format!("{method}-{labels}-seed{seed}-rate{rate}"));
        let config = self.config(method, labels, seed, rate)?;
        if place.exists() {
            let folder = RunFolder::open(&place)?;
            if !same_settings(&config, &folder.config()?) {
                let message =
                    format!("{} is a run with other settings: give another --out", place.display());
                return Err(BadInput::new(message).into());
            }
            return Run::open(folder, options);
        }
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        Run::create(config, |_, _| place, options)
    }
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
