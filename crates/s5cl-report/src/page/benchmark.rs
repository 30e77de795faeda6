//! The results of a benchmark on one page.

use serde::Serialize;

use super::{Fact, Figure, template};
use crate::chart::{Axis, Line, LineChart, LineStyle, Mark, TickFormat};
use crate::error::ReportError;
use crate::format::{count, percent, percent_range};

/// Distance between the points of two lines at the same `x`, in the chart's units.
const DODGE: f64 = 5.0;

/// What the page of a benchmark shows; all texts are plain text.
#[derive(Clone, Debug, Default)]
pub struct BenchmarkPage {
    /// The heading, as `Label efficiency on rbc12`.
    pub title: String,
    /// One line below it.
    pub subtitle: String,
    /// What the reader must know before the numbers.
    pub warnings: Vec<String>,
    /// Names and values: data, seeds, machine, command.
    pub facts: Vec<(String, String)>,
    /// Balanced accuracy over labels per class, if the suite has it.
    pub curve: Option<Curve>,
    /// In the order in which they are shown.
    pub tables: Vec<BenchmarkTable>,
}

/// Methods over label budgets.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Above the chart.
    pub title: String,
    /// Beside the title.
    pub note: String,
    /// One a method; up to 72 are told apart.
    pub lines: Vec<CurveLine>,
    /// Horizontal lines, as chance and the color baseline.
    pub levels: Vec<CurveLevel>,
}

/// A method.
#[derive(Clone, Debug, Default)]
pub struct CurveLine {
    /// As the legend names it.
    pub name: String,
    /// In any order.
    pub points: Vec<CurvePoint>,
}

/// A method with one label budget.
#[derive(Clone, Copy, Debug)]
pub struct CurvePoint {
    /// Labeled images per class, positive; the axis is logarithmic.
    pub labels_per_class: f64,
    /// Balanced accuracy in `[0, 1]`, the mean over seeds.
    pub value: f64,
    /// The ends of its 95 % interval, where it is known.
    pub interval: Option<(f64, f64)>,
}

/// A value that does not depend on the labels.
#[derive(Clone, Debug, Default)]
pub struct CurveLevel {
    /// As the legend names it.
    pub name: String,
    /// Balanced accuracy in `[0, 1]`.
    pub value: f64,
}

/// A table; its first column names the rows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BenchmarkTable {
    /// Above the table.
    pub title: String,
    /// Below the title; may be empty.
    pub note: String,
    /// One text a column.
    pub header: Vec<String>,
    /// Each as long as the header.
    pub rows: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    subtitle: &'a str,
    warnings: &'a [String],
    facts: Vec<Fact>,
    curve: Option<Figure>,
    legend: Vec<LegendEntry>,
    levels: Vec<String>,
    tables: &'a [BenchmarkTable],
}

#[derive(Serialize)]
struct LegendEntry {
    key_svg: String,
    name: String,
}

/// The page of a benchmark as one HTML page, which refers to nothing outside itself. Points that
/// are not finite are left out.
///
/// # Errors
///
/// When a row of a table is not as long as its header.
pub fn render_benchmark(page: &BenchmarkPage) -> Result<String, ReportError> {
    for table in &page.tables {
        if let Some(row) = table.rows.iter().find(|row| row.len() != table.header.len()) {
            let (title, n, n_columns) = (&table.title, row.len(), table.header.len());
            let what = format!("table {title:?} has {n_columns} columns but a row of {n} cells");
            return Err(ReportError::Unfit { what });
        }
    }
    let lines = page.curve.iter().flat_map(|curve| &curve.lines).enumerate();
    let entry = |(index, line): (usize, &CurveLine)| LegendEntry {
        key_svg: Mark::of(index).key(),
        name: line.name.clone(),
    };
    template::fill(
        "benchmark.html",
        Page {
            title: &page.title,
            subtitle: &page.subtitle,
            warnings: &page.warnings,
            facts: page.facts.iter().map(|(name, value)| Fact::new(name, value)).collect(),
            curve: page.curve.as_ref().map(figure),
            legend: lines.map(entry).collect(),
            levels: page
                .curve
                .iter()
                .flat_map(|curve| &curve.levels)
                .map(|level| format!("{} {}", level.name, percent(Some(level.value))))
                .collect(),
            tables: &page.tables,
        },
    )
}

fn figure(curve: &Curve) -> Figure {
    let budgets = curve.lines.iter().flat_map(|line| &line.points).map(|p| p.labels_per_class);
    let x_axis = Axis::log(budgets, TickFormat::Count);
    let levels = curve.levels.iter().map(|level| {
        let ends = vec![(x_axis.low, level.value), (x_axis.high, level.value)];
        Line::new(LineStyle::Floor, ends)
    });
    let middle = (curve.lines.len() as f64 - 1.0) / 2.0;
    let methods = curve.lines.iter().enumerate().map(|(index, line)| {
        let mut points: Vec<&CurvePoint> = line
            .points
            .iter()
            .filter(|p| p.labels_per_class > 0.0 && p.value.is_finite())
            .collect();
        points.sort_by(|a, b| a.labels_per_class.total_cmp(&b.labels_per_class));
        let interval = |point: &&CurvePoint| {
            let (low, high) = point.interval.filter(|(low, high)| low <= high)?;
            Some((point.labels_per_class, low, high))
        };
        let style = LineStyle::Series(Mark::of(index));
        Line {
            intervals: points.iter().filter_map(interval).collect(),
            shift: DODGE * (index as f64 - middle),
            ..Line::new(style, points.iter().map(|p| (p.labels_per_class, p.value)).collect())
                .with_dots()
        }
    });
    let lines: Vec<Line> = levels.chain(methods).collect();
    let chart = LineChart {
        id: "curve",
        title: &curve.title,
        description: &description(curve),
        x_label: "labeled images per class",
        x_axis: &x_axis,
        y_axis: &Axis::new(y_range(&lines), 5, TickFormat::Percent),
        lines: &lines,
        marker: None,
    };
    Figure { title: curve.title.clone(), note: curve.note.clone(), chart_svg: chart.to_svg() }
}

/// From a round tenth below everything that is drawn to one above.
fn y_range(lines: &[Line]) -> (f64, f64) {
    let values = lines.iter().flat_map(|line| {
        let ends = line.intervals.iter().flat_map(|&(_, low, high)| [low, high]);
        line.points.iter().map(|point| point.1).chain(ends)
    });
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((1.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    ((low * 10.0 - 0.2).floor().max(0.0) / 10.0, (high * 10.0 + 0.2).ceil().min(10.0) / 10.0)
}

fn description(curve: &Curve) -> String {
    let mut words = Vec::new();
    for line in &curve.lines {
        for point in &line.points {
            let interval = point
                .interval
                .map(|ends| format!(" ({})", percent_range(Some(ends))))
                .unwrap_or_default();
            words.push(format!(
                "{} with {} labels per class: {}{interval}",
                line.name,
                count(point.labels_per_class.max(0.0).round() as u64),
                percent(Some(point.value)),
            ));
        }
    }
    words.join("; ")
}
