//! `evaluate`: a trained model, or the predictions of any model, beside the truth.

mod samples;
mod tables;

use std::path::PathBuf;

use anyhow::Result;
use s5cl_eval::Confusion;
use serde_json::{Value, json};

use crate::device::DeviceChoice;
use crate::evaluation::{JudgedImages, Part, compare};
use crate::failure::BadInput;
use crate::inference::Predictor;
use crate::run_folder::RunFolder;
use crate::table::{Table, fraction, p_value, with_interval};
use samples::{Section, class_map};
use tables::Tables;

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
    /// Predictions of another model on the same images, a run folder or such a table: how much
    /// better is the first, and is that chance
    #[arg(long, value_name = "DIR|FILE.csv")]
    against: Option<PathBuf>,
    /// A table with the columns `class` and `parent`: also judge by parent classes
    #[arg(long, value_name = "FILE.csv")]
    parents: Option<PathBuf>,
    /// A table of what mistakes cost, one row a true class (its name first), one column a
    /// predicted class: also give the mean cost
    #[arg(long, value_name = "FILE.csv")]
    costs: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda, or one of several as in cuda:1
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
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
        if self.labels.is_some() && self.predictions.is_none() && self.against.is_none() {
            let message = "--labels are the true classes of --predictions or --against: give one";
            return Err(BadInput::new(message).into());
        }
        let tables = Tables::read(&self)?;
        let subject = self.subject(&tables)?;
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
        let mut json = json!({
            "schema": 1, "data": subject.data, "split": subject.split, "test": result
        });
        self.more(&tables, &subject.images, &mut json)?;
        self.tell_report(&json)?;
        if self.json {
            println!("{json}");
        }
        Ok(())
    }

    /// What is only told where it is asked for.
    fn more(&self, tables: &Tables, images: &JudgedImages, json: &mut Value) -> Result<()> {
        let probabilities = images.probabilities()?;
        if let Some(tree) = tables.class_tree(&images.class_names)? {
            let result = tree.result(&images.labels, &probabilities)?;
            println!(
                "\nby parent class ({}): accuracy {:.3}, balanced {:.3}, macro F1 {:.3}",
                tree.names().join(", "),
                result.accuracy,
                result.balanced_accuracy,
                result.macro_f1
            );
            json["parents"] = json!({ "names": tree.names(), "result": result });
        }
        if let Some(costs) = tables.costs(&images.class_names)? {
            let n_classes = images.class_names.len();
            let confusion =
                Confusion::new(n_classes, &images.labels, &probabilities.predictions())?;
            let mean = confusion.mean_cost(&costs)?;
            println!("\nmean cost of an image: {mean:.4}");
            json["cost"] = json!({ "mean": mean, "matrix": costs });
        }
        if let Some(other) = &tables.against {
            let found = compare(images, other)?;
            let mut table = Table::new(&["less those of the other", "difference", "p"]);
            for (name, of) in [
                ("accuracy", &found.accuracy),
                ("balanced accuracy", &found.balanced_accuracy),
                ("macro F1", &found.macro_f1),
            ] {
                let difference = with_interval(of.difference, Some(of.interval.into()));
                table.row(vec![name.to_owned(), difference, p_value(of.p_value)]);
            }
            let mcnemar = &found.mcnemar;
            println!(
                "\n{}right here alone {}, right there alone {}: McNemar's p {}",
                table.text(),
                mcnemar.only_first,
                mcnemar.only_second,
                p_value(mcnemar.p_value)
            );
            json["against"] = json!(found);
        }
        Ok(())
    }

    /// What was asked for of a run's own test images is in its report from then on.
    fn tell_report(&self, json: &Value) -> Result<()> {
        let own_test = self.data.is_none() && self.split == Section::Test;
        let Some(run) = self.run.as_ref().filter(|_| own_test) else { return Ok(()) };
        let folder = RunFolder::open(run)?;
        let Some(mut details) = folder.evaluation() else { return Ok(()) };
        let mut told = false;
        if let Some(parents) = json.get("parents") {
            details["parents"] = parents["result"].clone();
            details["parents"]["names"] = parents["names"].clone();
            told = true;
        }
        if let Some(cost) = json.get("cost") {
            details["cost"] = cost.clone();
            told = true;
        }
        if told {
            folder.write_evaluation(&details)?;
            s5cl_report::write_report(folder.path())?;
            eprintln!("the report has it too: {}", folder.report().display());
        }
        Ok(())
    }

    fn subject(&self, tables: &Tables) -> Result<Subject> {
        match (&self.predictions, &self.run) {
            (Some(predictions), _) => Ok(Subject {
                data: predictions.display().to_string(),
                split: "all".to_owned(),
                images: JudgedImages::read(predictions, self.labels.as_deref())?,
            }),
            (None, Some(run)) => self.of_run(&RunFolder::open(run)?, tables),
            (None, None) => Err(BadInput::new("give --run DIR or --predictions FILE.csv").into()),
        }
    }

    fn of_run(&self, folder: &RunFolder, tables: &Tables) -> Result<Subject> {
        let device = self.device.open()?;
        let predictor = Predictor::open(&folder.weights(), &device)?;
        // Tables that do not fit are told before the model runs.
        tables.class_tree(&predictor.card.class_names)?;
        tables.costs(&predictor.card.class_names)?;
        let (dataset, mut samples) = match &self.data {
            None => self.split.of_run(folder, self.workers, &device)?,
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
