//! What the run cost, which images it saw, and how to repeat it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Fact;
use crate::chart::{Bar, bars};
use crate::format::{NO_VALUE, count, duration, quantity, words};
use crate::run::Run;

/// The parts of a step, in the order in which they happen.
const STEP_PARTS: [(&str, &str); 6] = [
    ("data_wait", "Waiting for data"),
    ("views", "Views"),
    ("forward", "Forward pass"),
    ("loss", "Loss"),
    ("backward", "Backward pass"),
    ("update", "Update"),
];

/// The parts of a split, in the order in which they are named.
const SPLIT_PARTS: [&str; 4] = ["labeled", "unlabeled", "validation", "test"];

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    cost: Vec<Fact>,
    timing_svg: Option<String>,
    split: Vec<Fact>,
    split_hash: String,
    notes: &'a [String],
    config: &'a str,
    run_folder: &'a str,
}

impl<'a> Settings<'a> {
    pub(super) fn new(run: &'a Run) -> Self {
        let train = &run.metrics.train;
        Self {
            cost: vec![
                Fact::new("Training time", duration(train.seconds)),
                Fact::new("Images per second", quantity(train.images_per_second, "").trim_end()),
                Fact::new("Peak memory", quantity(train.peak_memory_mib, "MiB")),
            ],
            timing_svg: timing(&run.metrics.timing),
            split: split(run),
            split_hash: run.split.hash.clone().unwrap_or_else(|| NO_VALUE.to_owned()),
            notes: &run.metrics.notes,
            config: &run.config,
            run_folder: run.metrics.run.as_deref().unwrap_or_default(),
        }
    }
}

/// Shares of a step as bars, known parts first; the longest bar fills its room.
fn timing(timing: &BTreeMap<String, Option<f64>>) -> Option<String> {
    let known =
        STEP_PARTS.iter().filter_map(|&(key, name)| Some((name.to_owned(), *timing.get(key)?)));
    let other = timing
        .iter()
        .filter(|(key, _)| STEP_PARTS.iter().all(|part| part.0 != *key))
        .map(|(key, &value)| (words(key), value));
    let rows: Vec<Bar> = known
        .chain(other)
        .map(|(label, value)| Bar { label, value, is_main: false, interval: None })
        .collect();
    let longest = rows.iter().filter_map(|row| row.value).fold(0.0, f64::max);
    let full = if longest > 0.0 { longest } else { 1.0 };
    (!rows.is_empty()).then(|| bars("timing", "Share of a step's time", &rows, full))
}

/// The counts of `split.json`; where it has none, those of `metrics.json`.
fn split(run: &Run) -> Vec<Fact> {
    let dataset = &run.metrics.dataset;
    let from_metrics =
        [dataset.n_labeled, dataset.n_unlabeled, dataset.n_validation, dataset.n_test];
    let counts = &run.split.counts;
    let known = SPLIT_PARTS
        .iter()
        .zip(from_metrics)
        .map(|(&part, n)| Fact::new(words(part), count(counts.get(part).copied().unwrap_or(n))));
    let other = counts
        .iter()
        .filter(|(part, _)| !SPLIT_PARTS.contains(&part.as_str()))
        .map(|(part, &n)| Fact::new(words(part), count(n)));
    known.chain(other).collect()
}
