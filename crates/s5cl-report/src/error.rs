//! Why a report could not be made.

use std::path::PathBuf;

use thiserror::Error;

/// What went wrong, in one line that names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file of the run folder could not be read.
    #[error("cannot read {}: {source}; is this the folder of a finished run?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// `config.toml` is not TOML.
    #[error("{} is not valid TOML: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser says, without the excerpt that spans several lines.
        message: String,
    },
    /// `metrics.json`, `split.json` or `evaluation.json` is not what it should be.
    #[error("{} is not a valid object: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A line of `metrics.jsonl`, not the last one, is not what it should be.
    #[error("line {line} of {} is not a valid object: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// `metrics.json` or `evaluation.json` was written by another version.
    #[error("{} has schema {found}; this version reads schema {expected}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema it says it has.
        found: u64,
        /// The schema that can be read.
        expected: u64,
    },
    /// Two parts of a run folder contradict each other.
    #[error("{}: {what}", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// What was to be shown on one page does not belong together.
    #[error("{what}")]
    Unfit {
        /// What does not fit, and what to do.
        what: String,
    },
    /// The page's template failed: a defect of this crate.
    #[error("the report's template failed: {source}")]
    Template {
        /// What the template engine says.
        #[from]
        source: minijinja::Error,
    },
    /// The report could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl ReportError {
    /// Whether the run folder is at fault, rather than the disk or the template.
    #[must_use]
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Template { .. })
    }
}
