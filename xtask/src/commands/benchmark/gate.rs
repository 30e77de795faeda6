//! The regression gate: figures of a suite against a baseline that lies in the repository.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use s5cl_eval::Interval;
use s5cl_trainer::write_atomic;
use serde::{Deserialize, Serialize};

use crate::failure::BadInput;

/// Raised when the fields of a baseline mean something else.
const SCHEMA: u64 = 1;
/// Instructions that differ between machines round sums differently, and a training doubles such a
/// difference many times; a seed's result then moves by about so much, whatever the seeds say.
const MACHINES: f64 = 0.02;
/// Stands for the interval over seeds where there are too few of them for one.
const FEW_SEEDS_TOLERANCE: f64 = 0.08;
/// From so many seeds on, an interval over them says more than the tolerance above.
const SEEDS_FOR_INTERVAL: usize = 4;
/// Between two ways to the same value, which differ in the order of their sums.
const SAME_TOLERANCE: f64 = 1e-3;
/// Two sides of a ratio never suffer equally from whatever else a machine does, and another
/// machine has other instructions.
const RATIO_TOLERANCE: f64 = 0.6;

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

/// The file: which suite, the command that made it, what is expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    schema: u64,
    suite: String,
    command: String,
    figures: Vec<Expected>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Expected {
    Accuracy { name: String, mean: f64, low: f64, high: f64 },
    Same { name: String, ratio: f64, tolerance: f64 },
    Ratio { name: String, ratio: f64, tolerance: f64 },
}

/// How one figure stands to what was expected.
enum Standing {
    /// With what there is to tell.
    Good(String),
    /// Which, and by how much.
    Worse(String),
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

impl Baseline {
    pub(super) fn new(suite: &str, command: String, figures: &[Figure]) -> Self {
        let figures = figures.iter().map(Expected::of).collect();
        Self { schema: SCHEMA, suite: suite.to_owned(), command, figures }
    }

    fn read(path: &Path, suite: &str) -> Result<Self> {
        let refused = |what: String| BadInput::new(format!("baseline {}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| refused(e.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| refused(format!("no JSON: {e}")))?;
        // What another schema holds cannot be parsed as this one.
        let found = &value["schema"];
        if found.as_u64() != Some(SCHEMA) {
            return Err(refused(format!("schema {found}, this program knows {SCHEMA}")).into());
        }
        let baseline: Self =
            serde_json::from_value(value).map_err(|e| refused(format!("damaged: {e}")))?;
        if baseline.suite != suite {
            let what = format!("it is of the suite {}, this is {suite}", baseline.suite);
            return Err(refused(what).into());
        }
        Ok(baseline)
    }

    /// Prints every comparison, then fails with those that are worse.
    pub(super) fn judge(&self, path: &Path, figures: &[Figure]) -> Result<()> {
        let found = |expected: &Expected| {
            figures.iter().find(|figure| figure.name == expected.name()).map(|figure| figure.value)
        };
        let absent: Vec<&str> = self
            .figures
            .iter()
            .filter(|expected| found(expected).is_none())
            .map(Expected::name)
            .collect();
        if !absent.is_empty() {
            let message =
                format!("baseline {}: not measured here: {}", path.display(), absent.join("; "));
            return Err(BadInput::new(message).into());
        }
        let mut worse = Vec::new();
        for (expected, value) in self.figures.iter().filter_map(|e| Some((e, found(e)?))) {
            match expected.judge(value) {
                Standing::Good(line) => eprintln!("  good   {line}"),
                Standing::Worse(line) => {
                    eprintln!("  WORSE  {line}");
                    worse.push(line);
                }
            }
        }
        if !worse.is_empty() {
            let of = format!("{} of {} figures", worse.len(), self.figures.len());
            bail!("{of} are not as in the baseline {}: {}", path.display(), worse.join("; "));
        }
        eprintln!("all {} figures are as in the baseline {}", self.figures.len(), path.display());
        Ok(())
    }
}

impl Expected {
    /// What is expected from now on where this was measured.
    fn of(figure: &Figure) -> Self {
        let (name, mean) = (figure.name.clone(), round(figure.value));
        match figure.kind {
            Kind::Accuracy { n_seeds, interval } => {
                let interval = interval.filter(|_| n_seeds >= SEEDS_FOR_INTERVAL);
                let [low, high] = interval.map_or(
                    [mean - FEW_SEEDS_TOLERANCE, mean + FEW_SEEDS_TOLERANCE],
                    <[f64; 2]>::from,
                );
                let (low, high) = (low.min(mean - MACHINES), high.max(mean + MACHINES));
                Self::Accuracy { name, mean, low: round(low), high: round(high) }
            }
            Kind::Same => Self::Same { name, ratio: mean, tolerance: SAME_TOLERANCE },
            Kind::Ratio => Self::Ratio { name, ratio: mean, tolerance: RATIO_TOLERANCE },
        }
    }

    fn name(&self) -> &str {
        let (Self::Accuracy { name, .. } | Self::Same { name, .. } | Self::Ratio { name, .. }) =
            self;
        name
    }

    fn judge(&self, value: f64) -> Standing {
        match self {
            Self::Accuracy { name, mean, low, high } => {
                let line = format!("{name}: {value:.3}, baseline {mean:.3} [{low:.3}, {high:.3}]");
                // A figure that is no number is below every end.
                if value >= *low {
                    let above = if value > *high { ", better than its interval" } else { "" };
                    return Standing::Good(line + above);
                }
                Standing::Worse(format!("{line}, below its low end by {:.3}", low - value))
            }
            Self::Same { name, ratio, tolerance } => {
                let line = format!("{name}: {value:.4}, baseline {ratio:.4}");
                let by = (value - ratio).abs();
                // A figure that is no number is as far as can be.
                if by <= *tolerance {
                    return Standing::Good(line);
                }
                Standing::Worse(format!("{line}, off by {by:.4}, more than {tolerance}"))
            }
            Self::Ratio { name, ratio, tolerance } => {
                let fell = 100.0 * (1.0 - value / ratio);
                let (most, times) = (100.0 * tolerance, format!("{value:.2}x"));
                let line = format!("{name}: {times}, baseline {ratio:.2}x");
                if value >= ratio * (1.0 - tolerance) {
                    return Standing::Good(line);
                }
                Standing::Worse(format!("{line}, fell by {fell:.0} %, more than {most:.0} %"))
            }
        }
    }
}

/// The command line of this program, as one types it.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo xtask {}", arguments.join(" "))
}

/// To four digits behind the point, so that a baseline can be read.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use s5cl_eval::Interval;

