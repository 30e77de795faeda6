//! What a benchmark would run: its cells with their images, steps and time, before any of it.

use std::time::Instant;

use anyhow::{Context, Result};
use s5cl_backbone::ENCODERS;
use s5cl_data::{
    CommonSize, Dataset, LabelBudget, Spec, TEST_SHARE, VALIDATION_SHARE, open, partition,
};
use serde::Serialize;

use super::card::{Card, Counts};
use super::settings::{Budget, Settings};
use crate::commands::benchmark::kernels::{Images, Work, call};
use crate::config::RunConfig;
use crate::experiment::{LARGEST_DEFAULT_SIZE, budget};
use crate::failure::BadInput;
use crate::table::Table;

/// Views of the step that is timed; a whole one may not fit into memory.
const TIMED_VIEWS: usize = 32;

/// The runs of one method and number of labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PlannedCell {
    method: String,
    budget: Budget,
    runs: usize,
    n_labeled: usize,
    n_unlabeled: usize,
    n_validation: usize,
    n_test: usize,
    steps: u64,
    views_per_step: usize,
    /// Of all runs, estimated.
    hours: f64,
}

/// Where the numbers of images come from.
enum Source {
    Images(Box<Dataset>),
    Card { card: Card, counts: Counts },
}

/// Every cell; nothing is written, and where the images are absent the dataset's card counts.
pub(super) fn plan(settings: &Settings) -> Result<Vec<PlannedCell>> {
    let (mut source, mut seconds_per_view) = (None, None);
    let mut cells = Vec::new();
    for &budget in &settings.budgets {
        for method in &settings.methods {
            let config = settings.config(method, budget, 0, settings.learning_rates[0])?;
            let source = match &source {
                Some(source) => source,
                None => source.insert(Source::of(settings, &config)?),
            };
            let [n_labeled, n_unlabeled, n_validation, n_test] = source.counts(&config)?;
            let per_view = match seconds_per_view {
                Some(per_view) => per_view,
                None => *seconds_per_view.insert(time_view(&config, source.side(&config)?)?),
            };
            let views_per_step = 2 * (config.data.batch_labeled + config.data.batch_unlabeled);
            let (steps, runs) = (config.training.steps, settings.runs());
            let hours = per_view * (views_per_step as u64 * steps * runs as u64) as f64 / 3600.0;
            cells.push(PlannedCell {
                method: method.clone(),
                budget,
                runs,
                n_labeled,
                n_unlabeled,
                n_validation,
                n_test,
                steps,
                views_per_step,
                hours,
            });
        }
    }
    Ok(cells)
}

/// Refuses budgets that the images cannot give to some seed; hours of runs may be before it.
pub(super) fn require_images(settings: &Settings) -> Result<()> {
    let dataset = open(&settings.first_config()?.data.spec.parse()?)?;
    for &labels in &settings.budgets {
        for seed in 0..settings.seeds {
            let (method, rates) = (&settings.methods[0], &settings.learning_rates);
            let config = settings.config(method, labels, seed, rates[0])?;
            let parts = partition(&dataset, budget(&config), config.seed)
                .with_context(|| format!("{labels}, seed {seed}"))?;
            if rates.len() > 1 && parts.validation.is_empty() {
                let message = "there are no validation images to choose a learning rate by: give \
                               one rate with --learning-rates";
                return Err(BadInput::new(message).into());
            }
        }
    }
    Ok(())
}

/// The plan for people.
pub(super) fn table(cells: &[PlannedCell]) -> Table {
    let mut table = Table::new(&[
        "method",
        "labels",
        "runs",
        "labeled",
        "unlabeled",
        "validation",
        "test",
        "steps",
        "views a step",
        "hours (estimated)",
    ]);
    for cell in cells {
        let counts = [cell.n_labeled, cell.n_unlabeled, cell.n_validation, cell.n_test];
        let mut row = vec![cell.method.clone(), cell.budget.to_string(), cell.runs.to_string()];
        row.extend(counts.map(|count| count.to_string()));
        row.extend([cell.steps.to_string(), cell.views_per_step.to_string(), hours(cell.hours)]);
        table.row(row);
    }
    let runs: usize = cells.iter().map(|cell| cell.runs).sum();
    let mut total = vec!["all".to_owned(), String::new(), runs.to_string()];
    total.extend(std::iter::repeat_n(String::new(), 6));
    total.push(hours(cells.iter().map(|cell| cell.hours).sum()));
    table.row(total);
    table
}

