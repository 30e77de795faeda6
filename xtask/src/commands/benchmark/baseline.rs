//! What a suite is expected to give: the file, and how a figure stands to it.

use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::figure::{Figure, Kind};
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
const RATIO_TOLERANCE: f64 = 0.7;

/// The file: which suite, the command that made it, what it measured, what is expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    schema: u64,
    suite: String,
    command: String,
    /// What the figures are of: their data, steps and settings. The names of the figures say the
    /// rest.
    measured: Value,
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

impl Baseline {
    pub(super) fn new(suite: &str, command: String, measured: Value, figures: &[Figure]) -> Self {
        let figures = figures.iter().map(Expected::of).collect();
        Self { schema: SCHEMA, suite: suite.to_owned(), command, measured, figures }
    }

    /// Reads one of this suite, and of what will be measured; more than it has may be.
    pub(super) fn read(path: &Path, suite: &str, measured: &Value) -> Result<Self> {
        let refused = |what: String| BadInput::new(format!("baseline {}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| refused(e.to_string()))?;
        let value: Value =
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
        if baseline.figures.is_empty() {
            return Err(refused("it has no figures".to_owned()).into());
        }
        if let Some(what) = difference("", &baseline.measured, measured) {
            return Err(refused(format!("it is of something else: {what}")).into());
        }
        Ok(baseline)
    }

    /// Whether a ratio of speeds among these fell by more than its tolerance.
    pub(super) fn has_slower(&self, figures: &[Figure]) -> bool {
        let fell = |figure: &Figure| {
            let expected = self.figures.iter().find(|expected| expected.name() == figure.name);
            let is_ratio = figure.kind == Kind::Ratio;
            let standing = expected.filter(|_| is_ratio).map(|of| of.judge(figure.value));
            matches!(standing, Some(Standing::Worse(_)))
        };
        figures.iter().any(fell)
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

/// The first thing of what a baseline measured that is not so here. `place` names both.
fn difference(place: &str, expected: &Value, found: &Value) -> Option<String> {
    if let (Value::Object(expected), Value::Object(found)) = (expected, found) {
        return expected.iter().find_map(|(key, expected)| {
            let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
            difference(&place, expected, found.get(key).unwrap_or(&Value::Null))
        });
    }
    (expected != found).then(|| format!("its {place} is {expected}, here it is {found}"))
}

/// To four digits behind the point, so that a baseline can be read.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use s5cl_eval::Interval;
    use serde_json::{Value, json};

    use super::{Baseline, Expected, Figure, Kind, difference};
    use crate::failure::exit_code;

    const SEEDS: Kind =
        Kind::Accuracy { n_seeds: 5, interval: Some(Interval { low: 0.7, high: 0.9 }) };
    const NARROW: Option<Interval> = Some(Interval { low: 0.79, high: 0.81 });

    fn figure(kind: Kind, value: f64) -> Figure {
        Figure { name: "it".to_owned(), kind, value }
    }

    /// What the gate says of a value where another one was expected.
    fn judged(kind: Kind, expected: f64, value: f64) -> anyhow::Result<()> {
        let baseline = Baseline::new("test", String::new(), Value::Null, &[figure(kind, expected)]);
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
        assert!(judged(Kind::Ratio, 10.0, 3.1).is_ok());
        assert!(judged(Kind::Ratio, 10.0, 90.0).is_ok());
        let message = judged(Kind::Ratio, 10.0, 2.0).unwrap_err().to_string();
        assert!(message.contains("fell by 80 %, more than 70 %"), "{message}");
        assert!(judged(Kind::Ratio, 10.0, f64::NAN).is_err());
    }

    #[test]
    fn baseline_that_was_not_measured_is_bad_input() {
        let figures = [figure(Kind::Ratio, 2.0)];
        let baseline = Baseline::new("test", String::new(), Value::Null, &figures);
        let error = baseline.judge(Path::new("b.json"), &[]).unwrap_err();
        assert_eq!((exit_code(&error), error.to_string().contains("it")), (2, true));
    }

    #[test]
    fn difference_names_the_place_and_lets_more_be_measured() {
        let expected = json!({ "steps": 600, "data": { "spec": "a" } });
        let with = |spec: &str| json!({ "steps": 600, "data": { "spec": spec }, "more": 1 });
        assert_eq!(difference("", &expected, &with("a")), None);
        let found = difference("", &expected, &with("b"));
        assert_eq!(found.as_deref(), Some("its data.spec is \"a\", here it is \"b\""));
        let found = difference("", &expected, &json!({ "data": { "spec": "a" } }));
        assert_eq!(found.as_deref(), Some("its steps is 600, here it is null"));
    }
}
