//! `evaluate`: a trained model, or the predictions of any model, beside the truth.

mod samples;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::evaluation::{JudgedImages, Part};
use crate::failure::BadInput;
use crate::inference::Predictor;
use crate::run_folder::RunFolder;
use crate::table::{Table, fraction, with_interval};
use samples::{Section, class_map};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run folder
    #[arg(long, value_name = "DIR", required_unless_present = "predictions")]
    run: Option<PathBuf>,
    /// Instead of a run: predictions of any model, a table with the column `path` and a column of
    /// probabilities for each class
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["run", "data", "split"])]
    predictions: Option<PathBuf>,
    /// The true classes of those images, a table with the columns `path`, `label` and, where it
    /// is known, `group` (patient, slide)
    #[arg(long, value_name = "FILE.csv", requires = "predictions")]
    labels: Option<PathBuf>,
    /// Other images with labels of the same classes [default: those of the run]
    #[arg(long, value_name = "SPEC")]
    data: Option<String>,
    /// The part to evaluate
    #[arg(long, value_enum, default_value = "test")]
    split: Section,
    /// Threads that read images
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// End standard output with the result as one line of JSON
    #[arg(long)]
    json: bool,
}

/// What is judged, and how it is called.
struct Subject {
    data: String,
    split: String,
    images: JudgedImages,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let subject = self.subject()?;
        let result = subject.images.result()?;

        let mut table = Table::new(&["", "accuracy", "balanced", "macro F1", "images"]);
        let interval = |key: &str| result.intervals.as_ref()?.get(key).copied();
        table.row(vec![
            subject.data.clone(),
            with_interval(result.accuracy, interval("accuracy")),
            with_interval(result.balanced_accuracy, interval("balanced_accuracy")),
            with_interval(result.macro_f1, interval("macro_f1")),
            subject.images.labels.len().to_string(),
        ]);
        println!("{}", table.text());
        let mut classes = Table::new(&["class", "recall", "precision", "AUROC", "images"]);
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), fraction);
        for class in &result.per_class {
            classes.row(vec![
                class.name.clone(),
                class.recall.map_or_else(
                    || "-".to_owned(),
                    |recall| with_interval(recall, class.recall_interval),
                ),
                shown(class.precision),
                shown(class.auroc),
                class.support.to_string(),
            ]);
        }
        print!("{}", classes.text());
        println!("in brackets: 95 % intervals");
        if self.json {
            let Subject { data, split, .. } = &subject;
            println!("{}", json!({ "schema": 1, "data": data, "split": split, "test": result }));
        }
        Ok(())
    }

    fn subject(&self) -> Result<Subject> {
        match (&self.predictions, &self.run) {
            (Some(predictions), _) => Ok(Subject {
                data: predictions.display().to_string(),
                split: "all".to_owned(),
                images: JudgedImages::read(predictions, self.labels.as_deref())?,
            }),
            (None, Some(run)) => self.of_run(&RunFolder::open(run)?),
            (None, None) => Err(BadInput::new("give --run DIR or --predictions FILE.csv").into()),
        }
    }

    fn of_run(&self, folder: &RunFolder) -> Result<Subject> {
        let predictor = Predictor::open(&folder.weights())?;
        let (dataset, mut samples) = match &self.data {
            None => self.split.of_run(folder, self.workers)?,
            Some(spec) => self.split.of_data(folder, &spec.parse()?, predictor.card.image_size)?,
        };
        let labels = class_map(&dataset, &predictor.card.class_names)?;
        for (_, class_idx) in &mut samples {
            *class_idx = labels[*class_idx as usize];
        }
        let split = self.split.name();
        if samples.is_empty() {
            let message = format!("{} has no labeled image in its {split} part", dataset.name);
            return Err(BadInput::new(message).into());
        }
        let part = Part::labeled(&predictor, &dataset, &samples, self.workers)?;
        let images = part.judged(&predictor.card.class_names);
        Ok(Subject { data: dataset.name.clone(), split, images })
    }
}
