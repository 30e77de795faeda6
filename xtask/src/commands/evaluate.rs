//! `evaluate`: a trained model on a split of its own data or of other data.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use s5cl_data::{Dataset, LabelBudget, Spec, Split, open, partition};
use serde_json::json;

use crate::experiment::{Experiment, with_labels};
use crate::failure::BadInput;
use crate::inference::Predictor;
use crate::run_folder::RunFolder;
use crate::table::{Table, fraction};

/// A dataset and the samples of it that are evaluated, each with its class.
type LabeledSamples = (Arc<Dataset>, Vec<(usize, u32)>);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run folder
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Other images with labels of the same classes [default: those of the run]
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// The part to evaluate
    #[arg(long, value_enum, default_value = "test")]
    split: Part,
    /// Threads that read images
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// End standard output with the result as one line of JSON
    #[arg(long)]
    json: bool,
}

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The test images
    Test,
    /// The validation images
    Validation,
    /// The training images whose labels the run knew
    Train,
    /// Every image with a label
    All,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let folder = RunFolder::open(&self.run)?;
        let predictor = Predictor::open(&folder.weights())?;
        let size = predictor.card.image_size;
        let (dataset, mut samples) = match &self.data {
            None => self.own_samples(&folder)?,
            Some(spec) => self.other_samples(&folder, &spec.parse()?, size)?,
        };
        let labels = class_map(&dataset, &predictor.card.class_names)?;
        for (_, class_idx) in &mut samples {
            *class_idx = labels[*class_idx as usize];
        }
        let part =
            self.split.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        if samples.is_empty() {
            return Err(BadInput::new(format!(
                "{} has no labeled image in its {part} part",
                dataset.name
            ))
            .into());
        }
        let result = predictor.evaluate(&dataset, &samples, self.workers)?;

        let mut table =
            Table::new(&["", "accuracy", "balanced", "macro F1", "weighted F1", "images"]);
        let values =
            [result.accuracy, result.balanced_accuracy, result.macro_f1, result.weighted_f1];
        let mut row = vec![dataset.name.clone()];
        row.extend(values.map(fraction));
        row.push(samples.len().to_string());
        table.row(row);
        println!("{}", table.text());
        let mut classes = Table::new(&["class", "recall", "precision", "images"]);
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), fraction);
        for class in &result.per_class {
            classes.row(vec![
                class.name.clone(),
                shown(class.recall),
                shown(class.precision),
                class.support.to_string(),
            ]);
        }
        print!("{}", classes.text());
        if self.json {
            println!(
                "{}",
                json!({ "schema": 1, "data": dataset.name, "split": part, "test": result })
            );
        }
        Ok(())
    }

    /// The run's own images, divided as the run had them.
    fn own_samples(&self, folder: &RunFolder) -> Result<LabeledSamples> {
        let mut config = folder.config()?;
        let experiment = Experiment::open(&mut config, Some(folder.split()?), self.workers)?;
        let dataset = &experiment.dataset;
        let log = || log_opening(folder, &dataset.name);
        let samples = match self.split {
            Part::Test => with_labels(dataset, experiment.test.open(log)?)?,
            Part::Validation => with_labels(dataset, &experiment.validation)?,
            Part::Train => experiment.labeled,
            Part::All => {
                log()?;
                with_labels(dataset, &labeled(dataset))?
            }
        };
        Ok((experiment.dataset, samples))
    }

    /// The part of another dataset; one without splits of its own is taken whole.
    fn other_samples(&self, folder: &RunFolder, spec: &Spec, size: u32) -> Result<LabeledSamples> {
        let dataset = open(spec)?;
        let has_splits = dataset.samples.iter().any(|sample| sample.split == Some(Split::Test));
        let samples = if self.split == Part::All || !has_splits {
            labeled(&dataset)
        } else {
            let parts = partition(&dataset, LabelBudget::All, 0)?;
            match self.split {
                Part::Validation => parts.validation,
                Part::Train => parts.labeled,
                Part::Test | Part::All => parts.test,
            }
        };
        log_opening(folder, &dataset.name)?;
        let samples = with_labels(&dataset, &samples)?;
        Ok((Arc::new(dataset.resized(size)), samples))
    }
}

/// Writes down that images to judge by were looked at.
fn log_opening(folder: &RunFolder, dataset: &str) -> Result<()> {
    let steps = folder.config()?.training.steps;
    folder.append_events()?.append(
        "test-opened",
        steps,
        &json!({ "by": "evaluate", "data": dataset }),
    )
}

fn labeled(dataset: &Dataset) -> Vec<usize> {
    (0..dataset.samples.len()).filter(|&idx| dataset.samples[idx].class_idx.is_some()).collect()
}

/// The model's class for each class of the dataset, by name.
fn class_map(dataset: &Dataset, known: &[String]) -> Result<Vec<u32>> {
    let find = |name: &String| {
        let class_idx = known.iter().position(|class| class == name).ok_or_else(|| {
            BadInput::new(format!(
                "{}: the model knows no class {name:?}; it knows {}",
                dataset.name,
                known.join(", ")
            ))
        })?;
        Ok(class_idx as u32)
    };
    dataset.class_names.iter().map(find).collect()
}
