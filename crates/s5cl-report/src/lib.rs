//! A training run's folder in, one self-contained HTML report out.
//!
//! [`write_report`] reads `config.toml`, `metrics.jsonl`, `metrics.json` and `split.json` of a run
//! folder and writes `report.html` into it. The page needs no network, no script and no font: all
//! charts are inline SVG, drawn here. It follows the reader's light or dark setting, fits a phone
//! and prints.
//!
//! The life of a report: [`Run::read`] turns the files into plain data and refuses what is
//! malformed; `series` smooths and thins the curves; `chart` draws; `page` says what is shown and
//! in which words; `templates/report.html` says where.

mod error;

mod events;
mod run;

mod format;
mod series;

mod chart;
mod page;
mod write;

pub use error::ReportError;
pub use page::render;
pub use run::Run;
pub use write::write_report;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
