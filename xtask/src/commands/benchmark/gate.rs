//! The regression gate: figures of a suite against a baseline that lies in the repository.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use s5cl_trainer::write_atomic;
use serde_json::Value;

use super::baseline::Baseline;
use super::figure::{Figure, Kind};
use crate::failure::BadInput;

/// Times that a ratio is measured until it is believed.
const MOST_ATTEMPTS: u32 = 3;

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
    measured: Value,
    baseline: Option<Baseline>,
}

impl Gate {
    /// That compares and writes nothing.
    pub(super) fn check(baseline: &Path) -> Self {
        Self { check: Some(baseline.to_owned()), write_baseline: None }
    }

    /// Reads the baseline and looks at the place of a new one, so that what is wrong is told before
    /// anything is measured. `measured` is what decides on the figures beside the program itself: a
    /// baseline of something else says nothing about them.
    pub(super) fn open(&self, suite: &'static str, measured: Value) -> Result<OpenGate<'_>> {
        let read = |path: &PathBuf| Baseline::read(path, suite, &measured);
        let baseline = self.check.as_ref().map(read).transpose()?;
        if let Some(path) = &self.write_baseline {
            require_place("--write-baseline", path)?;
        }
        Ok(OpenGate { gate: self, suite, measured, baseline })
    }
}

/// Fails when a file cannot be written at a place that a flag names.
pub(super) fn require_place(flag: &str, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let what = match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => format!("there is no folder {}", folder.display()),
        None if path.is_dir() => "it is a folder".to_owned(),
        None => return Ok(()),
    };
    Err(BadInput::new(format!("{flag} {}: {what}", path.display())).into())
}

impl OpenGate<'_> {
    /// Measures, and again where a ratio of speeds fell too far: something else that the machine
    /// does for a moment slows the two sides unequally, and what is slow stays slow. Of each ratio
    /// the best counts.
    pub(super) fn steady<T>(
        &self,
        mut measure: impl FnMut() -> Result<(T, Vec<Figure>)>,
    ) -> Result<(T, Vec<Figure>)> {
        let (mut value, mut best) = measure()?;
        let Some(baseline) = &self.baseline else { return Ok((value, best)) };
        for _ in 1..MOST_ATTEMPTS {
            if !baseline.has_slower(&best) {
                break;
            }
            eprintln!("a ratio fell too far: measuring once more");
            let (again, figures) = measure()?;
            value = again;
            for (best, figure) in best.iter_mut().zip(figures) {
                if best.kind == Kind::Ratio && figure.value > best.value {
                    *best = figure;
                }
            }
        }
        Ok((value, best))
    }

    /// Writes the baseline that is asked for, and fails where figures are worse than the one given.
    pub(super) fn judge(&self, figures: &[Figure]) -> Result<()> {
        if let Some(path) = &self.gate.write_baseline {
            if figures.is_empty() {
                let message = "--write-baseline: nothing was measured that a baseline can hold";
                return Err(BadInput::new(message).into());
            }
            if let Some(figure) = figures.iter().find(|figure| !figure.value.is_finite()) {
                bail!("no baseline is written: {} is no number", figure.name);
            }
            let measured = self.measured.clone();
            let baseline = Baseline::new(self.suite, command(), measured, figures);
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
    let arguments: Vec<String> =
        std::env::args().skip(1).map(|argument| quoted(&argument)).collect();
    format!("cargo xtask {}", arguments.join(" "))
}

/// An argument as a shell takes it for one.
fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Baseline, Figure, Gate, Kind, OpenGate, quoted};
    use crate::failure::exit_code;

    #[test]
    fn ratio_that_fell_is_measured_again_and_fails_if_it_stays_there() {
        let figure = |value| Figure { name: "speed".into(), kind: Kind::Ratio, value };
        let baseline = Baseline::new("test", String::new(), Value::Null, &[figure(10.0)]);
        let gate = Gate::default();
        let baseline = Some(baseline);
        let gate = OpenGate { gate: &gate, suite: "test", measured: Value::Null, baseline };
        let measured = |speeds: &[f64]| {
            let mut calls = speeds.iter();
            let mut measure = || Ok(((), vec![figure(*calls.next().unwrap())]));
            let (_, found) = gate.steady(&mut measure).unwrap();
            (found[0].value, calls.len())
        };
        assert_eq!(measured(&[9.0, 99.0]), (9.0, 1), "a good one is believed");
        assert_eq!(measured(&[1.0, 8.0, 99.0]), (8.0, 1), "a bad one is not");
        assert_eq!(measured(&[1.0, 2.0, 1.5, 99.0]), (2.0, 1), "until it was bad three times");
    }

    #[test]
    fn baseline_of_another_suite_or_schema_or_none_is_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.json");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let gate = Gate { check: Some(path.clone()), ..Gate::default() };
            let error = gate.open("kernels", json!({ "rows": 1 })).err().unwrap();
            assert_eq!(exit_code(&error), 2);
            error.to_string()
        };
        let written = |suite: &str, rows: u32, figures: &[Figure]| {
            let baseline = Baseline::new(suite, String::new(), json!({ "rows": rows }), figures);
            serde_json::to_string(&baseline).unwrap()
        };
        let other = written("data", 1, &[]);
        assert!(refusal(&other).contains("suite data, this is kernels"));
        assert!(refusal(&other.replace(":1,", ":7,")).contains("schema 7"));
        assert!(refusal(&written("kernels", 1, &[])).contains("no figures"));
        let figure = Figure { name: "it".to_owned(), kind: Kind::Ratio, value: 2.0 };
        assert!(refusal(&written("kernels", 2, &[figure])).contains("its rows is 2, here it is 1"));
        assert!(refusal("[1").contains("no JSON"));
        assert!(refusal("{\"schema\":1}").contains("damaged"));
        let gate = Gate { check: Some("absent.json".into()), ..Gate::default() };
        let error = gate.open("kernels", Value::Null).err().unwrap();
        assert!(error.to_string().contains("absent.json"));
    }

    #[test]
    fn baseline_without_a_place_or_figures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let gate =
            |path: &str| Gate { write_baseline: Some(folder.path().join(path)), ..Gate::default() };
        let (nowhere, here, fine) = (gate("absent/b.json"), gate(""), gate("b.json"));
        let refusal = |gate: &Gate| {
            let error = gate.open("kernels", Value::Null).err().unwrap();
            assert_eq!(exit_code(&error), 2);
            error.to_string()
        };
        assert!(refusal(&nowhere).contains("there is no folder"));
        assert!(refusal(&here).contains("it is a folder"));
        let error = fine.open("kernels", Value::Null).unwrap().judge(&[]).unwrap_err();
        assert_eq!((exit_code(&error), folder.path().join("b.json").exists()), (2, false));
    }

    #[test]
    fn command_can_be_typed_again() {
        assert_eq!(quoted("--set"), "--set");
        assert_eq!(quoted("views.weak=[\"flip\"]"), "'views.weak=[\"flip\"]'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
