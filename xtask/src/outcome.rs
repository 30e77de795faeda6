//! One run: from weights to a result.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use s5cl_eval::{ClassificationResult, chance};
use s5cl_kernels::device_memory;
use serde_json::{Value, json};

use crate::evaluation::{Details, Drawing, Part, Parts, shortcuts, some_labeled, some_unlabeled};
use crate::experiment::with_labels;
use crate::inference::Predictor;
use crate::run_folder::SCHEMA;
use crate::system::peak_memory_mib;
use crate::training::{Run, Trained};

/// Neighbors of the baselines that see no shape.
const SHORTCUT_NEIGHBORS: usize = 5;

/// The end of a run.
pub(crate) struct Finished {
    /// The content of `metrics.json`.
    pub(crate) metrics: Value,
    /// The result on test.
    pub(crate) test: ClassificationResult,
    /// What is reached there without looking at shapes, by key.
    pub(crate) shortcuts: [(&'static str, ClassificationResult); 2],
}

impl Run<'_> {
    /// Opens the test images, and writes `predictions.csv`, `metrics.json` and the report; with
    /// `details` also `evaluation.json`, which takes seconds more.
    pub(crate) fn finish(&self, mut trained: Trained, details: bool) -> Result<Finished> {
        let Self { experiment, folder, .. } = self;
        let steps = self.config.training.steps;
        let predictor = Predictor::open(&folder.weights(), &self.options.device)?;
        let opened =
            || folder.append_events()?.append("test-opened", steps, &json!({ "by": "train" }));
        let samples = with_labels(&experiment.dataset, experiment.test.open(opened)?)?;
        let (workers, size) = (self.options.workers, self.config.data.image_size);
        let part = Part::labeled(&predictor, &experiment.dataset, &samples, workers)?;
        let judged = part.judged(&predictor.card.class_names);
        let test = judged.result()?;
        let shortcuts = shortcuts(
            &experiment.dataset,
            &experiment.labeled,
            &samples,
            size,
            SHORTCUT_NEIGHBORS,
            workers,
        )?;
        judged.write(&folder.predictions())?;
        let mut warnings = self.experiment.warnings.clone();
        warnings.extend(shortcut_warnings(&test, &shortcuts));
        if details {
            let details = self.details(&predictor, part)?;
            warnings.extend(details.warning());
            folder.write_evaluation(&details)?;
        }
        trained.journal.test(steps, &test)?;
        let metrics = self.metrics(&trained, &test, &shortcuts, &warnings)?;
        folder.write_metrics(&metrics)?;
        s5cl_report::write_report(folder.path())?;
        Ok(Finished { metrics, test, shortcuts })
    }

    /// What the report shows beyond the figures.
    fn details(&self, predictor: &Predictor, test: Part) -> Result<Details> {
        let Self { config, experiment, .. } = self;
        let (dataset, workers, seed) = (&experiment.dataset, self.options.workers, config.seed);
        let labeled = some_labeled(experiment.labeled.len(), seed).into_iter();
        let labeled: Vec<_> = labeled.map(|i| experiment.labeled[i]).collect();
        let labeled = Part::labeled(predictor, dataset, &labeled, workers)?;
        let validation = with_labels(dataset, &experiment.validation)?;
        let validation = (!validation.is_empty())
            .then(|| Part::labeled(predictor, dataset, &validation, workers))
            .transpose()?;
        let chosen = some_unlabeled(experiment.unlabeled.len(), seed);
        let hidden_label = |sample_idx: usize| (sample_idx, dataset.samples[sample_idx].class_idx);
        let unlabeled: Vec<_> =
            chosen.into_iter().map(|i| hidden_label(experiment.unlabeled[i])).collect();
        let unlabeled = (!unlabeled.is_empty())
            .then(|| Part::new(predictor, dataset, &unlabeled, workers))
            .transpose()?;
        let drawing = Drawing {
            dataset,
            size: config.data.image_size,
            maker: &self.maker,
            pseudo_threshold: config.loss.pseudo_threshold,
            seed,
            workers,
        };
        let parts = Parts { test, labeled, validation, unlabeled };
        Details::new(&predictor.card.class_names, &parts, &drawing)
    }

    fn metrics(
        &self,
        trained: &Trained,
        test: &ClassificationResult,
        shortcuts: &[(&'static str, ClassificationResult)],
        warnings: &[String],
    ) -> Result<Value> {
        let Self { config, experiment, .. } = self;
        let steps: Vec<Value> =
            self.folder.events()?.into_iter().filter(|event| event["kind"] == "train").collect();
        let last = steps.last().ok_or_else(|| anyhow!("the run has no step"))?;
        let (seconds, views) = cost(&steps);
        let n_classes = experiment.dataset.n_classes();
        let mut train = json!({
            "seconds": round(seconds, 2),
            "images_per_second": round(views / seconds, 1),
            "peak_memory_mib": peak_memory_mib(),
            "final_loss": last["total"],
        });
        if let Some(memory) = device_memory(&self.options.device.tensors)? {
            train["peak_device_memory_mib"] = json!(memory.peak >> 20);
        }
        let mut baselines = BTreeMap::from([("chance", chance(n_classes))]);
        baselines.extend(shortcuts.iter().map(|(key, result)| (*key, result.balanced_accuracy)));
        Ok(json!({
            "schema": SCHEMA,
            "version": config.version,
            "method": config.method,
            "preset": config.preset,
            "seed": config.seed,
            "device": self.options.device.name,
            "precision": self.precision.to_string(),
            "steps": config.training.steps,
            "dataset": {
                "name": experiment.dataset.name,
                "n_classes": n_classes,
                "n_labeled": experiment.labeled.len(),
                "n_unlabeled": experiment.unlabeled.len(),
                "n_validation": experiment.validation.len(),
                "n_test": experiment.test.len(),
            },
            "test": test,
            "validation": trained.validation,
            "train": train,
            "baselines": baselines,
            "timing": trained.timing,
            "views_share": round(trained.views_share, 3),
            "warnings": warnings,
            "notes": self.notes(),
            "run": self.folder.path().display().to_string(),
        }))
    }
}

/// Whether the images can be told apart as well without looking at shapes.
fn shortcut_warnings(
    test: &ClassificationResult,
    shortcuts: &[(&'static str, ClassificationResult); 2],
) -> Vec<String> {
    let names = ["color alone", "8 x 8 pixels alone"];
    let as_good = names
        .into_iter()
        .zip(shortcuts)
        .filter(|(_, (_, shortcut))| shortcut.balanced_accuracy >= test.balanced_accuracy);
    let warning = |(name, _)| {
        format!(
            "shortcut: {name} does as well or better on the same labels: the result says little about shape"
        )
    };
    as_good.map(warning).collect()
}

/// Seconds and images of all steps, both views counted; the events hold those of a run that was
/// interrupted too.
fn cost(steps: &[Value]) -> (f64, f64) {
    let (mut seconds, mut views) = (0.0, 0.0);
    for step in steps {
        views += step["n_views"].as_f64().unwrap_or(0.0);
        seconds += step["seconds"].as_f64().unwrap_or(0.0);
    }
    (seconds, views)
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
