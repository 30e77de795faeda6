//! Division of samples into folds with about the same share of every class.

use std::collections::BTreeMap;

use s5cl_random::named_stream;

use crate::error::{EvalError, at_least, classes_in_range, same_length};

/// Deals samples into folds: groups stay together, and every class is spread over the folds as
/// evenly as they allow.
///
/// Groups are dealt one at a time, the largest first and equally large ones in an order that
/// `seed` decides, each to the fold where
/// `sum over classes of (samples of the class in the fold / samples of the class)^2`
/// grows the least; of equal folds to the one with the fewest samples, then the first one. Without
/// groups every sample is its own. There are at most as many folds as groups.
///
/// # Shapes
///
/// `labels`: `u32 [n]`, below `n_classes`; `groups`: `u32 [n]`, any numbers; `n_folds` at least 2.
/// Returns `[n]` folds, each number below `n_folds` and below the number of groups.
///
/// # Errors
///
/// When the labels or groups do not fit, or there are fewer than two folds or groups (without groups,
/// samples).
pub fn stratified_folds(
    labels: &[u32],
    n_classes: usize,
    groups: Option<&[u32]>,
    n_folds: usize,
    seed: u64,
) -> Result<Vec<usize>, EvalError> {
    classes_in_range("labels", labels, n_classes)?;
    at_least("folds", n_folds, 2)?;
    if let Some(groups) = groups {
        same_length(("groups", groups.len()), ("labels", labels.len()))?;
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for sample in 0..labels.len() {
        let group = groups.map_or(sample, |groups| groups[sample] as usize);
        members.entry(group).or_default().push(sample);
    }
    at_least(if groups.is_some() { "groups" } else { "samples" }, members.len(), 2)?;
    let mut members: Vec<Vec<usize>> = members.into_values().collect();
    named_stream(seed, "folds").shuffle(&mut members);
    members.sort_by_key(|samples| std::cmp::Reverse(samples.len()));

    let mut totals = vec![0.0_f64; n_classes];
    labels.iter().for_each(|&label| totals[label as usize] += 1.0);
    let mut folds = vec![Fold { counts: vec![0.0; n_classes], n: 0 }; n_folds.min(members.len())];
    let mut fold_of = vec![0; labels.len()];
    for samples in members {
        let mut counts = BTreeMap::<usize, f64>::new();
        samples
            .iter()
            .for_each(|&sample| *counts.entry(labels[sample] as usize).or_default() += 1.0);
        let growth = |fold: &Fold| -> f64 {
            let squares = counts.iter().map(|(&class_idx, count)| {
                let before = fold.counts[class_idx];
                ((before + count).powi(2) - before.powi(2)) / totals[class_idx].powi(2)
            });
            squares.sum()
        };
        let costs = folds.iter().enumerate().map(|(idx, fold)| (growth(fold), fold.n, idx));
        let best = costs.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let idx = best.map_or(0, |(_, _, idx)| idx);
        samples.iter().for_each(|&sample| fold_of[sample] = idx);
        folds[idx].n += samples.len();
        counts.iter().for_each(|(&class_idx, count)| folds[idx].counts[class_idx] += count);
    }
    Ok(fold_of)
}

#[derive(Clone)]
struct Fold {
    /// Samples of each class.
    counts: Vec<f64>,
    n: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_hold_the_same_share_of_every_class() {
        let labels: Vec<u32> =
            (0..90).map(|i| u32::from(i % 9 > 2) + u32::from(i % 9 > 6)).collect();
        let folds = stratified_folds(&labels, 3, None, 5, 0).unwrap();
        for class_idx in 0..3 {
            let members =
                |fold| (0..90).filter(|&i| folds[i] == fold && labels[i] == class_idx).count();
            let counts: Vec<usize> = (0..5).map(members).collect();
            assert!(counts.iter().all(|&n| n == counts[0]), "class {class_idx}: {counts:?}");
        }
        assert_ne!(folds, stratified_folds(&labels, 3, None, 5, 1).unwrap());
        assert_eq!(folds, stratified_folds(&labels, 3, None, 5, 0).unwrap());
    }

    #[test]
    fn folds_keep_groups_together_and_balanced() {
        // 12 groups of 5 samples, each of one class.
        let groups: Vec<u32> = (0..60).map(|i| 100 + i / 5).collect();
        let labels: Vec<u32> = groups.iter().map(|group| group % 3).collect();
        let folds = stratified_folds(&labels, 3, Some(&groups), 4, 7).unwrap();
        for (left, right) in groups.iter().zip(&folds).zip(groups.iter().zip(&folds).skip(1)) {
            assert!(left.0 != right.0 || left.1 == right.1);
        }
        for fold in 0..4 {
            for class_idx in 0..3 {
                let n = (0..60).filter(|&i| folds[i] == fold && labels[i] == class_idx).count();
                assert_eq!(n, 5, "fold {fold}, class {class_idx}");
            }
        }
    }

    #[test]
    fn folds_are_at_most_as_many_as_groups() {
        let folds = stratified_folds(&[0, 0, 1, 1], 2, Some(&[4, 9, 4, 9]), 5, 0).unwrap();
        assert!(folds.iter().all(|&fold| fold < 2) && folds[0] != folds[1], "{folds:?}");
    }

    #[test]
    fn folds_refuse_bad_input() {
        let error = |labels: &[u32], groups: Option<&[u32]>, n_folds| {
            stratified_folds(labels, 2, groups, n_folds, 0).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[0, 1], Some(&[3, 3]), 5),
            "there are 1 groups, but at least 2 are needed"
        );
        assert_eq!(error(&[0, 1], None, 1), "there are 1 folds, but at least 2 are needed");
        assert_eq!(error(&[0], None, 5), "there are 1 samples, but at least 2 are needed");
        assert!(error(&[0, 1], Some(&[3]), 2).contains("groups has 1 entries"));
        assert!(error(&[0, 2], None, 2).contains("labels[1] is 2"));
    }
}
