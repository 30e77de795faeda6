//! Which images are evaluated.

use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use s5cl_data::{Dataset, LabelBudget, Spec, Split, open, partition};
use serde_json::json;

use crate::device::Device;
use crate::experiment::{Experiment, with_labels};
use crate::failure::BadInput;
use crate::run_folder::RunFolder;

/// A dataset and the samples of it that are evaluated, each with its class.
pub(super) type LabeledSamples = (Arc<Dataset>, Vec<(usize, u32)>);

/// A section of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Section {
    /// The test images
    Test,
    /// The validation images
    Validation,
    /// The training images whose labels the run knew
    Train,
    /// Every image with a label
    All,
}

impl Section {
    /// As the command line names it.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The run's own images, divided as the run had them.
    pub(super) fn of_run(
        self,
        folder: &RunFolder,
        workers: usize,
        device: &Device,
    ) -> Result<LabeledSamples> {
        let mut config = folder.config()?;
        let experiment = Experiment::open(&mut config, Some(folder.split()?), workers, device)?;
        let dataset = &experiment.dataset;
        let log = || log_opening(folder, &dataset.name);
        let samples = match self {
            Self::Test => with_labels(dataset, experiment.test.open(log)?)?,
            Self::Validation => with_labels(dataset, &experiment.validation)?,
            Self::Train => experiment.labeled,
            Self::All => {
                log()?;
                with_labels(dataset, &labeled(dataset))?
            }
        };
        Ok((experiment.dataset, samples))
    }

    /// The part of another dataset; one without splits of its own is taken whole.
    pub(super) fn of_data(
        self,
        folder: &RunFolder,
        spec: &Spec,
        size: u32,
    ) -> Result<LabeledSamples> {
        let dataset = open(spec)?;
        let has_splits = dataset.samples.iter().any(|sample| sample.split == Some(Split::Test));
        let samples = if self == Self::All || !has_splits {
            labeled(&dataset)
        } else {
            let parts = partition(&dataset, LabelBudget::All, 0)?;
            match self {
                Self::Validation => parts.validation,
                Self::Train => parts.labeled,
                Self::Test | Self::All => parts.test,
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
pub(super) fn class_map(dataset: &Dataset, known: &[String]) -> Result<Vec<u32>> {
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
