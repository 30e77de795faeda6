//! The lines of `metrics.jsonl`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::ReportError;

/// What was logged, in the order of the steps.
///
/// A resumed run repeats the steps after its last checkpoint; of two lines of the same kind and
/// step the later one counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    pub(crate) train: BTreeMap<u64, TrainEvent>,
    pub(crate) validation: BTreeMap<u64, ValidationEvent>,
    /// Whether the last line was cut, as a run that was killed leaves it.
    pub(crate) last_line_is_cut: bool,
}

/// One training step. Losses are in nats; a term that the method does not have is absent, and
/// one that was not finite is `null`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TrainEvent {
    pub(crate) total: Option<f64>,
    pub(crate) supervised: Option<f64>,
    pub(crate) unsupervised: Option<f64>,
    pub(crate) classification: Option<f64>,
    pub(crate) supervised_floor: Option<f64>,
    pub(crate) unsupervised_floor: Option<f64>,
    pub(crate) phase: Option<String>,
    /// Share of the step's unlabeled images whose prediction is above the threshold.
    pub(crate) pseudo_accepted: Option<f64>,
    /// Mean confidence of the predictions on unlabeled images.
    pub(crate) pseudo_confidence: Option<f64>,
    /// Share of the accepted pseudo-labels that are the hidden label.
    pub(crate) pseudo_accuracy: Option<f64>,
    /// Accepted pseudo-labels by class.
    pub(crate) pseudo_classes: Option<Vec<u64>>,
}

/// One evaluation on the validation images; fractions in `[0, 1]`, the loss in nats.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ValidationEvent {
    pub(crate) accuracy: Option<f64>,
    pub(crate) balanced_accuracy: Option<f64>,
    pub(crate) macro_f1: Option<f64>,
    pub(crate) loss: Option<f64>,
}

#[derive(Deserialize)]
struct Line {
    step: u64,
    kind: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Events {
    /// Reads all lines; `path` is only named in errors.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ReportError> {
        let mut events = Self::default();
        let mut lines =
            text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
        while let Some((index, line)) = lines.next() {
            match events.push(line) {
                Ok(()) => {}
                Err(_) if lines.peek().is_none() => events.last_line_is_cut = true,
                Err(source) => {
                    return Err(ReportError::Line {
                        path: path.to_owned(),
                        line: index + 1,
                        source,
                    });
                }
            }
        }
        Ok(events)
    }

    /// The first step that used pseudo-labels, if steps without came before it.
    pub(crate) fn pseudo_labels_from(&self) -> Option<u64> {
        let mut phases = self.train.iter().filter_map(|(step, e)| Some((step, e.phase.as_ref()?)));
        let starts_without = phases.next().is_some_and(|(_, phase)| phase != "pseudo");
        phases
            .find(|(_, phase)| *phase == "pseudo")
            .map(|(&step, _)| step)
            .filter(|_| starts_without)
    }

    fn push(&mut self, line: &str) -> Result<(), serde_json::Error> {
        let Line { step, kind, rest } = serde_json::from_str(line)?;
        let rest = serde_json::Value::Object(rest);
        match kind.as_str() {
            "train" => {
                self.train.insert(step, serde_json::from_value(rest)?);
            }
            "validation" => {
                self.validation.insert(step, serde_json::from_value(rest)?);
            }
            // The test's result is in metrics.json; other kinds may come with later versions.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Events, ReportError> {
        Events::parse(text, Path::new("run/metrics.jsonl"))
    }

    #[test]
    fn events_allow_unknown_fields_kinds_and_absent_terms() {
        let events = parse(
            "{\"step\":0,\"kind\":\"train\",\"total\":1.5,\"classification\":null,\"new\":[1]}\n\n\
             {\"step\":0,\"kind\":\"future\"}\n\
             {\"step\":1,\"kind\":\"validation\",\"accuracy\":0.5}\n",
        )
        .unwrap();
        assert_eq!(events.train[&0].total, Some(1.5));
        assert_eq!(events.train[&0].classification, None);
        assert_eq!(events.validation[&1].accuracy, Some(0.5));
        assert!(!events.last_line_is_cut);
    }

    #[test]
    fn events_tolerate_a_cut_last_line_only() {
        let whole = "{\"step\":0,\"kind\":\"train\",\"total\":1.5}\n";
        let events = parse(&format!("{whole}{{\"step\":1,\"ki")).unwrap();
        assert!(events.last_line_is_cut && events.train.len() == 1);
        let error = parse(&format!("{{\"step\":1,\"ki\n{whole}")).unwrap_err().to_string();
        assert!(error.starts_with("line 1 of run/metrics.jsonl"), "{error}");
    }

    #[test]
    fn events_of_a_resumed_run_keep_the_later_line() {
        let line = |total: f64| format!("{{\"step\":7,\"kind\":\"train\",\"total\":{total}}}\n");
        let events = parse(&(line(2.0) + &line(3.0))).unwrap();
        assert_eq!(events.train[&7].total, Some(3.0));
    }

    #[test]
    fn events_know_when_the_pseudo_labels_take_over() {
        let line = |step: u64, phase: &str| {
            format!("{{\"step\":{step},\"kind\":\"train\",\"phase\":\"{phase}\"}}\n")
        };
        let from = |text: String| parse(&text).unwrap().pseudo_labels_from();
        assert_eq!(from(line(0, "instance") + &line(5, "pseudo") + &line(6, "pseudo")), Some(5));
        assert_eq!(from(line(0, "pseudo") + &line(1, "pseudo")), None);
        assert_eq!(from(line(0, "instance")), None);
    }
}
