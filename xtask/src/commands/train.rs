//! `train`: from images to weights, a result and a report.

use std::path::PathBuf;

use anyhow::Result;
use s5cl_eval::chance;
use toml::Value;

use crate::config::{Overrides, RunConfig, resolve};
use crate::device::DeviceChoice;
use crate::outcome::Finished;
use crate::run_folder::{RunFolder, default_path, refuse_existing};
use crate::system::{start_tracing, stop_on_signal};
use crate::table::{Table, fraction, with_interval};
use crate::training::{Options, Run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Settings to start from: s5cl (the default), faithful or linear-probe
    #[arg(long, conflicts_with = "resume")]
    preset: Option<String>,
    /// A config file; the config.toml of a run repeats it
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Any setting, as in --set loss.temperature_labeled=0.1
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// The images: synthetic:tissue, a folder of class folders, or a MedMNIST .npz file
    #[arg(long, value_name = "SPEC", conflicts_with = "resume")]
    data: Option<String>,
    /// Labels kept of each class; the other training images become unlabeled (0: keep all)
    #[arg(long, value_name = "N", conflicts_with_all = ["resume", "label_fraction"])]
    labels_per_class: Option<u32>,
    /// Share of the labels kept of each class, at least one
    #[arg(long, value_name = "F", conflicts_with = "resume")]
    label_fraction: Option<f64>,
    /// s5cl, supcon or cross-entropy
    #[arg(long, conflicts_with = "resume")]
    method: Option<String>,
    /// Steps to train
    #[arg(long, conflicts_with = "resume")]
    steps: Option<u32>,
    /// Seed of everything random
    #[arg(long, conflicts_with = "resume")]
    seed: Option<u32>,
    /// Leave out images that cannot be read, and count them
    #[arg(long, conflicts_with = "resume")]
    skip_bad_images: bool,
    /// The run folder [default: runs/METHOD-DATASET-SEED-TIME]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the run of this folder; its own settings hold
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda, or one of several as in cuda:1
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads that read images and make views; they change no result
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Batches made ahead
    #[arg(long, default_value_t = 4)]
    prefetch: usize,
    /// End standard output with the metrics as one line of JSON
    #[arg(long)]
    json: bool,
    /// No progress on standard error
    #[arg(long)]
    quiet: bool,
    /// Write a log of JSON lines with the time of every part of a step
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// What the arguments ask for.
enum Task {
    Start(Box<RunConfig>),
    Resume(RunFolder),
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let task = match &self.resume {
            Some(path) => {
                let folder = RunFolder::open(path)?;
                if let Some(metrics) = folder.metrics() {
                    return self.show_finished(&folder, &metrics);
                }
                Task::Resume(folder)
            }
            None => {
                let config = resolve(&self.overrides())?;
                if let Some(out) = &self.out {
                    refuse_existing(out)?;
                }
                Task::Start(Box::new(config))
            }
        };
        let device = self.device.open()?;
        let should_stop = stop_on_signal()?;
        let times = start_tracing(self.log.as_deref())?;
        let (workers, prefetch, quiet) = (self.workers, self.prefetch, self.quiet);
        let should_stop = &should_stop;
        let options = Options { device, workers, prefetch, quiet, times, should_stop };
        let place = |config: &RunConfig, dataset: &str| {
            self.out.clone().unwrap_or_else(|| default_path(config, dataset))
        };
        let run = match task {
            Task::Resume(folder) => Run::open(folder, &options)?,
            Task::Start(config) => Run::create(*config, place, &options)?,
        };
        if !quiet {
            describe(&run);
        }
        let trained = run.train()?;
        let finished = run.finish(trained, true)?;
        print_result(&run, &finished);
        self.print_json(&finished.metrics)
    }

    fn show_finished(&self, folder: &RunFolder, metrics: &serde_json::Value) -> Result<()> {
        // A run killed after its last figure lacks only the page that shows them.
        if !folder.report().is_file() {
            s5cl_report::write_report(folder.path())?;
        }
        let (run, report) = (folder.path().display(), folder.report());
        eprintln!("the run {run} is finished; its report is {}", report.display());
        self.print_json(metrics)
    }

    fn print_json(&self, metrics: &serde_json::Value) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(metrics)?);
        }
        Ok(())
    }

    fn overrides(&self) -> Overrides {
        let mut flags: Vec<(&'static str, Value)> = Vec::new();
        let mut flag = |key, value: Option<Value>| flags.extend(value.map(|value| (key, value)));
        flag("data.spec", self.data.clone().map(Value::String));
        flag("data.labels_per_class", self.labels_per_class.map(|n| Value::Integer(n.into())));
        flag("data.label_fraction", self.label_fraction.map(Value::Float));
        // One of the two replaces the other, whichever the preset has.
        flag("data.labels_per_class", self.label_fraction.and(Some(Value::Integer(0))));
        flag("data.label_fraction", self.labels_per_class.and(Some(Value::Float(0.0))));
        flag("data.skip_bad_images", self.skip_bad_images.then_some(Value::Boolean(true)));
        flag("method", self.method.clone().map(Value::String));
        flag("training.steps", self.steps.map(|n| Value::Integer(n.into())));
        flag("seed", self.seed.map(|n| Value::Integer(n.into())));
        Overrides {
            preset: self.preset.clone(),
            config: self.config.clone(),
            set: self.set.clone(),
            flags,
        }
    }
}

