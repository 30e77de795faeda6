//! What the page shows, and in which words.

mod atlas;
mod calibration;
mod classes;
mod curves;
mod headline;
mod pictures;
mod pseudo;
mod representation;
mod settings;
mod template;

mod benchmark;
mod comparison;

use serde::Serialize;

use crate::error::ReportError;
use crate::run::Run;

use atlas::Atlas;
use calibration::Calibration;
use classes::Classes;
use curves::Curves;
use headline::Headline;
use pictures::Pictures;
use pseudo::PseudoLabels;
use representation::Representation;
use settings::Settings;

pub use benchmark::{
    BenchmarkPage, BenchmarkTable, Curve, CurveLevel, CurveLine, CurvePoint, render_benchmark,
};
pub use comparison::{PairedResult, render_comparison};

/// Everything that the template puts into its place. Fields that end in `_svg`, `_html`, `_css`
/// or `_json` are markup; all others are text, which the template escapes.
#[derive(Serialize)]
struct Page<'a> {
    headline: Headline,
    classes: Classes,
    calibration: Option<Calibration>,
    representation: Option<Representation>,
    atlas: Option<Atlas>,
    pictures: Pictures,
    curves: Curves,
    pseudo: Option<PseudoLabels>,
    settings: Settings<'a>,
}

/// A name and a value in a list of facts.
#[derive(Serialize)]
struct Fact {
    name: String,
    value: String,
}

impl Fact {
    fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// A chart with the line of text above it.
#[derive(Serialize)]
struct Figure {
    title: String,
    note: String,
    chart_svg: String,
}

/// The report of a run as one HTML page, which refers to nothing outside itself.
///
/// # Errors
///
/// Only when the page's template has a defect.
pub fn render(run: &Run) -> Result<String, ReportError> {
    template::fill(
        "report.html",
        Page {
            headline: Headline::new(run),
            classes: Classes::new(run),
            calibration: Calibration::new(run),
            representation: Representation::new(run),
            atlas: Atlas::new(run),
            pictures: Pictures::new(run),
            curves: Curves::new(run),
            pseudo: PseudoLabels::new(run),
            settings: Settings::new(run),
        },
    )
}
