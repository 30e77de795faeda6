//! One run: from weights to a result.

use anyhow::{Result, anyhow};
use s5cl_eval::{ClassificationResult, chance};
use serde_json::{Value, json};

use crate::experiment::with_labels;
use crate::inference::{Predictor, color_knn};
use crate::system::peak_memory_mib;
use crate::training::{Run, Trained};

/// The end of a run.
pub(crate) struct Finished {
    /// The content of `metrics.json`.
    pub(crate) metrics: Value,
    /// The result on test.
    pub(crate) test: ClassificationResult,
    /// What color alone gives there.
    pub(crate) color: ClassificationResult,
}

impl Run<'_> {
    /// Opens the test images, writes `metrics.json` and the report.
    pub(crate) fn finish(&self, trained: &Trained) -> Result<Finished> {
        let Self { experiment, folder, .. } = self;
        let steps = self.config.training.steps;
        let predictor = Predictor::open(&folder.weights())?;
        let opened =
            || folder.append_events()?.append("test-opened", steps, &json!({ "by": "train" }));
        let samples = with_labels(&experiment.dataset, experiment.test.open(opened)?)?;
        let workers = self.options.workers;
        let test = predictor.evaluate(&experiment.dataset, &samples, workers)?;
        let size = self.config.data.image_size;
        let color = color_knn(&experiment.dataset, &experiment.labeled, &samples, size, workers)?;
        folder.append_events()?.append("test", steps, &test)?;
        let metrics = self.metrics(trained, &test, &color)?;
        folder.write_metrics(&metrics)?;
        s5cl_report::write_report(folder.path())?;
        Ok(Finished { metrics, test, color })
    }

    fn metrics(
        &self,
        trained: &Trained,
        test: &ClassificationResult,
        color: &ClassificationResult,
    ) -> Result<Value> {
        let Self { config, experiment, .. } = self;
        let steps: Vec<Value> =
            self.folder.events()?.into_iter().filter(|event| event["kind"] == "train").collect();
        let last = steps.last().ok_or_else(|| anyhow!("the run has no step"))?;
        let (seconds, views) = cost(&steps);
        let n_classes = experiment.dataset.n_classes();
        Ok(json!({
            "schema": 1,
            "version": config.version,
            "method": config.method,
            "preset": config.preset,
            "seed": config.seed,
            "device": "cpu",
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
            "train": {
                "seconds": round(seconds, 2),
                "images_per_second": round(views / seconds, 1),
                "peak_memory_mib": peak_memory_mib(),
                "final_loss": last["total"],
            },
            "baselines": { "chance": chance(n_classes), "color_knn": color.balanced_accuracy },
            "timing": trained.timing,
            "views_share": round(trained.views_share, 3),
            "warnings": self.warnings(color, test),
            "run": self.folder.path().display().to_string(),
        }))
    }

    fn warnings(&self, color: &ClassificationResult, test: &ClassificationResult) -> Vec<String> {
        let mut warnings = self.notes().to_vec();
        if color.balanced_accuracy >= test.balanced_accuracy {
            warnings.push(
                "color alone does as well on the same labels: the result says little about shape"
                    .to_owned(),
            );
        }
        warnings
    }
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
