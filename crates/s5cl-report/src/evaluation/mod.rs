//! `evaluation.json`: what is known of a run beyond its metrics. Every section may be absent.

use std::path::Path;

use serde::Deserialize;

use crate::error::ReportError;
use crate::files::read_versioned;

mod pictures;

pub(crate) use pictures::{Atlas, Mistake, Panel, Picture, Sheet, Views};

/// The version of `evaluation.json` that is read here.
const SCHEMA: u64 = 1;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Evaluation {
    pub(crate) class_names: Vec<String>,
    pub(crate) calibration: Option<Calibration>,
    pub(crate) coverage: Option<Coverage>,
    pub(crate) conformal: Vec<Conformal>,
    pub(crate) representation: Option<Representation>,
    pub(crate) retrieval: Option<Retrieval>,
    pub(crate) parents: Option<Parents>,
    pub(crate) cost: Option<MistakeCost>,
    pub(crate) thumbnails: Option<Sheet>,
    pub(crate) atlas: Option<Atlas>,
    pub(crate) panels: Vec<Panel>,
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) views: Option<Views>,
}

/// How far the confidence can be believed, as trained and at the fitted temperature.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Calibration {
    pub(crate) temperature: Option<f64>,
    pub(crate) ece: Option<f64>,
    pub(crate) ece_calibrated: Option<f64>,
    pub(crate) fitted_on: Option<String>,
    pub(crate) bins: Vec<ReliabilityBin>,
    pub(crate) bins_calibrated: Vec<ReliabilityBin>,
}

/// The images whose confidence is from `low` to `high`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ReliabilityBin {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) n: u64,
    /// Means over the images; `None` in a bin without any.
    pub(crate) confidence: Option<f64>,
    pub(crate) accuracy: Option<f64>,
}

/// The error among the images that are answered, by how many those are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Coverage {
    pub(crate) aurc: Option<f64>,
    pub(crate) points: Vec<CoveragePoint>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CoveragePoint {
    pub(crate) coverage: f64,
    pub(crate) error: Option<f64>,
}

/// Sets of classes that hold the true one with a promised probability.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conformal {
    pub(crate) level: Option<f64>,
    pub(crate) coverage: Option<f64>,
    pub(crate) mean_size: Option<f64>,
    /// Number of sets of size 0, 1, 2, ...
    pub(crate) sizes: Vec<u64>,
}

/// What the embeddings alone can do. The first three are balanced accuracies on the test images.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Representation {
    pub(crate) knn: Option<f64>,
    pub(crate) linear_probe: Option<f64>,
    pub(crate) nearest_class_mean: Option<f64>,
    pub(crate) silhouette: Option<f64>,
    pub(crate) alignment: Option<f64>,
    pub(crate) uniformity: Option<f64>,
    pub(crate) effective_rank: Option<f64>,
    pub(crate) dim: Option<u64>,
    pub(crate) nmi: Option<f64>,
    pub(crate) ami: Option<f64>,
}

/// How well the nearest images are of the query's class; fractions in `[0, 1]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Retrieval {
    pub(crate) k: Option<u64>,
    pub(crate) n_queries: Option<u64>,
    pub(crate) precision_at_1: Option<f64>,
    pub(crate) precision_at_k: Option<f64>,
    pub(crate) recall_at_k: Option<f64>,
    pub(crate) r_precision: Option<f64>,
    pub(crate) map_at_r: Option<f64>,
    pub(crate) map: Option<f64>,
    pub(crate) mrr: Option<f64>,
    /// The same, where images of the query's group do not count.
    pub(crate) without_own_group: Option<Box<Self>>,
}

/// Results at the parents of the classes in their tree.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parents {
    pub(crate) names: Vec<String>,
    pub(crate) accuracy: Option<f64>,
    pub(crate) balanced_accuracy: Option<f64>,
    pub(crate) macro_f1: Option<f64>,
}

/// What the mistakes cost, in the units of the cost matrix.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MistakeCost {
    pub(crate) mean: Option<f64>,
}

impl Evaluation {
    /// Reads and checks the file; `classes` are those of `metrics.json`, where it has any.
    pub(crate) fn read(path: &Path, classes: &[&str]) -> Result<Self, ReportError> {
        let evaluation: Self = read_versioned(path, SCHEMA)?;
        evaluation
            .check(classes)
            .map_err(|what| ReportError::Inconsistent { path: path.to_owned(), what })?;
        Ok(evaluation)
    }

    fn check(&self, named: &[&str]) -> Result<(), String> {
        let names: Vec<&str> = self.class_names.iter().map(String::as_str).collect();
        if !named.is_empty() && !names.is_empty() && names != named {
            return Err("class_names are not the classes of metrics.json".to_owned());
        }
        let n_classes = names.len().max(named.len());
        let n_tiles = self.thumbnails.as_ref().map(Sheet::check).transpose()?;
        if let Some(views) = &self.views {
            views.check()?;
        }
        if let Some(atlas) = &self.atlas {
            atlas.check(n_classes, n_tiles)?;
        }
        let in_panels = self.panels.iter().flat_map(|panel| {
            std::iter::once(("panels.query", &panel.query))
                .chain(panel.neighbors.iter().map(|neighbor| ("panels.neighbors", neighbor)))
        });
        let in_mistakes = self.mistakes.iter().map(|mistake| ("mistakes", &mistake.picture));
        in_panels
            .chain(in_mistakes)
            .try_for_each(|(place, picture)| picture.check(place, n_classes, n_tiles))
    }
}
