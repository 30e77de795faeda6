//! Training and validation over the steps.

use serde::Serialize;

use super::Figure;
use crate::chart::{Axis, Line, LineChart, LineStyle, TickFormat};
use crate::events::{TrainEvent, ValidationEvent};
use crate::format::{count, decimal, percent};
use crate::run::Run;
use crate::series::{Point, range_of, range_without_spikes, smooth, thin_evenly, thin_to_extremes};

/// Bins of the raw values; each gives up to two points.
const N_RAW_BINS: usize = 220;
/// Points of a smoothed line.
pub(super) const N_SMOOTH: usize = 220;
/// Up to this many measurements each has a dot.
const MOST_DOTS: usize = 40;
/// The label at the step from which pseudo-labels are used.
const MARKER: &str = "pseudo-labels";

#[derive(Serialize)]
pub(super) struct Curves {
    losses: Vec<Figure>,
    /// How many values the smoothed lines average; 1 is no smoothing.
    n_smoothed: usize,
    has_floor: bool,
    /// From where on pseudo-labels are used, in words.
    switch: Option<String>,
    validations: Vec<Figure>,
    /// Whether the validation chart shows the level of chance.
    has_chance: bool,
}

/// One curve of the loss: where its values and its floor come from.
struct Term {
    id: &'static str,
    title: &'static str,
    value: fn(&TrainEvent) -> Option<f64>,
    floor: fn(&TrainEvent) -> Option<f64>,
    /// Whether pseudo-labels change what the value means.
    depends_on_phase: bool,
}

const TERMS: [Term; 4] = [
    Term {
        id: "loss-total",
        title: "Total",
        value: |e| e.total,
        floor: |_| None,
        depends_on_phase: true,
    },
    Term {
        id: "loss-supervised",
        title: "Contrast of labeled images",
        value: |e| e.supervised,
        floor: |e| e.supervised_floor,
        depends_on_phase: false,
    },
    Term {
        id: "loss-unsupervised",
        title: "Contrast of unlabeled images",
        value: |e| e.unsupervised,
        floor: |e| e.unsupervised_floor,
        depends_on_phase: true,
    },
    Term {
        id: "loss-classification",
        title: "Classification",
        value: |e| e.classification,
        floor: |_| None,
        depends_on_phase: false,
    },
];

/// What all charts share.
pub(super) struct Frame {
    pub(super) x_axis: Axis,
    switch: Option<u64>,
    pub(super) half_window: usize,
}

impl Frame {
    pub(super) fn new(run: &Run) -> Self {
        let events = &run.events;
        let steps = || events.train.keys().chain(events.validation.keys()).copied();
        let (first, last) = (steps().min().unwrap_or(0), steps().max().unwrap_or(0));
        Self {
            x_axis: Axis::new((first as f64, last as f64), 4, TickFormat::Count),
            switch: events.pseudo_labels_from(),
            half_window: (events.train.len() / 60).min(100),
        }
    }

    fn marker(&self) -> Option<(f64, &'static str)> {
        self.switch.map(|step| (step as f64, MARKER))
    }
}

impl Curves {
    pub(super) fn new(run: &Run) -> Self {
        let events = &run.events;
        let frame = Frame::new(run);
        let chance = run.metrics.baselines.get("chance").copied().flatten();
        Self {
            losses: TERMS
                .iter()
                .skip(usize::from(has_one_term(run)))
                .filter_map(|term| loss_figure(run, &frame, term))
                .collect(),
            n_smoothed: 2 * frame.half_window + 1,
            has_floor: events
                .train
                .values()
                .any(|e| e.supervised_floor.or(e.unsupervised_floor).is_some()),
            switch: frame.switch.map(|step| {
                format!("From step {} on, the unlabeled images carry pseudo-labels.", count(step))
            }),
            validations: [
                accuracy_figure(run, &frame, chance),
                validation_loss_figure(run, &frame),
            ]
            .into_iter()
            .flatten()
            .collect(),
            has_chance: chance.is_some(),
        }
    }
}