    use super::{Baseline, Expected, Figure, Gate, Kind};
    use crate::failure::exit_code;

    const SEEDS: Kind =
        Kind::Accuracy { n_seeds: 5, interval: Some(Interval { low: 0.7, high: 0.9 }) };
    const NARROW: Option<Interval> = Some(Interval { low: 0.79, high: 0.81 });

    fn figure(kind: Kind, value: f64) -> Figure {
        Figure { name: "it".to_owned(), kind, value }
    }

    /// What the gate says of a value where another one was expected.
    fn judged(kind: Kind, expected: f64, value: f64) -> anyhow::Result<()> {
        let baseline = Baseline::new("test", String::new(), &[figure(kind, expected)]);
        baseline.judge(Path::new("b.json"), &[figure(kind, value)])
    }

    #[test]
    fn accuracy_fails_below_its_interval_alone() {
        assert!(judged(SEEDS, 0.8, 0.701).is_ok());
        assert!(judged(SEEDS, 0.8, 0.95).is_ok());
        assert!(judged(SEEDS, 0.8, f64::NAN).is_err());
        let error = judged(SEEDS, 0.8, 0.6).unwrap_err();
        assert_eq!(exit_code(&error), 1);
        let message = error.to_string();
        assert!(message.contains("it: 0.600") && message.contains("by 0.100"), "{message}");
    }

    #[test]
    fn accuracy_of_few_seeds_has_the_tolerance_and_many_at_least_that_of_machines() {
        let few = Kind::Accuracy { n_seeds: 2, interval: NARROW };
        let low = |kind| match Expected::of(&figure(kind, 0.8)) {
            Expected::Accuracy { low, .. } => low,
            other => panic!("{other:?}"),
        };
        assert_eq!(low(few), 0.72);
        assert_eq!(low(Kind::Accuracy { n_seeds: 9, interval: NARROW }), 0.78);
        assert_eq!(low(SEEDS), 0.7);
    }

    #[test]
    fn same_fails_on_both_sides() {
        assert!(judged(Kind::Same, 1.0, 1.0005).is_ok());
        assert!(judged(Kind::Same, 1.0, 1.002).is_err());
        assert!(judged(Kind::Same, 1.0, 0.998).is_err());
        assert!(judged(Kind::Same, 1.0, f64::NAN).is_err());
    }

    #[test]
    fn ratio_fails_below_its_tolerance_alone() {
        assert!(judged(Kind::Ratio, 10.0, 5.1).is_ok());
        assert!(judged(Kind::Ratio, 10.0, 90.0).is_ok());
        let message = judged(Kind::Ratio, 10.0, 4.0).unwrap_err().to_string();
        assert!(message.contains("fell by 60 %, more than 50 %"), "{message}");
        assert!(judged(Kind::Ratio, 10.0, f64::NAN).is_err());
    }

    #[test]
    fn baseline_that_was_not_measured_is_bad_input() {
        let baseline = Baseline::new("test", String::new(), &[figure(Kind::Ratio, 2.0)]);
        let error = baseline.judge(Path::new("b.json"), &[]).unwrap_err();
        assert_eq!((exit_code(&error), error.to_string().contains("it")), (2, true));
    }

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