fn hours(hours: f64) -> String {
    if hours < 0.095 { format!("{hours:.3}") } else { format!("{hours:.1}") }
}

impl Source {
    fn of(settings: &Settings, config: &RunConfig) -> Result<Self> {
        let preset = settings.named()?;
        match (config.data.spec.parse::<Spec>(), preset) {
            (Ok(spec), _) => Ok(Self::Images(Box::new(open(&spec)?))),
            (Err(_), Some(preset)) => {
                let card = Card::read(&preset.card)?;
                let known = preset.n_images.map(|train| Counts { train, ..Counts::default() });
                let counts = card.n_images.or(known);
                let counts = counts.with_context(|| format!("{} has no counts", card.name))?;
                eprintln!("the images of {} are not there: its card counts", card.name);
                Ok(Self::Card { card, counts })
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    /// Labeled, unlabeled, validation and test images of seed 0.
    fn counts(&self, config: &RunConfig) -> Result<[usize; 4]> {
        match self {
            Self::Images(dataset) => {
                let parts = partition(dataset, budget(config), config.seed)?;
                Ok([&parts.labeled, &parts.unlabeled, &parts.validation, &parts.test].map(Vec::len))
            }
            Self::Card { card, counts } => {
                Ok(from_counts(*counts, card.classes.len(), budget(config)))
            }
        }
    }

    /// Side of the images in pixels.
    fn side(&self, config: &RunConfig) -> Result<u32> {
        if config.data.image_size > 0 {
            return Ok(config.data.image_size);
        }
        let found = match self {
            Self::Images(dataset) => dataset.common_size().map(CommonSize::longest_side)?,
            Self::Card { card, .. } => card.image_size.unwrap_or(LARGEST_DEFAULT_SIZE),
        };
        Ok(found.clamp(8, LARGEST_DEFAULT_SIZE))
    }
}

/// What `partition` would make of so many images, but for the rounding by class.
fn from_counts(counts: Counts, n_classes: usize, budget: LabelBudget) -> [usize; 4] {
    let Counts { mut train, mut validation, mut test } = counts;
    for (part, share) in [(&mut test, TEST_SHARE), (&mut validation, VALIDATION_SHARE)] {
        if *part == 0 {
            *part = (share * counts.train as f64).round() as usize;
            train -= *part;
        }
    }
    let labeled = match budget {
        LabelBudget::All => train,
        LabelBudget::PerClass(n) => n * n_classes,
        LabelBudget::Fraction(share) => ((share * train as f64).round() as usize).max(n_classes),
    };
    let labeled = labeled.min(train);
    [labeled, train - labeled, validation, test]
}

/// Seconds that a view takes in a training step of the configured encoder, on synthetic pixels.
/// Reading the images, their views and the validation are not in it.
fn time_view(config: &RunConfig, side: u32) -> Result<f64> {
    let name = ENCODERS.iter().find(|name| **name == config.encoder.name);
    let encoder = name.with_context(|| format!("unknown encoder {}", config.encoder.name))?;
    let images = Images { encoder, size: side as usize, batch: TIMED_VIEWS };
    let mut step = call(Work::Train(images))?;
    step()?;
    let started = Instant::now();
    step()?;
    Ok(started.elapsed().as_secs_f64() / TIMED_VIEWS as f64)
}

#[cfg(test)]
mod tests {
    use s5cl_data::LabelBudget;

    use super::super::card::Counts;
    use super::from_counts;

    #[test]
    fn counts_are_those_of_the_authors_protocol() {
        let counts = Counts { train: 100_000, validation: 0, test: 7180 };
        let five = from_counts(counts, 9, LabelBudget::PerClass(5));
        assert_eq!(five, [45, 84_955, 15_000, 7180]);
        let all = from_counts(counts, 9, LabelBudget::Fraction(1.0));
        assert_eq!(all, [85_000, 0, 15_000, 7180]);
        let alone = Counts { train: 1000, ..Counts::default() };
        assert_eq!(from_counts(alone, 2, LabelBudget::Fraction(0.001)), [2, 648, 150, 200]);
    }
}
