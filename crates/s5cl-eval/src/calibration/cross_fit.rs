//! Calibrated probabilities of samples that had no part in their calibration.

use std::collections::BTreeMap;

use crate::calibration::temperature::Temperature;
use crate::error::{EvalError, same_length};
use crate::probabilities::Probabilities;

/// What [`cross_fit_temperature`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossFitted {
    /// Each sample's at the temperature that was fitted without its fold, `[n, n_classes]`.
    pub probabilities: Probabilities,
    /// The temperature for each fold, fitted on all others, `[n_folds]`.
    pub temperatures: Vec<f64>,
    /// The fold of each sample, `[n]`.
    pub folds: Vec<usize>,
}

/// Scales the probabilities of each fold by the temperature fitted on the other folds.
///
/// What is measured on the result is measured on samples that the temperature did not see, so
/// that no image has to be set apart for it. Samples of one group (a slide, a patient) are in one
/// fold: groups go by size, the largest first, each to the fold with the fewest samples, which of
/// several is the first; groups of one size go by number. Without groups each sample is its own,
/// and sample `i` is in fold `i % n_folds`.
///
/// # Shapes
///
/// `probabilities`: `[n, n_classes]`; `labels` and `groups`: `[n]`.
///
/// # Errors
///
/// When there are fewer than two folds or more than groups, the lengths do not fit, or a label is
/// not below the number of classes.
pub fn cross_fit_temperature(
    probabilities: &Probabilities,
    labels: &[u32],
    groups: Option<&[u32]>,
    n_folds: usize,
) -> Result<CrossFitted, EvalError> {
    probabilities.check_labels(labels)?;
    let folds = match groups {
        Some(groups) => {
            same_length(("groups", groups.len()), ("labels", labels.len()))?;
            folds_of(groups, n_folds)?
        }
        None => {
            check_folds(n_folds, labels.len())?;
            (0..labels.len()).map(|sample_idx| sample_idx % n_folds).collect()
        }
    };
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

/// The fold of each sample, with every group in one.
fn folds_of(groups: &[u32], n_folds: usize) -> Result<Vec<usize>, EvalError> {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    for &group in groups {
        *sizes.entry(group).or_default() += 1;
    }
    check_folds(n_folds, sizes.len())?;
    let mut by_size: Vec<(u32, usize)> = sizes.into_iter().collect();
    by_size.sort_by_key(|&(group, size)| (std::cmp::Reverse(size), group));
    let mut n_samples = vec![0; n_folds];
    let mut fold_of = BTreeMap::new();
    for (group, size) in by_size {
        let fold = (0..n_folds).min_by_key(|&fold| n_samples[fold]).unwrap_or(0);
        n_samples[fold] += size;
        fold_of.insert(group, fold);
    }
    Ok(groups.iter().map(|group| fold_of[group]).collect())
}

fn check_folds(n_folds: usize, n_groups: usize) -> Result<(), EvalError> {
    if (2..=n_groups).contains(&n_folds) {
        return Ok(());
    }
    let range = "at least 2 and at most the number of groups (of samples, where none are given)";
    Err(EvalError::OutOfRange { what: "n_folds", value: n_folds as f64, range })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::draws::Draws;
    use crate::calibration::reliability::{N_BINS, expected_calibration_error, reliability_bins};

    #[test]
    fn cross_fit_keeps_groups_in_one_fold_and_folds_alike() -> Result<(), EvalError> {
        let groups = [9, 9, 9, 4, 4, 7, 7, 1, 9, 1];
        assert_eq!(folds_of(&groups, 3)?, [0, 0, 0, 2, 2, 1, 1, 1, 0, 1]);
        Ok(())
    }

    #[test]
    fn cross_fit_does_not_look_at_the_fold_itself() -> Result<(), EvalError> {
        let (probabilities, mut labels) = Draws::new(5).samples(90, 3, 0.5)?;
        let before = cross_fit_temperature(&probabilities, &labels, None, 3)?;
        for label in labels.iter_mut().step_by(3) {
            *label = (*label + 1) % 3;
        }
        let after = cross_fit_temperature(&probabilities, &labels, None, 3)?;
        assert_eq!(before.temperatures[0], after.temperatures[0]);
        assert_ne!(before.temperatures[1], after.temperatures[1]);
        for sample_idx in (0..90).step_by(3) {
            let row = before.probabilities.row(sample_idx);
            assert_eq!(row, after.probabilities.row(sample_idx), "{sample_idx}");
        }
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
    fn cross_fit_refuses_folds_it_cannot_make() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(1).samples(4, 2, 1.0)?;
        let error = |groups: Option<&[u32]>, n_folds| {
            cross_fit_temperature(&probabilities, &labels, groups, n_folds).unwrap_err().to_string()
        };
        assert!(error(None, 1).starts_with("n_folds is 1: it must be at least 2"));
        assert!(error(None, 5).starts_with("n_folds is 5"));
        assert!(error(Some(&[0, 0, 1, 1]), 3).starts_with("n_folds is 3"));
        assert!(error(Some(&[0]), 2).starts_with("groups has 1 entries, labels has 4"));
        Ok(())
    }
}
