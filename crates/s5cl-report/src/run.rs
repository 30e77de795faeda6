//! A run folder as plain data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::ReportError;
use crate::evaluation::Evaluation;
use crate::events::Events;
use crate::files::{parse_json, read, read_versioned};

/// The version of `metrics.json` that is read here.
const SCHEMA: u64 = 1;

/// What a report is made from: the files of one run folder, read and checked.
#[derive(Clone, Debug)]
pub struct Run {
    /// `config.toml`, as it is.
    pub(crate) config: String,
    /// Whether the weights were picked by their validation result.
    pub(crate) selects_best: bool,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) split: Split,
    /// `evaluation.json`, where the run was evaluated further.
    pub(crate) evaluation: Option<Evaluation>,
}

/// `metrics.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Metrics {
    pub(crate) method: String,
    pub(crate) preset: Option<String>,
    pub(crate) seed: u64,
    pub(crate) device: Option<String>,
    pub(crate) steps: u64,
    pub(crate) dataset: Dataset,
    #[serde(default)]
    pub(crate) test: Test,
    #[serde(default)]
    pub(crate) train: Cost,
    #[serde(default)]
    pub(crate) baselines: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    pub(crate) timing: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    pub(crate) run: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Dataset {
    pub(crate) name: String,
    pub(crate) n_classes: u64,
    #[serde(default)]
    pub(crate) n_labeled: u64,
    #[serde(default)]
    pub(crate) n_unlabeled: u64,
    #[serde(default)]
    pub(crate) n_validation: u64,
    #[serde(default)]
    pub(crate) n_test: u64,
}

/// Fractions in `[0, 1]`; the loss in nats. What is absent or not finite is `None`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Test {
    pub(crate) accuracy: Option<f64>,
    pub(crate) balanced_accuracy: Option<f64>,
    pub(crate) macro_f1: Option<f64>,
    pub(crate) weighted_f1: Option<f64>,
    pub(crate) micro_f1: Option<f64>,
    pub(crate) kappa: Option<f64>,
    pub(crate) quadratic_kappa: Option<f64>,
    pub(crate) mcc: Option<f64>,
    /// By the number of classes that may be named.
    pub(crate) top_k: BTreeMap<String, Option<f64>>,
    pub(crate) auroc: Option<f64>,
    pub(crate) average_precision: Option<f64>,
    pub(crate) loss: Option<f64>,
    pub(crate) brier: Option<f64>,
    pub(crate) ece: Option<f64>,
    /// By the name of the number they surround; of 95 %.
    pub(crate) intervals: BTreeMap<String, Option<Interval>>,
    pub(crate) per_class: Vec<Class>,
    /// Counts, one row a true class, one column a predicted class.
    pub(crate) confusion: Vec<Vec<u64>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) recall: Option<f64>,
    pub(crate) precision: Option<f64>,
    pub(crate) f1: Option<f64>,
    #[serde(default)]
    pub(crate) support: u64,
    pub(crate) auroc: Option<f64>,
    pub(crate) average_precision: Option<f64>,
    /// Of 95 %.
    pub(crate) recall_interval: Option<Interval>,
}

/// The two ends of an interval; an end that was not finite is `None`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Interval(Option<f64>, Option<f64>);

impl Interval {
    /// Low and high, where both are known and in order.
    pub(crate) fn ends(self) -> Option<(f64, f64)> {
        self.0.zip(self.1).filter(|(low, high)| low <= high)
    }
}

/// What the training took.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cost {
    pub(crate) seconds: Option<f64>,
    pub(crate) images_per_second: Option<f64>,
    pub(crate) peak_memory_mib: Option<f64>,
}

/// `split.json`, without the images themselves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Split {
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) hash: Option<String>,
}

impl Run {
    /// Reads `config.toml`, `metrics.jsonl`, `metrics.json` and, where they exist, `split.json` and
    /// `evaluation.json`.
    ///
    /// Unknown fields are ignored. The last line of `metrics.jsonl` may be cut, as a killed run
    /// leaves it.
    ///
    /// # Errors
    ///
    /// When one of the first three files is absent, a file is malformed, `metrics.json` or
    /// `evaluation.json` has another schema, or their parts do not fit together.
    pub fn read(run_dir: &Path) -> Result<Self, ReportError> {
        let config_path = run_dir.join("config.toml");
        let config = read(&config_path)?;
        let table: toml::Table = config.parse().map_err(|error: toml::de::Error| {
            let message = error.message().replace('\n', " ");
            ReportError::Toml { path: config_path, message }
        })?;
        let select = table.get("evaluation").and_then(|evaluation| evaluation.get("select"));

        let events_path = run_dir.join("metrics.jsonl");
        let events = Events::parse(&read(&events_path)?, &events_path)?;

        let split_path = run_dir.join("split.json");
        let split = if split_path.exists() {
            parse_json(&read(&split_path)?, &split_path)?
        } else {
            Split::default()
        };

        let metrics = Metrics::read(&run_dir.join("metrics.json"))?;
        let evaluation_path = run_dir.join("evaluation.json");
        let evaluation = if evaluation_path.exists() {
            let classes = metrics.test.per_class.iter().map(|class| class.name.as_str());
            Some(Evaluation::read(&evaluation_path, &classes.collect::<Vec<&str>>())?)
        } else {
            None
        };

        Ok(Self {
            selects_best: select.and_then(toml::Value::as_str) == Some("best"),
            config,
            events,
            metrics,
            split,
            evaluation,
        })
    }

    /// Names from the table of classes, else from `evaluation.json`; without both, class indices.
    pub(crate) fn class_names(&self) -> Vec<String> {
        let test = &self.metrics.test;
        if !test.per_class.is_empty() {
            return test.per_class.iter().map(|class| class.name.clone()).collect();
        }
        let evaluated = self.evaluation.as_ref().map(|evaluation| &evaluation.class_names);
        if let Some(names) = evaluated.filter(|names| !names.is_empty()) {
            return names.clone();
        }
        let n_classes = test.confusion.len().max(self.metrics.dataset.n_classes as usize);
        (0..n_classes).map(|class_idx| class_idx.to_string()).collect()
    }
}

impl Metrics {
    fn read(path: &Path) -> Result<Self, ReportError> {
        let metrics: Self = read_versioned(path, SCHEMA)?;
        metrics.test.check(path)?;
        Ok(metrics)
    }
}

impl Test {
    fn check(&self, path: &Path) -> Result<(), ReportError> {
        let n_rows = self.confusion.len();
        let inconsistent =
            |what: String| Err(ReportError::Inconsistent { path: path.to_owned(), what });
        if let Some(row) = self.confusion.iter().find(|row| row.len() != n_rows) {
            let n = row.len();
            return inconsistent(format!("test.confusion has {n_rows} rows but one of length {n}"));
        }
        let n_classes = self.per_class.len();
        if n_rows > 0 && n_classes > 0 && n_rows != n_classes {
            return inconsistent(format!(
                "test.confusion has {n_rows} rows but test.per_class has {n_classes} entries"
            ));
        }
        Ok(())
    }
}
