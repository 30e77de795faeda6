//! The regression gate: figures of a suite against a baseline that lies in the repository.

use std::path::{Path, PathBuf};

use anyhow::Result;
use s5cl_eval::Interval;
use s5cl_trainer::write_atomic;

use super::baseline::Baseline;

/// What a suite can be told to compare with, and to write.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Gate {
    /// Compare with this baseline, and end with 1 where an accuracy is outside its interval or a
    /// ratio of speeds fell by more than its tolerance
    #[arg(long, value_name = "BASELINE.json")]
    check: Option<PathBuf>,
    /// Write the figures as a baseline for --check
    #[arg(long, value_name = "FILE.json")]
    write_baseline: Option<PathBuf>,
}

/// A [`Gate`] whose baseline was read.
pub(super) struct OpenGate<'a> {
    gate: &'a Gate,
    suite: &'static str,
    baseline: Option<Baseline>,
}

/// A figure that a baseline can hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) value: f64,
}

/// What a figure is, and so when it is worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A mean over seeds, with its interval if it is known: worse below.
    Accuracy { n_seeds: usize, interval: Option<Interval> },
    /// A value over that of a reference, which is 1 where both do the same: worse on either side.
    Same,
    /// Our speed over a peer's in the same run: worse below.
    Ratio,
}

impl Gate {
    /// That compares and writes nothing.
    pub(super) fn check(baseline: &Path) -> Self {
        Self { check: Some(baseline.to_owned()), write_baseline: None }
    }

    /// Reads the baseline, so that a wrong one is told before anything is measured.
    pub(super) fn open(&self, suite: &'static str) -> Result<OpenGate<'_>> {
        let read = |path: &PathBuf| Baseline::read(path, suite);
        let baseline = self.check.as_ref().map(read).transpose()?;
        Ok(OpenGate { gate: self, suite, baseline })
    }
}

impl OpenGate<'_> {
    /// Writes the baseline that is asked for, and fails where figures are worse than the one given.
    pub(super) fn judge(&self, figures: &[Figure]) -> Result<()> {
        if let Some(path) = &self.gate.write_baseline {
            let baseline = Baseline::new(self.suite, command(), figures);
            write_atomic(path, &[&serde_json::to_vec_pretty(&baseline)?[..], b"\n"].concat())?;
            eprintln!("baseline {}", path.display());
        }
        let Some((baseline, path)) = self.baseline.as_ref().zip(self.gate.check.as_deref()) else {
            return Ok(());
        };
        baseline.judge(path, figures)
    }
}

/// The command line of this program, as one types it.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo xtask {}", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::{Baseline, Gate};
    use crate::failure::exit_code;

    #[test]
    fn baseline_of_another_suite_or_schema_or_none_is_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.json");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let gate = Gate { check: Some(path.clone()), ..Gate::default() };
            let error = gate.open("kernels").err().unwrap();
            assert_eq!(exit_code(&error), 2);
            error.to_string()
        };
        let other = Baseline::new("data", String::new(), &[]);
        let other = serde_json::to_string(&other).unwrap();
        assert!(refusal(&other).contains("suite data, this is kernels"));
        assert!(refusal(&other.replace(":1,", ":7,")).contains("schema 7"));
        assert!(refusal("[1").contains("no JSON"));
        assert!(refusal("{\"schema\":1}").contains("damaged"));
        let gate = Gate { check: Some("absent.json".into()), ..Gate::default() };
        assert!(gate.open("kernels").err().unwrap().to_string().contains("absent.json"));
    }
}
