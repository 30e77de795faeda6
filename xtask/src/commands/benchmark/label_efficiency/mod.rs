//! `benchmark label-efficiency`: how far few labels go, by method.

mod card;
mod cells;
mod metric;
mod page;
mod plan;
mod preset;
mod settings;
mod summary;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::figure::Figure;
use super::gate::Gate;
use crate::device::{Device, DeviceChoice};
use crate::failure::BadInput;
use crate::system::{machine, start_tracing, stop_on_signal};
use crate::timing::SpanTimes;
use crate::training::Options;
use cells::{Cells, Runner};
use metric::Metric;
use page::Finished;
use preset::Preset;
use settings::{Budget, Settings};

/// The name of the suite.
pub(super) const SUITE: &str = "label-efficiency";
const METHODS: [&str; 3] = ["cross-entropy", "supcon", "s5cl"];
const LEARNING_RATES: [f64; 4] = [3e-3, 1e-2, 2e-2, 4e-2];
const SEEDS: u32 = 3;
const LABELS: u32 = 5;
/// Batches made ahead.
const PREFETCH: usize = 4;

#[derive(clap::Args)]
pub(crate) struct LabelEfficiency {
    /// An experiment of a paper, with its data, labels, methods and settings: nct-crc-he or
    /// munich-aml
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// The images: synthetic:tissue, a folder of class folders, or a MedMNIST .npz file
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// Methods to compare [default: cross-entropy,supcon,s5cl]
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Labels per class; 0 keeps all [default: 5]
    #[arg(long, value_delimiter = ',')]
    labels: Vec<u32>,
    /// Shares of the labels of each class, at least one, as 0.0005 for 0.05 %
    #[arg(long, value_delimiter = ',')]
    fractions: Vec<f64>,
    /// Seeds 0, 1, ... of each [default: 3]
    #[arg(long, value_name = "N")]
    seeds: Option<u32>,
    /// Of these each method takes the one with the best balanced accuracy on validation, found
    /// with seed 0 [default: 3e-3,1e-2,2e-2,4e-2]
    #[arg(long, value_delimiter = ',')]
    learning_rates: Vec<f64>,
    /// What the methods are compared by [default: balanced-accuracy]
    #[arg(long, value_enum)]
    metric: Option<Metric>,
    /// Any setting, for all methods
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The cells of `benchmark --quick`
    #[arg(
        long,
        conflicts_with_all = [
            "preset", "data", "methods", "labels", "fractions", "seeds", "learning_rates", "metric",
            "set",
        ]
    )]
    quick: bool,
    /// The folder of all runs, results.json, results.md and report.html; a benchmark that was
    /// interrupted goes on with the runs in it, and one that is finished with more methods, labels
    /// or seeds
    #[arg(long, value_name = "DIR", default_value = "runs/label-efficiency")]
    out: PathBuf,
    /// Print every cell with its images, steps and estimated hours, and run nothing
    #[arg(long)]
    plan: bool,
    /// Where to compute: auto, cpu, cuda, or one of several as in cuda:1
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads that read images and make views
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// End standard output with the results as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gate: Gate,
}

/// A finished benchmark.
pub(super) struct Outcome {
    pub(super) results: Value,
    pub(super) figures: Vec<Figure>,
    pub(super) table: crate::table::Table,
}

impl LabelEfficiency {
    /// Runs the suite.
    pub(crate) fn run(self) -> Result<()> {
        let settings = if self.quick { quick_settings() } else { self.settings()? };
        settings.check()?;
        let warnings = settings.warnings()?;
        for warning in &warnings {
            eprintln!("warning: {warning}");
        }
        if self.plan {
            return self.print_plan(&settings, &warnings);
        }
        require_folder_place(&self.out)?;
        let gate = self.gate.open(SUITE, settings.measured()?)?;
        let outcome = match Finished::read(&self.out, &settings)? {
            Some(cells) => {
                eprintln!("{} is finished", self.out.display());
                outcome(&settings, &cells)?
            }
            None => {
                settings.require_data()?;
                let device = self.device.open()?;
                let should_stop = &stop_on_signal()?;
                let (workers, times) = (self.workers, start_tracing(None)?);
                let (quiet, prefetch) = (true, PREFETCH);
                let options = Options { device, workers, prefetch, quiet, times, should_stop };
                run(&settings, &self.out, &options)?
            }
        };
        println!("\n{}", outcome.table.text());
        println!("results  {}", page::path(&self.out).display());
        println!("report   {}", page::report(&self.out).display());
        if self.json {
            println!("{}", outcome.results);
        }
        gate.judge(&outcome.figures)
    }

