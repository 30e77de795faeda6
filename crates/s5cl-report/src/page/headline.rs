//! The title, the result in one number and one sentence, and what it beats.

use serde::Serialize;

use super::Fact;
use crate::chart::{Bar, bars};
use crate::format::{count, counted, decimal, percent, words};
use crate::run::Run;

#[derive(Serialize)]
pub(super) struct Headline {
    title: String,
    facts: String,
    balanced_accuracy: String,
    meaning: String,
    summary: String,
    comparison_svg: String,
    numbers: Vec<Fact>,
    warnings: Vec<String>,
}

impl Headline {
    pub(super) fn new(run: &Run) -> Self {
        let metrics = &run.metrics;
        let method = method_name(&metrics.method);
        let mut facts = vec![format!("seed {}", metrics.seed)];
        facts.extend(metrics.preset.iter().map(|preset| format!("preset {preset}")));
        facts.push(counted(metrics.steps, "step", "steps"));
        facts.extend(metrics.device.iter().map(|device| format!("on {device}")));
        let test = &metrics.test;
        Self {
            title: format!("{method} on {}", metrics.dataset.name),
            facts: facts.join(" \u{b7} "),
            balanced_accuracy: percent(test.balanced_accuracy),
            meaning: meaning(run),
            summary: summary(run),
            comparison_svg: comparison(run, method),
            numbers: vec![
                Fact::new("Accuracy", percent(test.accuracy)),
                Fact::new("Macro F1", decimal(test.macro_f1, 3)),
                Fact::new("Weighted F1", decimal(test.weighted_f1, 3)),
                Fact::new("Test loss", decimal(test.loss, 3)),
            ],
            warnings: warnings(run),
        }
    }
}

/// What was learned from and what was tested on.
fn summary(run: &Run) -> String {
    let dataset = &run.metrics.dataset;
    let learned_from = if dataset.n_unlabeled > 0 {
        format!(
            "{} labeled and {}",
            count(dataset.n_labeled),
            images(dataset.n_unlabeled, "unlabeled ")
        )
    } else {
        images(dataset.n_labeled, "labeled ")
    };
    let picked_by = if run.selects_best && dataset.n_validation > 0 {
        format!(", weights picked by {}", images(dataset.n_validation, "labeled validation "))
    } else {
        String::new()
    };
    let tested_on = match run.metrics.test.balanced_accuracy {
        Some(_) => format!("tested on {}", images(dataset.n_test, "")),
        None => "not tested".to_owned(),
    };
    format!("Learned from {learned_from}{picked_by}; {tested_on}.")
}

/// What the large number means, for readers who do not know the metric.
fn meaning(run: &Run) -> String {
    format!(
        "balanced accuracy: the share of a class's test images that are recognized, averaged over \
         {}",
        counted(run.metrics.dataset.n_classes, "class", "classes")
    )
}

fn images(n: u64, kind: &str) -> String {
    counted(n, &format!("{kind}image"), &format!("{kind}images"))
}

/// This run, then the baselines from strong to weak.
fn comparison(run: &Run, method: &str) -> String {
    let mut rows = vec![Bar {
        label: method.to_owned(),
        value: run.metrics.test.balanced_accuracy,
        is_main: true,
    }];
    let mut baselines: Vec<_> = run.metrics.baselines.iter().collect();
    baselines.sort_by(|a, b| b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)));
    rows.extend(baselines.into_iter().map(|(key, &value)| Bar {
        label: baseline_name(key),
        value,
        is_main: false,
    }));
    bars("comparison", "Balanced accuracy beside the baselines", &rows, 1.0)
}

fn baseline_name(key: &str) -> String {
    match key {
        "chance" => "Chance".to_owned(),
        "color_knn" => "Color alone (kNN)".to_owned(),
        "thumbnail_knn" => "Thumbnail (kNN)".to_owned(),
        _ => words(key),
    }
}

fn method_name(method: &str) -> &str {
    match method {
        "s5cl" => "S5CL",
        "supcon" => "SupCon",
        "cross-entropy" => "Cross entropy",
        "mpl" => "Meta Pseudo Labels",
        other => other,
    }
}

fn warnings(run: &Run) -> Vec<String> {
    let mut warnings = run.metrics.warnings.clone();
    if run.selects_best {
        warnings.push(
            "The weights were picked by their validation result: the validation labels count as \
             labels of this run."
                .to_owned(),
        );
    }
    if run.events.last_line_is_cut {
        warnings.push("The last line of metrics.jsonl is cut and was left out.".to_owned());
    }
    warnings
}
