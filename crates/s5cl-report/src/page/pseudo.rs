//! Whether the pseudo-labels are any good, over the training.

use serde::Serialize;

use super::Figure;
use super::curves::{Frame, N_SMOOTH};
use crate::chart::{Axis, Line, LineChart, LineStyle, Mark, TickFormat, area_chart};
use crate::events::TrainEvent;
use crate::format::percent;
use crate::run::Run;
use crate::series::{Point, smooth, thin_evenly};

/// Steps are put together into so many samples of the chart of classes.
const N_SAMPLES: usize = 60;

#[derive(Serialize)]
pub(super) struct PseudoLabels {
    health: Option<Figure>,
    has_accuracy: bool,
    classes: Option<Figure>,
    legend: Vec<LegendEntry>,
}

#[derive(Serialize)]
struct LegendEntry {
    key_svg: String,
    name: String,
}

impl PseudoLabels {
    /// `None` for a run that made no pseudo-labels.
    pub(super) fn new(run: &Run) -> Option<Self> {
        let frame = Frame::new(run);
        let names = run.class_names();
        let (health, classes) = (health(run, &frame), classes(run, &frame, &names));
        if health.is_none() && classes.is_none() {
            return None;
        }
        let entry = |(index, name)| LegendEntry { key_svg: Mark::of(index).swatch(), name };
        Some(Self {
            has_accuracy: run.events.train.values().any(|e| e.pseudo_accuracy.is_some()),
            legend: match classes {
                Some(_) => names.into_iter().enumerate().map(entry).collect(),
                None => Vec::new(),
            },
            health,
            classes,
        })
    }
}

fn health(run: &Run, frame: &Frame) -> Option<Figure> {
    let curve = |style, of: fn(&TrainEvent) -> Option<f64>| {
        let points: Vec<Point> = run
            .events
            .train
            .iter()
            .filter_map(|(&step, event)| Some((step as f64, of(event)?)))
            .collect();
        Line::new(style, thin_evenly(&smooth(&points, frame.half_window), N_SMOOTH))
    };
    let accepted = curve(LineStyle::Main, |e| e.pseudo_accepted);
    let confidence = curve(LineStyle::Second, |e| e.pseudo_confidence);
    let accuracy = curve(LineStyle::Third, |e| e.pseudo_accuracy);
    let last = |line: &Line| line.points.last().map(|point| point.1);
    let mut note = format!("ends at {} accepted", percent(Some(last(&accepted)?)));
    if let Some(accuracy) = last(&accuracy) {
        note += &format!(", {} of them right", percent(Some(accuracy)));
    }
    let title = "Pseudo-labels of a step";
    let chart = LineChart {
        id: "pseudo-health",
        title,
        description: &format!("Accepted share, mean confidence and accuracy; {note}."),
        x_label: "step",
        x_axis: &frame.x_axis,
        y_axis: &Axis::new((0.0, 1.0), 5, TickFormat::Percent),
        lines: &[confidence, accuracy, accepted],
        marker: None,
    };
    Some(Figure { title: title.to_owned(), note, chart_svg: chart.to_svg() })
}

fn classes(run: &Run, frame: &Frame, names: &[String]) -> Option<Figure> {
    let logged: Vec<(u64, &[u64])> = run
        .events
        .train
        .iter()
        .filter_map(|(&step, event)| Some((step, event.pseudo_classes.as_deref()?)))
        .collect();
    let samples: Vec<(f64, Vec<u64>)> =
        logged.chunks(logged.len().div_ceil(N_SAMPLES).max(1)).map(sum).collect();
    let drawable = samples.iter().filter(|(_, counts)| counts.iter().any(|&n| n > 0)).count();
    // One sample has no extent over time.
    if drawable < 2 {
        return None;
    }
    let title = "Accepted pseudo-labels by class";
    let description = "Shares of the classes among the accepted pseudo-labels, over the steps.";
    Some(Figure {
        title: title.to_owned(),
        note: "a class that takes over or dies out is a sign of collapse".to_owned(),
        chart_svg: area_chart("pseudo-classes", title, description, &frame.x_axis, names, &samples),
    })
}

/// The counts of some steps together, at the middle one.
fn sum(steps: &[(u64, &[u64])]) -> (f64, Vec<u64>) {
    let n_classes = steps.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0);
    let mut total = vec![0; n_classes];
    for (class_idx, n) in steps.iter().flat_map(|(_, counts)| counts.iter().enumerate()) {
        total[class_idx] += n;
    }
    (steps[steps.len() / 2].0 as f64, total)
}
