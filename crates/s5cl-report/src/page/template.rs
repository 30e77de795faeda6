//! The templates, and what they share.

use minijinja::Environment;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use serde::Serialize;

use crate::error::ReportError;

/// The endings of the names turn on the escaping of HTML.
const TEMPLATES: [(&str, &str); 11] = [
    ("base.html", include_str!("../../templates/base.html")),
    ("report.html", include_str!("../../templates/report.html")),
    ("comparison.html", include_str!("../../templates/comparison.html")),
    ("benchmark.html", include_str!("../../templates/benchmark.html")),
    ("sections/warnings.html", include_str!("../../templates/sections/warnings.html")),
    ("sections/classes.html", include_str!("../../templates/sections/classes.html")),
    ("sections/calibration.html", include_str!("../../templates/sections/calibration.html")),
    ("sections/embeddings.html", include_str!("../../templates/sections/embeddings.html")),
    ("sections/pictures.html", include_str!("../../templates/sections/pictures.html")),
    ("sections/training.html", include_str!("../../templates/sections/training.html")),
    ("sections/settings.html", include_str!("../../templates/sections/settings.html")),
];
const STYLES: [&str; 4] = [
    include_str!("../../templates/report.css"),
    include_str!("../../templates/marks.css"),
    include_str!("../../templates/pictures.css"),
    include_str!("../../templates/media.css"),
];
const SCRIPT: &str = include_str!("../../templates/report.js");

/// A page's own fields beside those of all pages.
#[derive(Serialize)]
struct Filled<T> {
    page_css: String,
    page_js: &'static str,
    #[serde(flatten)]
    page: T,
}

/// The template of this name with the page's fields in their places.
pub(super) fn fill(name: &str, page: impl Serialize) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()?,
    );
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    let page = Filled { page_css: STYLES.join("\n"), page_js: SCRIPT, page };
    Ok(environment.get_template(name)?.render(Serde(page))?)
}
