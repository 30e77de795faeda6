//! Calibrated probabilities of samples that had no part in their calibration.

use crate::calibration::temperature::Temperature;
use crate::error::EvalError;
use crate::folds::stratified_folds;
use crate::probabilities::Probabilities;

/// Seed of the order in which groups of one size are dealt: no measure depends on it much.
const DEAL: u64 = 0;

/// What [`cross_fit_temperature`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossFitted {
    /// Each sample's at the temperature that was fitted without its fold, `[n, n_classes]`.
    pub probabilities: Probabilities,
    /// The temperature for each fold, fitted on all others, one a fold.
    pub temperatures: Vec<f64>,
    /// The fold of each sample, `[n]`.
    pub folds: Vec<usize>,
}

/// Scales the probabilities of each fold by the temperature fitted on the other folds.
///
/// What is measured on the result is measured on samples that the temperature did not see, so
/// that no image has to be set apart for it. Samples of one group (a slide, a patient) are in one
/// fold, as [`stratified_folds`] deals them; there are at most as many folds as groups. Without
/// groups each sample is its own.
///
/// # Shapes
///
/// `probabilities`: `[n, n_classes]`; `labels` and `groups`: `[n]`.
///
/// # Errors
///
/// When there are fewer than two folds or groups (without groups, samples), the lengths do not fit,
/// or a label is not below the number of classes.
pub fn cross_fit_temperature(
    probabilities: &Probabilities,
    labels: &[u32],
    groups: Option<&[u32]>,
    n_folds: usize,
) -> Result<CrossFitted, EvalError> {
    probabilities.check_labels(labels)?;
    let folds = stratified_folds(labels, probabilities.n_classes(), groups, n_folds, DEAL)?;
    let n_folds = folds.iter().max().map_or(0, |last| last + 1);
    let fit_without = |fold: usize| {
        let others = (0..labels.len()).filter(|&sample_idx| folds[sample_idx] != fold);
        Temperature::fit_on(probabilities, labels, others)
    };
    let temperatures: Vec<Temperature> = (0..n_folds).map(fit_without).collect();
    let mut values = Vec::with_capacity(probabilities.as_slice().len());
    for (row, &fold) in probabilities.rows().zip(&folds) {
        values.extend(temperatures[fold].scaled(row));
    }
    Ok(CrossFitted {
        probabilities: Probabilities::from_distributions(values, probabilities.n_classes()),
        temperatures: temperatures.into_iter().map(Temperature::value).collect(),
        folds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::draws::Draws;
    use crate::calibration::reliability::{N_BINS, expected_calibration_error, reliability_bins};

    #[test]
    fn cross_fit_keeps_groups_in_one_fold_and_folds_alike() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(2).samples(60, 3, 1.0)?;
        let groups: Vec<u32> = (0..60).map(|sample_idx| sample_idx / 5).collect();
        let folds = cross_fit_temperature(&probabilities, &labels, Some(&groups), 3)?.folds;
        assert!(folds.chunks(5).all(|of_group| of_group.iter().all(|fold| *fold == of_group[0])));
        let sizes = [0, 1, 2].map(|fold| folds.iter().filter(|other| **other == fold).count());
        assert!(sizes.iter().all(|n| (10..=30).contains(n)), "{sizes:?}");
        Ok(())
    }

    #[test]
    fn cross_fit_does_not_look_at_the_fold_itself() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(5).samples(90, 3, 0.5)?;
        let before = cross_fit_temperature(&probabilities, &labels, None, 3)?;
        let mut values = probabilities.as_slice().to_vec();
        for (row, fold) in values.chunks_exact_mut(3).zip(&before.folds) {
            if *fold == 0 {
                row.rotate_left(1);
            }
        }
        let after = cross_fit_temperature(&Probabilities::new(values, 3)?, &labels, None, 3)?;
        assert_eq!(before.folds, after.folds);
        assert_eq!(before.temperatures[0], after.temperatures[0]);
        assert_ne!(before.temperatures[1], after.temperatures[1]);
        Ok(())
    }

    #[test]
    fn cross_fit_calibrates_what_it_did_not_see() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(9).samples(2_000, 4, 0.3)?;
        let groups: Vec<u32> = (0..2_000).map(|sample_idx| sample_idx / 40).collect();
        let fitted = cross_fit_temperature(&probabilities, &labels, Some(&groups), 5)?;
        let ece = |p: &Probabilities| -> Result<f64, EvalError> {
            Ok(expected_calibration_error(&reliability_bins(p, &labels, N_BINS)?))
        };
        assert!(ece(&fitted.probabilities)? < 0.5 * ece(&probabilities)?);
        assert_eq!(fitted.temperatures.len(), 5);
        Ok(())
    }

    #[test]
    fn cross_fit_makes_no_more_folds_than_groups() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(1).samples(4, 2, 1.0)?;
        let fit = |groups| cross_fit_temperature(&probabilities, &labels, groups, 5);
        assert_eq!(fit(None)?.temperatures.len(), 4);
        assert_eq!(fit(Some(&[0, 0, 1, 1][..]))?.temperatures.len(), 2);
        Ok(())
    }

    #[test]
    fn cross_fit_refuses_folds_it_cannot_make() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(1).samples(4, 2, 1.0)?;
        let error = |groups: Option<&[u32]>, n_folds| {
            cross_fit_temperature(&probabilities, &labels, groups, n_folds).unwrap_err().to_string()
        };
        assert!(error(None, 1).starts_with("there are 1 folds, but at least 2 are needed"));
        assert!(error(Some(&[8; 4]), 3).starts_with("there are 1 groups, but at least 2"));
        assert!(error(Some(&[0]), 2).starts_with("groups has 1 entries, labels has 4"));
        Ok(())
    }
}