fn describe(run: &Run<'_>) {
    let (config, experiment) = (&run.config, &run.experiment);
    for note in run.notes() {
        eprintln!("note: {note}");
    }
    for warning in &run.experiment.warnings {
        eprintln!("warning: {warning}");
    }
    eprintln!(
        "{} on {}: {} classes, {} labeled, {} unlabeled, {} validation, {} test images of {} px",
        config.method,
        experiment.dataset.name,
        experiment.dataset.n_classes(),
        experiment.labeled.len(),
        experiment.unlabeled.len(),
        experiment.validation.len(),
        experiment.test.len(),
        config.data.image_size
    );
    if run.options.device.is_cuda() {
        eprintln!("computing on {} in {}", run.options.device.name, run.precision);
    }
    eprintln!("run folder: {}", run.folder.path().display());
}

fn print_result(run: &Run<'_>, finished: &Finished) {
    let Finished { test, shortcuts, metrics } = finished;
    let mut table = Table::new(&["test", "accuracy", "balanced", "macro F1"]);
    let interval = |key: &str| test.intervals.as_ref()?.get(key).copied();
    table.row(vec![
        run.config.method.clone(),
        with_interval(test.accuracy, interval("accuracy")),
        with_interval(test.balanced_accuracy, interval("balanced_accuracy")),
        with_interval(test.macro_f1, interval("macro_f1")),
    ]);
    for (name, (_, result)) in ["color kNN", "8 x 8 pixels kNN"].into_iter().zip(shortcuts) {
        let values = [result.accuracy, result.balanced_accuracy, result.macro_f1];
        table.row([vec![name.to_owned()], values.map(fraction).to_vec()].concat());
    }
    let guess = fraction(chance(run.experiment.dataset.n_classes()));
    table.row(vec!["chance".to_owned(), String::new(), guess]);
    println!("\n{}", table.text());

    let mut classes = Table::new(&["class", "recall", "images"]);
    for class in &test.per_class {
        let recall = class.recall.map(|recall| with_interval(recall, class.recall_interval));
        let recall = recall.unwrap_or_else(|| "-".to_owned());
        classes.row(vec![class.name.clone(), recall, class.support.to_string()]);
    }
    println!("{}in brackets: 95 % intervals\n", classes.text());

    let shares = metrics["timing"].as_object().into_iter().flatten();
    let shares: Vec<String> = crate::timing::PARTS
        .iter()
        .filter_map(|part| shares.clone().find(|(name, _)| name == part))
        .map(|(name, share)| {
            format!("{} {:.0} %", name.replace('_', " "), 100.0 * share.as_f64().unwrap_or(0.0))
        })
        .collect();
    let train = &metrics["train"];
    println!(
        "{} s, {} images/s, {} MiB; of a step: {}; views take {:.0} % of that time on other threads",
        train["seconds"],
        train["images_per_second"],
        train["peak_memory_mib"],
        shares.join(", "),
        100.0 * metrics["views_share"].as_f64().unwrap_or(0.0)
    );
    println!("run     {}", run.folder.path().display());
    println!("report  {}", run.folder.report().display());
}
