//! What the page shows, and in which words.

mod classes;
mod curves;
mod headline;
mod settings;

use minijinja::Environment;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use serde::Serialize;

use crate::error::ReportError;
use crate::run::Run;

use classes::Classes;
use curves::Curves;
use headline::Headline;
use settings::Settings;

const TEMPLATE: &str = include_str!("../../templates/report.html");
const STYLE: &str = include_str!("../../templates/report.css");

/// Everything that the template puts into its place. Fields that end in `_svg` are markup; all
/// others are text, which the template escapes.
#[derive(Serialize)]
struct Page<'a> {
    style: &'static str,
    headline: Headline,
    curves: Curves,
    classes: Classes,
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
    let page = Page {
        style: STYLE,
        headline: Headline::new(run),
        curves: Curves::new(run),
        classes: Classes::new(run),
        settings: Settings::new(run),
    };
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()?,
    );
    // The name's ending turns on the escaping of HTML.
    environment.add_template("report.html", TEMPLATE)?;
    Ok(environment.get_template("report.html")?.render(Serde(page))?)
}