/// The chart of one term; `None` when the method does not have it.
fn loss_figure(run: &Run, frame: &Frame, term: &Term) -> Option<Figure> {
    let points = |of: fn(&TrainEvent) -> Option<f64>| -> Vec<Point> {
        let point = |(&step, event)| (step as f64, of(event).unwrap_or(f64::NAN));
        run.events.train.iter().map(point).collect()
    };
    let values = points(term.value);
    let switch = frame.switch.filter(|_| term.depends_on_phase);
    let smoothed = smooth_by_phase(&values, frame.half_window, switch);
    let floor = smooth_by_phase(&points(term.floor), frame.half_window, switch);

    // The range shows the curve and its floor; single spikes of the raw values may leave it.
    let ranges = [range_without_spikes(&values), range_of(&smoothed), range_of(&floor)];
    let range = ranges.into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    // A term that was never finite is still a term: its chart stays empty.
    if range.is_none() && !was_logged(run, term) {
        return None;
    }
    let last = |points: &[Point]| points.iter().rev().map(|p| p.1).find(|y| y.is_finite());
    let note = match (last(&smoothed), last(&floor)) {
        (Some(value), Some(floor)) => {
            format!("ends at {value:.3}, {:.3} above its floor", value - floor)
        }
        (Some(value), None) => format!("ends at {value:.3}"),
        (None, _) => "never finite".to_owned(),
    };
    let mut main = Line::new(LineStyle::Main, thin_evenly(&smoothed, N_SMOOTH));
    main.dot_stride = (values.len() <= MOST_DOTS).then_some(1);
    let chart = LineChart {
        id: term.id,
        title: &format!("Training loss: {}", term.title),
        description: &format!("Over the training steps; {note}."),
        x_label: "step",
        x_axis: &frame.x_axis,
        y_axis: &Axis::padded(range.unwrap_or((0.0, 1.0)), 0.05, 5, TickFormat::Number),
        lines: &[
            Line::new(LineStyle::Raw, thin_to_extremes(&values, N_RAW_BINS)),
            Line::new(LineStyle::Floor, thin_evenly(&floor, N_SMOOTH)),
            main,
        ],
        marker: frame.marker(),
    };
    Some(Figure { title: term.title.to_owned(), note, chart_svg: chart.to_svg() })
}

/// Whether the total is nothing but one term, so that its chart would show the same twice.
fn has_one_term(run: &Run) -> bool {
    let terms = |event: &TrainEvent| [event.supervised, event.unsupervised, event.classification];
    let is_one_term = |event: &TrainEvent| {
        let mut terms = terms(event).into_iter().flatten();
        terms.next() == event.total && terms.next().is_none()
    };
    run.events.train.values().all(is_one_term)
}

/// Whether any step names the term, if only as a number that is not finite.
fn was_logged(run: &Run, term: &Term) -> bool {
    run.events.train.values().any(|event| (term.value)(event).is_some())
}

/// Smoothed, but not across the step, if any, at which the value changes its meaning.
fn smooth_by_phase(points: &[Point], half_window: usize, switch: Option<u64>) -> Vec<Point> {
    let switch = switch.map_or(f64::INFINITY, |step| step as f64);
    let (before, after) = points.split_at(points.partition_point(|&(step, _)| step < switch));
    let mut smoothed = smooth(before, half_window);
    if let (Some(&(last, _)), false) = (before.last(), after.is_empty()) {
        smoothed.push((last, f64::NAN));
    }
    smoothed.extend(smooth(after, half_window));
    smoothed
}

fn accuracy_figure(run: &Run, frame: &Frame, chance: Option<f64>) -> Option<Figure> {
    let (_, last) = run.events.validation.last_key_value()?;
    let note = format!("ends at {} balanced accuracy", percent(last.balanced_accuracy));
    let mut lines = Vec::new();
    if let Some(chance) = chance {
        let level = vec![(frame.x_axis.low, chance), (frame.x_axis.high, chance)];
        lines.push(Line::new(LineStyle::Floor, level));
    }
    lines.push(measured(run, LineStyle::Third, |e| e.macro_f1));
    lines.push(measured(run, LineStyle::Second, |e| e.accuracy));
    lines.push(measured(run, LineStyle::Main, |e| e.balanced_accuracy));
    let title = "Accuracy on the validation images";
    let chart = LineChart {
        id: "validation-accuracy",
        title,
        description: &format!("Balanced accuracy, accuracy and macro F1; {note}."),
        x_label: "step",
        x_axis: &frame.x_axis,
        y_axis: &Axis::new((0.0, 1.0), 5, TickFormat::Percent),
        lines: &lines,
        marker: frame.marker(),
    };
    Some(Figure { title: title.to_owned(), note, chart_svg: chart.to_svg() })
}

fn validation_loss_figure(run: &Run, frame: &Frame) -> Option<Figure> {
    let measured = measured(run, LineStyle::Main, |e| e.loss);
    let range = range_of(&measured.points)?;
    let last = run.events.validation.last_key_value()?.1.loss;
    let (title, note) =
        ("Loss on the validation images", format!("cross entropy, ends at {}", decimal(last, 3)));
    let chart = LineChart {
        id: "validation-loss",
        title,
        description: &format!("Over the training steps; {note}."),
        x_label: "step",
        x_axis: &frame.x_axis,
        y_axis: &Axis::padded(range, 0.08, 5, TickFormat::Number),
        lines: &[measured],
        marker: frame.marker(),
    };
    Some(Figure { title: title.to_owned(), note, chart_svg: chart.to_svg() })
}

fn measured(run: &Run, style: LineStyle, value: fn(&ValidationEvent) -> Option<f64>) -> Line {
    let point = |(&step, event)| (step as f64, value(event).unwrap_or(f64::NAN));
    let points: Vec<Point> = run.events.validation.iter().map(point).collect();
    let dot_stride = (points.len() <= MOST_DOTS).then_some(1);
    Line { dot_stride, ..Line::new(style, thin_evenly(&points, N_SMOOTH)) }
}