    /// What flags say, else the benchmark's preset, else the defaults.
    fn settings(&self) -> Result<Settings> {
        let preset = self.preset.as_deref().map(Preset::named).transpose()?;
        let per_class = self.labels.iter().map(|&n| Budget::PerClass(n));
        let mut budgets: Vec<Budget> = per_class
            .chain(self.fractions.iter().map(|&fraction| Budget::Fraction(fraction)))
            .collect();
        let (mut set, mut learning_rates) = (Vec::new(), self.learning_rates.clone());
        let (mut methods, mut data) = (self.methods.clone(), self.data.clone());
        if let Some(preset) = &preset {
            set.clone_from(&preset.set);
            data = data.or_else(|| Some(preset.data.clone()));
            or_else(&mut budgets, preset.fractions.iter().map(|&f| Budget::Fraction(f)));
            or_else(&mut methods, preset.methods.iter().cloned());
            or_else(&mut learning_rates, preset.learning_rates.iter().copied());
        }
        or_else(&mut budgets, [Budget::PerClass(LABELS)]);
        or_else(&mut methods, METHODS.map(str::to_owned));
        or_else(&mut learning_rates, LEARNING_RATES);
        set.extend(self.set.iter().cloned());
        let of_preset = preset.as_ref();
        Ok(Settings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            benchmark: self.preset.clone(),
            preset: of_preset.map(|preset| preset.preset.clone()),
            data,
            methods,
            budgets,
            seeds: self.seeds.or(of_preset.map(|preset| preset.seeds)).unwrap_or(SEEDS),
            learning_rates,
            metric: self
                .metric
                .or(of_preset.map(|preset| preset.metric))
                .unwrap_or(Metric::BalancedAccuracy),
            set,
        })
    }

    fn print_plan(&self, settings: &Settings, warnings: &[String]) -> Result<()> {
        let cells = plan::plan(settings)?;
        println!("{}", plan::table(&cells).text());
        println!(
            "The hours are an estimate for this machine: a timed step on synthetic pixels, without \
             reading the images, making views and validating. Of the runs of a row {} are for the \
             learning rates with seed 0, the best of which goes on as that seed's.",
            settings.learning_rates.len()
        );
        if self.json {
            let machine = machine();
            let plan = json!({
                "schema": 1,
                "suite": SUITE,
                "plan": true,
                "machine": machine,
                "warnings": warnings,
                "rows": cells,
            });
            println!("{plan}");
        }
        Ok(())
    }
}

/// Runs what is missing and writes the results.
fn run(settings: &Settings, out: &Path, options: &Options<'_>) -> Result<Outcome> {
    plan::require_images(settings)?;
    let cells = Runner { settings, out, options }.cells()?;
    let outcome = outcome(settings, &cells)?;
    let rows = summary::rows(settings, &cells.finished, settings.named()?.as_ref())?;
    page::write(out, settings, &cells, &rows, &outcome.results)?;
    Ok(outcome)
}

fn outcome(settings: &Settings, cells: &Cells) -> Result<Outcome> {
    let rows = summary::rows(settings, &cells.finished, settings.named()?.as_ref())?;
    Ok(Outcome {
        results: page::results(settings, cells, &rows)?,
        figures: summary::figures(settings, &rows),
        table: summary::table(settings, &rows),
    })
}

/// Fails when no folder can be made at a place.
fn require_folder_place(out: &Path) -> Result<()> {
    let file = out.ancestors().find(|place| place.exists()).filter(|place| !place.is_dir());
    if let Some(file) = file {
        let message = format!("--out {}: {} is no folder", out.display(), file.display());
        return Err(BadInput::new(message).into());
    }
    Ok(())
}

/// Takes the others where nothing was given.
fn or_else<T>(given: &mut Vec<T>, others: impl IntoIterator<Item = T>) {
    if given.is_empty() {
        given.extend(others);
    }
}

/// The cells of the quick suite, in a new folder, so that no run of an older program stands for one
/// of this.
pub(super) fn quick(out: &Path, should_stop: &dyn Fn() -> bool) -> Result<Outcome> {
    let settings = quick_settings();
    settings.check()?;
    let (device, times) = (Device::cpu(), SpanTimes::default());
    let options =
        Options { device, workers: 1, prefetch: PREFETCH, quiet: true, times, should_stop };
    run(&settings, out, &options)
}

/// What the cells of the quick suite are of, for the gate.
pub(super) fn quick_measured() -> Result<Value> {
    quick_settings().measured()
}

/// Few labels on drawn tiles, and as many steps as it takes until what the unlabeled images give is
/// more than what two seeds differ by.
fn quick_settings() -> Settings {
    Settings {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        benchmark: None,
        preset: None,
        data: Some("synthetic:tissue?size=32&images=3000".to_owned()),
        methods: ["cross-entropy", "s5cl"].map(str::to_owned).to_vec(),
        budgets: vec![Budget::PerClass(5)],
        seeds: 1,
        learning_rates: vec![2e-2],
        metric: Metric::BalancedAccuracy,
        set: ["training.steps=450", "evaluation.every=0"].map(str::to_owned).to_vec(),
    }
}
