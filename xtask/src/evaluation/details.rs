//! `evaluation.json`: what the report shows of a model beyond `metrics.json`.

use std::sync::Arc;

use anyhow::Result;
use s5cl_data::Dataset;
use s5cl_eval::{
    Conformal, ConformalResult, ConformalScore, CoverageCurve, N_BINS, Probabilities,
    ReliabilityBin, Temperature, cross_fit_temperature, expected_calibration_error,
    reliability_bins,
};
use serde::Serialize;

use super::atlas::{Atlas, Panel, Picture, choose, mistakes, panels};
use super::embeddings::{Representation, defined};
use super::part::Part;
use super::predictions::JudgedImages;
use super::retrieval::Retrieval;
use super::thumbnails::{ThumbnailSheet, Thumbnails};
use super::views::Views;
use crate::batches::BatchMaker;

/// The version of the file.
const SCHEMA: u32 = 1;
/// Images found for a query.
const RETRIEVED: usize = 10;
/// Test images that are compared with each other, at most: the pairs grow with their square.
const MOST_PAIRED: usize = 10_000;
/// Points of the coverage curve, at most.
const COVERAGE_POINTS: usize = 200;
/// Promised probabilities that a set of classes holds the true one.
const CONFORMAL_LEVELS: [f64; 3] = [0.8, 0.9, 0.95];
/// Folds in which the test images calibrate each other, where no others can.
const CALIBRATION_FOLDS: usize = 5;

/// The file.
#[derive(Serialize)]
pub(crate) struct Details {
    schema: u32,
    class_names: Vec<String>,
    #[serde(flatten)]
    trust: Trust,
    representation: Representation,
    #[serde(skip_serializing_if = "Option::is_none")]
    retrieval: Option<Retrieval>,
    thumbnails: ThumbnailSheet,
    atlas: Atlas,
    panels: Vec<Panel>,
    mistakes: Vec<Picture>,
    views: Views,
}

/// What a model says of the parts of a run's data.
pub(crate) struct Parts {
    /// All test images.
    pub(crate) test: Part,
    /// All labeled images.
    pub(crate) labeled: Part,
    /// Validation images, if there are any.
    pub(crate) validation: Option<Part>,
    /// Some unlabeled images, if there are any.
    pub(crate) unlabeled: Option<Part>,
}

/// What the pictures are drawn from.
pub(crate) struct Drawing<'a> {
    /// The images.
    pub(crate) dataset: &'a Arc<Dataset>,
    /// Their side in pixels.
    pub(crate) size: u32,
    /// Makes the views.
    pub(crate) maker: &'a BatchMaker,
    /// From this confidence on a prediction is a pseudo-label.
    pub(crate) pseudo_threshold: f64,
    /// Chooses the images that are shown.
    pub(crate) seed: u64,
    /// Threads that read images.
    pub(crate) workers: usize,
}

impl Details {
    /// Looks at everything once more.
    pub(crate) fn new(
        class_names: &[String],
        parts: &Parts,
        drawing: &Drawing<'_>,
    ) -> Result<Self> {
        let Parts { test, labeled, validation, unlabeled } = parts;
        let Drawing { dataset, size, maker, pseudo_threshold, seed, workers } = *drawing;
        let n_classes = class_names.len();
        let judged = |part: &Part| part.judged(class_names);
        let mut thumbnails = Thumbnails::default();
        let on_map = [Some(test), Some(labeled), unlabeled.as_ref()];
        let atlas = Atlas::new(on_map, pseudo_threshold, seed, &mut thumbnails)?;
        let panels = panels(test, seed, &mut thumbnails)?;
        let mistakes = mistakes(test, &mut thumbnails);
        let paired = test.rows(&choose(test.n(), MOST_PAIRED, seed, "paired"))?;
        Ok(Self {
            schema: SCHEMA,
            class_names: class_names.to_vec(),
            trust: Trust::new(&judged(test), validation.as_ref().map(judged).as_ref())?,
            representation: Representation::new(labeled, &paired, n_classes, seed)?,
            retrieval: Retrieval::new(&paired, None, RETRIEVED)?,
            atlas,
            panels,
            mistakes,
            thumbnails: thumbnails.draw(dataset, size, workers)?,
            views: Views::new(maker)?,
        })
    }

    /// What the embeddings warn of.
    pub(crate) fn warning(&self) -> Option<String> {
        self.representation.collapse(self.class_names.len())
    }
}

/// How far the probabilities can be believed.
#[derive(Debug, Serialize)]
pub(crate) struct Trust {
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
    coverage: CoverageCurve,
    conformal: Vec<ConformalResult>,
}

#[derive(Debug, Serialize)]
struct Calibration {
    temperature: f64,
    fitted_on: String,
    ece: f64,
    ece_calibrated: f64,
    bins: Vec<ReliabilityBin>,
    bins_calibrated: Vec<ReliabilityBin>,
}

impl Trust {
    /// Fits temperature and sets of classes on validation, and judges them on test. Without
    /// validation images the test images calibrate each other by cross-fitting, where they are
    /// enough, and there are no sets.
    pub(crate) fn new(test: &JudgedImages, validation: Option<&JudgedImages>) -> Result<Self> {
        let probabilities = test.probabilities()?;
        let conformal = |validation: &JudgedImages, level| -> Result<ConformalResult> {
            let known = validation.probabilities()?;
            let sets = Conformal::fit(ConformalScore::Lac, &known, &validation.labels, level)?;
            Ok(sets.evaluate(&probabilities, &test.labels)?)
        };
        let levels = CONFORMAL_LEVELS.into_iter();
        let conformal = validation.map(|v| levels.map(|level| conformal(v, level)).collect());
        Ok(Self {
            calibration: Calibration::new(test, &probabilities, validation)?,
            coverage: CoverageCurve::new(&probabilities, &test.labels)?.thinned(COVERAGE_POINTS),
            conformal: conformal.transpose()?.unwrap_or_default(),
        })
    }
}

impl Calibration {
    /// `None` where nothing is there to fit the temperature on.
    fn new(
        test: &JudgedImages,
        probabilities: &Probabilities,
        validation: Option<&JudgedImages>,
    ) -> Result<Option<Self>> {
        let (temperature, calibrated, fitted_on) = match validation {
            Some(validation) => {
                let known = validation.probabilities()?;
                let temperature = Temperature::fit(&known, &validation.labels)?;
                let images = format!("{} validation images", validation.labels.len());
                (temperature.value(), temperature.apply(probabilities), images)
            }
            None => {
                let groups = test.group_numbers();
                let (labels, groups) = (&test.labels, groups.as_deref());
                let fitted =
                    cross_fit_temperature(probabilities, labels, groups, CALIBRATION_FOLDS);
                let Some(fitted) = defined(fitted)? else { return Ok(None) };
                let n_folds = fitted.temperatures.len();
                let mean = fitted.temperatures.iter().sum::<f64>() / n_folds as f64;
                let images = format!("the other test images, in {n_folds} folds");
                (mean, fitted.probabilities, images)
            }
        };
        let bins = reliability_bins(probabilities, &test.labels, N_BINS)?;
        let bins_calibrated = reliability_bins(&calibrated, &test.labels, N_BINS)?;
        Ok(Some(Self {
            temperature,
            fitted_on,
            ece: expected_calibration_error(&bins),
            ece_calibrated: expected_calibration_error(&bins_calibrated),
            bins,
            bins_calibrated,
        }))
    }
}
