//! A training run's folder in, one self-contained HTML report out.
//!
//! | what | where |
//! |---|---|
//! | the report of one run, `report.html` | [`write_report`], [`render`] |
//! | several runs on one page | [`write_comparison`], [`render_comparison`] |
//! | the results of a benchmark | [`write_benchmark`], [`render_benchmark`] |
//! | scalars for TensorBoard, while the run trains | [`EventFile`] |
//!
//! A page needs no network and no font: all charts are inline SVG, drawn here. Only the map of the
//! embeddings has a script, and shows the labels without it. A page follows the reader's light or
//! dark setting, fits a phone and prints.
//!
//! The life of a report: [`Run::read`] turns the files into plain data and refuses what is
//! malformed; `series` smooths and thins the curves; `chart` draws; `page` says what is shown and
//! in which words; the files of `templates/` say where.

mod error;

mod files;

mod evaluation;
mod events;
mod run;

mod format;
mod series;

mod chart;
mod page;
mod write;

mod tensorboard;

pub use error::ReportError;
pub use page::{
    BenchmarkPage, BenchmarkTable, Curve, CurveLevel, CurveLine, CurvePoint, PairedResult, render,
    render_benchmark, render_comparison,
};
pub use run::Run;
pub use tensorboard::EventFile;
pub use write::{write_benchmark, write_comparison, write_report};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
