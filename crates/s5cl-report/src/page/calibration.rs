//! Whether the confidence can be believed, and what it is good for.

use serde::Serialize;

use super::Figure;
use crate::chart::{Axis, Line, LineChart, LineStyle, TickFormat, reliability, shares};
use crate::evaluation::{Calibration as Fitted, Conformal, Coverage, ReliabilityBin};
use crate::format::{decimal, percent};
use crate::run::Run;

/// Sets of this size and above are one part of the row.
const LARGEST_SET: usize = 6;
/// How much of the images is answered in the sentence below the curve.
const TOLD_COVERAGE: f64 = 0.8;
/// How far from that a point of the curve may be.
const NEAR: f64 = 0.05;

#[derive(Serialize)]
pub(super) struct Calibration {
    figures: Vec<Figure>,
    fitted_on: Option<String>,
    conformal: Vec<ConformalRow>,
    conformal_svg: Option<String>,
}

#[derive(Serialize)]
struct ConformalRow {
    level: String,
    coverage: String,
    mean_size: String,
}

impl Calibration {
    /// `None` where nothing of it was measured.
    pub(super) fn new(run: &Run) -> Option<Self> {
        let evaluation = run.evaluation.as_ref()?;
        let fitted = evaluation.calibration.as_ref();
        let mut figures = fitted.map(reliability_figures).unwrap_or_default();
        figures.extend(evaluation.coverage.as_ref().and_then(coverage_figure));
        let conformal = &evaluation.conformal;
        if figures.is_empty() && conformal.is_empty() {
            return None;
        }
        Some(Self {
            figures,
            fitted_on: fitted.and_then(|fitted| fitted.fitted_on.clone()),
            conformal: conformal.iter().map(ConformalRow::new).collect(),
            conformal_svg: conformal_chart(conformal),
        })
    }
}

impl ConformalRow {
    fn new(conformal: &Conformal) -> Self {
        Self {
            level: percent(conformal.level),
            coverage: percent(conformal.coverage),
            mean_size: decimal(conformal.mean_size, 2),
        }
    }
}

fn reliability_figures(fitted: &Fitted) -> Vec<Figure> {
    let figure = |id: &str, title: String, ece: Option<f64>, bins: &[ReliabilityBin]| {
        let note = format!("expected calibration error {}", percent(ece));
        let chart_svg = reliability(id, &format!("Reliability: {title}"), &note, bins);
        (!bins.is_empty()).then_some(Figure { title, note, chart_svg })
    };
    let after = format!("Confidence at temperature {}", decimal(fitted.temperature, 2));
    [
        figure("reliability", "Confidence as trained".to_owned(), fitted.ece, &fitted.bins),
        figure("reliability-calibrated", after, fitted.ece_calibrated, &fitted.bins_calibrated),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn coverage_figure(coverage: &Coverage) -> Option<Figure> {
    let points: Vec<(f64, f64)> =
        coverage.points.iter().map(|p| (p.coverage, p.error.unwrap_or(f64::NAN))).collect();
    let errors = points.iter().map(|point| point.1).filter(|error| error.is_finite());
    let highest = errors.reduce(f64::max)?;
    let mut note = format!("area under the curve {}", decimal(coverage.aurc, 4));
    let distance = |point: &(f64, f64)| (point.0 - TOLD_COVERAGE).abs();
    let told = points.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    if let Some(told) = told.filter(|told| distance(told) <= NEAR && told.1.is_finite()) {
        note += &format!(
            "; error {} on the surest {:.0}\u{202f}%",
            percent(Some(told.1)),
            100.0 * told.0
        );
    }
    let chart = LineChart {
        id: "coverage",
        title: "Error over coverage",
        description: &format!("Error among the surest images, by their share; {note}."),
        x_label: "share of images answered, the surest first",
        x_axis: &Axis::new((0.0, 1.0), 5, TickFormat::Percent),
        y_axis: &Axis::new((0.0, highest.max(0.01)), 5, TickFormat::Percent),
        lines: &[Line::new(LineStyle::Main, points)],
        marker: None,
    };
    Some(Figure { title: "Error over coverage".to_owned(), note, chart_svg: chart.to_svg() })
}

fn conformal_chart(conformal: &[Conformal]) -> Option<String> {
    let largest = conformal.iter().map(|sets| sets.sizes.len()).max()?.saturating_sub(1);
    let n_parts = largest.min(LARGEST_SET) + 1;
    let names: Vec<String> = (0..n_parts)
        .map(|size| {
            format!("{size}{}", if size == LARGEST_SET && largest > size { "+" } else { "" })
        })
        .collect();
    let row = |sets: &Conformal| {
        let mut parts = vec![0; n_parts];
        for (size, &n) in sets.sizes.iter().enumerate() {
            parts[size.min(LARGEST_SET)] += n;
        }
        (percent(sets.level), parts)
    };
    let rows: Vec<(String, Vec<u64>)> = conformal.iter().map(row).collect();
    (largest > 0).then(|| shares("conformal", "Sizes of the sets", &names, &rows))
}
