//! Several runs on one page.

use serde::Serialize;

use super::headline::{interval_of, method_name};
use super::{Figure, template};
use crate::chart::{Axis, Line, LineChart, LineStyle, Mark, TickFormat, dot_rows};
use crate::error::ReportError;
use crate::format::{NO_VALUE, count, decimal, percent, percent_range};
use crate::run::Run;
use crate::series::{Point, range_of, smooth, thin_evenly};

/// Points of a line.
const N_POINTS: usize = 200;
/// Marks of a line, which tell it apart where colors do not.
const N_MARKS: usize = 8;
/// From this p-value on, a difference may well be chance.
const MOST_P: f64 = 0.05;

/// Two runs on the same test images; the caller computes it.
#[derive(Clone, Debug)]
pub struct PairedResult {
    /// Index of a run.
    pub a: usize,
    /// Index of the run that it is compared with.
    pub b: usize,
    /// Balanced accuracy of `a` less that of `b`, in `[-1, 1]`.
    pub difference: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Of that difference, in `[0, 1]`.
    pub p_value: f64,
    /// Of McNemar's test on single images, in `[0, 1]`.
    pub mcnemar_p: f64,
}

#[derive(Serialize)]
struct Page {
    title: String,
    runs: Vec<RunRow>,
    pairs: Vec<PairRow>,
    figures: Vec<Figure>,
    recall_svg: Option<String>,
    recalls: Vec<RecallRow>,
    names: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct RunRow {
    key_svg: String,
    name: String,
    dataset: String,
    n_labeled: String,
    steps: String,
    balanced_accuracy: String,
    interval: String,
    accuracy: String,
    macro_f1: String,
    ece: String,
}

#[derive(Serialize)]
struct PairRow {
    what: String,
    difference: String,
    interval: String,
    p_value: String,
    mcnemar_p: String,
    verdict: &'static str,
}

#[derive(Serialize)]
struct RecallRow {
    name: String,
    values: Vec<String>,
}

/// Some runs side by side as one HTML page, which refers to nothing outside itself.
///
/// # Errors
///
/// When there is no run, the runs have other classes or were tested on another number of images,
/// or a pair names a run that is not there.
pub fn render_comparison(runs: &[Run], pairs: &[PairedResult]) -> Result<String, ReportError> {
    check(runs, pairs)?;
    let names = names(runs);
    let rows = recalls(runs);
    let recall_chart = || dot_rows("recall", "Recall of the classes by run", &names, &rows);
    let mut warnings = Vec::new();
    for (name, run) in names.iter().zip(runs) {
        warnings.extend(run.metrics.warnings.iter().map(|warning| format!("{name}: {warning}")));
    }
    let of_runs: Vec<RunRow> = runs
        .iter()
        .zip(&names)
        .enumerate()
        .map(|(i, (run, name))| RunRow::new(i, run, name))
        .collect();
    template::fill(
        "comparison.html",
        Page {
            title: format!("{} runs on {}", runs.len(), runs[0].metrics.dataset.name),
            runs: of_runs,
            pairs: pairs.iter().map(|pair| PairRow::new(pair, &names)).collect(),
            figures: [accuracy_figure(runs), loss_figure(runs)].into_iter().flatten().collect(),
            recall_svg: (!rows.is_empty()).then(recall_chart),
            recalls: rows
                .iter()
                .map(|(name, values)| RecallRow {
                    name: name.clone(),
                    values: values.iter().map(|value| percent(*value)).collect(),
                })
                .collect(),
            names,
            warnings,
        },
    )
}

fn check(runs: &[Run], pairs: &[PairedResult]) -> Result<(), ReportError> {
    let unfit = |what: String| Err(ReportError::Unfit { what });
    let Some(first) = runs.first() else {
        return unfit("no run was given to compare".to_owned());
    };
    let classes = first.class_names();
    for (index, run) in runs.iter().enumerate().skip(1) {
        let others = run.class_names();
        if others != classes {
            let differs = others.iter().zip(&classes).find(|(a, b)| a != b);
            let how = match differs {
                Some((other, class)) => format!("{other:?} in place of {class:?}"),
                None => format!("{} classes in place of {}", others.len(), classes.len()),
            };
            return unfit(format!(
                "run {} was not tested on the classes of run 1: {how}; compare runs of one data set",
                index + 1
            ));
        }
    }
    let n_runs = runs.len();
    match pairs.iter().find(|pair| pair.a >= n_runs || pair.b >= n_runs) {
        Some(pair) => unfit(format!("a pair names runs {} and {} of {n_runs}", pair.a, pair.b)),
        None => Ok(()),
    }
}

/// Method and seed, and what else it takes to tell the runs apart.
fn names(runs: &[Run]) -> Vec<String> {
    let base = |run: &Run| {
        let metrics = &run.metrics;
        let labels = counted_labels(metrics.dataset.n_labeled);
        format!("{}{labels}, seed {}", method_name(&metrics.method), metrics.seed)
    };
    let bases: Vec<String> = runs.iter().map(base).collect();
    let is_unique = |name: &String| bases.iter().filter(|other| *other == name).count() == 1;
    bases
        .iter()
        .enumerate()
        .map(|(i, name)| if is_unique(name) { name.clone() } else { format!("{name} ({})", i + 1) })
        .collect()
}

fn counted_labels(n_labeled: u64) -> String {
    if n_labeled > 0 { format!(", {} labels", count(n_labeled)) } else { String::new() }
}

impl RunRow {
    fn new(index: usize, run: &Run, name: &str) -> Self {
        let (metrics, test) = (&run.metrics, &run.metrics.test);
        Self {
            key_svg: Mark::of(index).key(),
            name: name.to_owned(),
            dataset: metrics.dataset.name.clone(),
            n_labeled: count(metrics.dataset.n_labeled),
            steps: count(metrics.steps),
            balanced_accuracy: percent(test.balanced_accuracy),
            interval: percent_range(interval_of(run, "balanced_accuracy")),
            accuracy: percent(test.accuracy),
            macro_f1: decimal(test.macro_f1, 3),
            ece: percent(test.ece),
        }
    }
}

impl PairRow {
    fn new(pair: &PairedResult, names: &[String]) -> Self {
        let points = |value: f64| {
            if value.is_finite() { format!("{:+.1}", 100.0 * value) } else { NO_VALUE.to_owned() }
        };
        Self {
            what: format!("{} less {}", names[pair.a], names[pair.b]),
            difference: points(pair.difference),
            interval: format!("{} to {}", points(pair.low), points(pair.high)),
            p_value: p_value(pair.p_value),
            mcnemar_p: p_value(pair.mcnemar_p),
            verdict: if pair.p_value < MOST_P { "differ" } else { "may be chance" },
        }
    }
}

fn p_value(p: f64) -> String {
    match p {
        p if !p.is_finite() => NO_VALUE.to_owned(),
        p if p < 0.001 => "< 0.001".to_owned(),
        p => format!("{p:.3}"),
    }
}

/// One row a class; empty where the runs have no table of classes.
fn recalls(runs: &[Run]) -> Vec<(String, Vec<Option<f64>>)> {
    let n_classes = runs.iter().map(|run| run.metrics.test.per_class.len()).max().unwrap_or(0);
    let recall = |run: &Run, class_idx: usize| run.metrics.test.per_class.get(class_idx)?.recall;
    runs[0]
        .class_names()
        .into_iter()
        .take(n_classes)
        .enumerate()
        .map(|(class_idx, name)| (name, runs.iter().map(|run| recall(run, class_idx)).collect()))
        .collect()
}

fn accuracy_figure(runs: &[Run]) -> Option<Figure> {
    let of_run = |run: &Run| -> Vec<Point> {
        let events = run.events.validation.iter();
        events.map(|(&step, e)| (step as f64, e.balanced_accuracy.unwrap_or(f64::NAN))).collect()
    };
    let y_axis = Axis::new((0.0, 1.0), 5, TickFormat::Percent);
    overlay(
        "validation-accuracy",
        "Balanced accuracy on the validation images",
        runs,
        &of_run,
        |_| y_axis,
    )
}

fn loss_figure(runs: &[Run]) -> Option<Figure> {
    let of_run = |run: &Run| -> Vec<Point> {
        let events = run.events.train.iter();
        let points: Vec<Point> = events
            .map(|(&step, event)| (step as f64, event.classification.unwrap_or(f64::NAN)))
            .collect();
        smooth(&points, (points.len() / 60).min(100))
    };
    overlay("classification", "Classification loss", runs, &of_run, |range| {
        Axis::padded(range, 0.05, 5, TickFormat::Number)
    })
}

fn overlay(
    id: &str,
    title: &str,
    runs: &[Run],
    of_run: &dyn Fn(&Run) -> Vec<Point>,
    y_axis: impl FnOnce((f64, f64)) -> Axis,
) -> Option<Figure> {
    let curves: Vec<Vec<Point>> = runs.iter().map(of_run).collect();
    let all: Vec<Point> = curves.iter().flatten().copied().collect();
    let range = range_of(&all)?;
    let steps = all.iter().map(|point| point.0);
    let (first, last) = steps.fold((f64::INFINITY, 0.0_f64), |(a, b), x| (a.min(x), b.max(x)));
    let line = |(index, points): (usize, Vec<Point>)| {
        let points = thin_evenly(&points, N_POINTS);
        let dot_stride = Some(points.len().div_ceil(N_MARKS));
        Line { dot_stride, ..Line::new(LineStyle::Series(Mark::of(index)), points) }
    };
    let lines: Vec<Line> = curves.into_iter().enumerate().map(line).collect();
    let chart = LineChart {
        id,
        title,
        description: "One line a run, over the steps.",
        x_label: "step",
        x_axis: &Axis::new((first, last), 4, TickFormat::Count),
        y_axis: &y_axis(range),
        lines: &lines,
        marker: None,
    };
    Some(Figure { title: title.to_owned(), note: String::new(), chart_svg: chart.to_svg() })
}
