//! `evaluation.json`: what the report shows of a model beyond `metrics.json`.

use anyhow::Result;
use s5cl_eval::{
    Conformal, ConformalResult, ConformalScore, CoverageCurve, N_BINS, ReliabilityBin, Temperature,
    cross_fit_temperature, expected_calibration_error, reliability_bins,
};
use serde::Serialize;

use super::atlas::{Atlas, Panel, Picture};
use super::embeddings::{Representation, Retrieval};
use super::predictions::JudgedImages;
use super::thumbnails::ThumbnailSheet;
use super::views::Views;

/// The version of the file.
const SCHEMA: u32 = 1;
/// Points of the coverage curve, at most.
const COVERAGE_POINTS: usize = 200;
/// Promised probabilities that a set of classes holds the true one.
const CONFORMAL_LEVELS: [f64; 3] = [0.8, 0.9, 0.95];
/// Folds in which the test images calibrate each other, where no others can.
const CALIBRATION_FOLDS: usize = 5;

/// The file.
#[derive(Serialize)]
pub(crate) struct Details {
    pub(crate) schema: u32,
    pub(crate) class_names: Vec<String>,
    #[serde(flatten)]
    pub(crate) trust: Trust,
    pub(crate) representation: Representation,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retrieval: Option<Retrieval>,
    pub(crate) thumbnails: ThumbnailSheet,
    pub(crate) atlas: Atlas,
    pub(crate) panels: Vec<Panel>,
    pub(crate) mistakes: Vec<Picture>,
    pub(crate) views: Views,
}

/// How far the probabilities can be believed.
#[derive(Debug, Serialize)]
pub(crate) struct Trust {
    calibration: Calibration,
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

impl Details {
    pub(crate) const SCHEMA: u32 = SCHEMA;
}

impl Trust {
    /// Fits temperature and sets of classes on validation, and judges them on test. Without
    /// validation images the test images calibrate each other by cross-fitting, and there are no
    /// sets.
    pub(crate) fn new(test: &JudgedImages, validation: Option<&JudgedImages>) -> Result<Self> {
        let probabilities = test.probabilities()?;
        let (temperature, calibrated, fitted_on) = match validation {
            Some(validation) => {
                let temperature =
                    Temperature::fit(&validation.probabilities()?, &validation.labels)?;
                let images = format!("{} validation images", validation.labels.len());
                (temperature.value(), temperature.apply(&probabilities), images)
            }
            None => {
                let groups = test.group_numbers();
                let fitted = cross_fit_temperature(
                    &probabilities,
                    &test.labels,
                    groups.as_deref(),
                    CALIBRATION_FOLDS,
                )?;
                let mean = fitted.temperatures.iter().sum::<f64>() / fitted.temperatures.len() as f64;
                let images = format!("the other test images, in {} folds", fitted.temperatures.len());
                (mean, fitted.probabilities, images)
            }
        };
        let bins = reliability_bins(&probabilities, &test.labels, N_BINS)?;
        let bins_calibrated = reliability_bins(&calibrated, &test.labels, N_BINS)?;
        let mut conformal = Vec::new();
        if let Some(validation) = validation {
            for level in CONFORMAL_LEVELS {
                let fitted = Conformal::fit(
                    ConformalScore::Lac,
                    &validation.probabilities()?,
                    &validation.labels,
                    level,
                )?;
                conformal.push(fitted.evaluate(&probabilities, &test.labels)?);
            }
        }
        Ok(Self {
            calibration: Calibration {
                temperature,
                fitted_on,
                ece: expected_calibration_error(&bins),
                ece_calibrated: expected_calibration_error(&bins_calibrated),
                bins,
                bins_calibrated,
            },
            coverage: CoverageCurve::new(&probabilities, &test.labels)?.thinned(COVERAGE_POINTS),
            conformal,
        })
    }
}
