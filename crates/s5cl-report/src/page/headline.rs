//! The title, the result in one number and one sentence, and what it beats.

use serde::Serialize;

use super::Fact;
use crate::chart::{Bar, bars};
use crate::format::{count, counted, decimal, percent, percent_range, words};
use crate::run::{Interval, Run};

#[derive(Serialize)]
pub(super) struct Headline {
    title: String,
    facts: String,
    balanced_accuracy: String,
    meaning: String,
    summary: String,
    /// The 95 % interval of the large number, in words.
    interval: Option<String>,
    comparison_svg: String,
    numbers: Vec<Number>,
    /// Further measures, for those who look for theirs.
    measures: Vec<Fact>,
    warnings: Vec<String>,
}

/// A measure with what is known of its uncertainty.
#[derive(Serialize)]
struct Number {
    name: &'static str,
    value: String,
    interval: Option<String>,
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
            interval: interval_of(run, "balanced_accuracy")
                .map(|ends| format!("95 % interval {}", percent_range(Some(ends)))),
            comparison_svg: comparison(run, method),
            numbers: numbers(run),
            measures: measures(run),
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

/// The ends of the 95 % interval of a measure.
pub(super) fn interval_of(run: &Run, measure: &str) -> Option<(f64, f64)> {
    run.metrics.test.intervals.get(measure).copied().flatten().and_then(Interval::ends)
}

fn numbers(run: &Run) -> Vec<Number> {
    let test = &run.metrics.test;
    let interval = |measure: &str, show: fn((f64, f64)) -> String| {
        interval_of(run, measure).map(|ends| format!("95 %: {}", show(ends)))
    };
    let as_decimals = |(low, high): (f64, f64)| format!("{low:.3} to {high:.3}");
    vec![
        Number {
            name: "Accuracy",
            value: percent(test.accuracy),
            interval: interval("accuracy", |ends| percent_range(Some(ends))),
        },
        Number {
            name: "Macro F1",
            value: decimal(test.macro_f1, 3),
            interval: interval("macro_f1", as_decimals),
        },
        Number {
            name: "Weighted F1",
            value: decimal(test.weighted_f1, 3),
            interval: interval("weighted_f1", as_decimals),
        },
        Number { name: "Test loss", value: decimal(test.loss, 3), interval: None },
    ]
}

/// What `metrics.json` and `evaluation.json` have beyond the numbers above; absent ones are left
/// out.
fn measures(run: &Run) -> Vec<Fact> {
    let test = &run.metrics.test;
    let top_k = test.top_k.iter().filter_map(|(k, value)| {
        Some(Fact::new(format!("Top-{k} accuracy"), percent(Some((*value)?))))
    });
    let decimals = [
        ("AUROC (macro)", test.auroc),
        ("Average precision (macro)", test.average_precision),
        ("Micro F1", test.micro_f1),
        ("Cohen's kappa", test.kappa),
        ("Quadratic kappa", test.quadratic_kappa),
        ("Matthews correlation", test.mcc),
        ("Brier score", test.brier),
    ];
    let decimals = decimals
        .into_iter()
        .filter_map(|(name, value)| Some(Fact::new(name, decimal(Some(value?), 3))));
    let ece = test.ece.map(|ece| Fact::new("Expected calibration error", percent(Some(ece))));
    top_k.chain(decimals).chain(ece).chain(further_measures(run)).collect()
}

fn further_measures(run: &Run) -> Vec<Fact> {
    let mut facts = Vec::new();
    let Some(evaluation) = &run.evaluation else { return facts };
    if let Some(parents) = &evaluation.parents {
        let kind = counted(parents.names.len() as u64, "parent class", "parent classes");
        let values = [
            ("Accuracy", percent(parents.accuracy)),
            ("Balanced accuracy", percent(parents.balanced_accuracy)),
            ("Macro F1", decimal(parents.macro_f1, 3)),
        ];
        facts.extend(values.map(|(name, value)| Fact::new(format!("{name}, {kind}"), value)));
    }
    if let Some(cost) = &evaluation.cost {
        facts.push(Fact::new("Mean cost of an image", decimal(cost.mean, 3)));
    }
    facts
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
        interval: interval_of(run, "balanced_accuracy"),
    }];
    let mut baselines: Vec<_> = run.metrics.baselines.iter().collect();
    baselines.sort_by(|a, b| b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)));
    rows.extend(baselines.into_iter().map(|(key, &value)| Bar {
        label: baseline_name(key),
        value,
        is_main: false,
        interval: None,
    }));
    bars("comparison", "Balanced accuracy beside the baselines", &rows, 1.0)
}

fn baseline_name(key: &str) -> String {
    match key {
        "chance" => "Chance".to_owned(),
        "color_knn" => "Color alone (kNN)".to_owned(),
        "thumbnail_knn" => "8\u{d7}8 pixels (kNN)".to_owned(),
        _ => words(key),
    }
}

pub(super) fn method_name(method: &str) -> &str {
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
