//! Samples in groups, and how alike the samples of a group are.

use std::collections::HashMap;

use crate::error::{EvalError, same_length};

/// Samples by group, the groups in the order of their first sample.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Groups {
    /// The group of every sample, in `0..n`.
    pub(super) of_sample: Vec<usize>,
    /// How many groups there are.
    pub(super) n: usize,
}

impl Groups {
    /// Every sample is a group of its own where no groups are given.
    pub(super) fn new(n_samples: usize, groups: Option<&[u32]>) -> Result<Self, EvalError> {
        let Some(groups) = groups else {
            return Ok(Self { of_sample: (0..n_samples).collect(), n: n_samples });
        };
        same_length(("groups", groups.len()), ("labels", n_samples))?;
        let mut numbers = HashMap::new();
        let mut of_sample = Vec::with_capacity(n_samples);
        for &group in groups {
            let next = numbers.len();
            of_sample.push(*numbers.entry(group).or_insert(next));
        }
        Ok(Self { of_sample, n: numbers.len() })
    }

    /// The samples of every group, in ascending order.
    pub(super) fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.n];
        for (sample, &group) in self.of_sample.iter().enumerate() {
            members[group].push(sample);
        }
        members
    }
}

/// How alike the images of one class and one group are in being right, pooled over the classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Correlation {
    /// Intraclass correlation, in `[0, 1]`.
    pub(super) value: f64,
    /// Degrees of freedom that it was measured with: groups of each class, less one.
    pub(super) df: f64,
}

impl Correlation {
    /// The analysis of variance of hits between and within groups, class by class, pooled:
    /// `(between - within) / (between + (m - 1) within)` of the mean squares, where m is the mean
    /// size of a group, corrected for unequal sizes.
    ///
    /// A class has few groups of its own, too few to measure it class by class. Where nothing can
    /// be measured (every prediction is right, or no class has two groups), images of a group are
    /// taken for the same image: 1.
    ///
    /// `cells` has, class by class, (hits, images) of every group that has images of the class.
    ///
    /// # Source
    ///
    /// Donner and Klar, "Design and Analysis of Cluster Randomization Trials", 2000, chapter 6.
    pub(super) fn pooled(cells: &[Vec<(f64, f64)>]) -> Self {
        let (mut between, mut within, mut size) = (0.0, 0.0, 0.0);
        let (mut df, mut df_within) = (0.0, 0.0);
        for cells in cells.iter().filter(|cells| !cells.is_empty()) {
            let n: f64 = cells.iter().map(|(_, n)| n).sum();
            let recall = cells.iter().map(|(hits, _)| hits).sum::<f64>() / n;
            between += cells.iter().map(|(hits, n)| n * (hits / n - recall).powi(2)).sum::<f64>();
            within += cells.iter().map(|(hits, n)| hits * (1.0 - hits / n)).sum::<f64>();
            size += n - cells.iter().map(|(_, n)| n * n).sum::<f64>() / n;
            df += cells.len() as f64 - 1.0;
            df_within += n - cells.len() as f64;
        }
        if df == 0.0 || between + within == 0.0 {
            return Self { value: 1.0, df };
        }
        if df_within == 0.0 {
            // No group has two images of a class, so there is nothing to be alike.
            return Self { value: 0.0, df };
        }
        let (between, within, size) = (between / df, within / df_within, size / df);
        let value = (between - within) / (between + (size - 1.0) * within);
        Self { value: value.clamp(0.0, 1.0), df }
    }

    /// By how much the variance of a class's recall grows because its images come in groups.
    pub(super) fn design_effect(&self, cells: &[(f64, f64)]) -> f64 {
        let n: f64 = cells.iter().map(|(_, n)| n).sum();
        let seen_by_an_image = cells.iter().map(|(_, n)| n * n).sum::<f64>() / n;
        1.0 + (seen_by_an_image - 1.0) * self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few roundings.
    const TOLERANCE: f64 = 1e-12;

    #[test]
    fn groups_are_numbered_by_their_first_sample() -> Result<(), EvalError> {
        let groups = Groups::new(5, Some(&[70, 3, 70, 9, 3]))?;
        assert_eq!(groups.of_sample, [0, 1, 0, 2, 1]);
        assert_eq!(groups.members(), [vec![0, 2], vec![1, 4], vec![3]]);
        assert_eq!(Groups::new(3, None)?.n, 3);
        assert!(Groups::new(3, Some(&[1])).is_err());
        Ok(())
    }

    // import numpy as np
    // x = [np.array([1,1,1,0]), np.array([1,1]), np.array([0,0,1]), np.array([0,0])]
    // n = np.array([len(g) for g in x]); N, k = n.sum(), len(x); m = np.concatenate(x).mean()
    // msb = sum(len(g) * (g.mean() - m)**2 for g in x) / (k - 1)
    // msw = sum(((g - g.mean())**2).sum() for g in x) / (N - k)
    // n0 = (N - (n**2).sum() / N) / (k - 1); (msb - msw) / (msb + (n0 - 1) * msw)
    #[test]
    fn correlation_of_one_class_is_that_of_the_analysis_of_variance() {
        let cells = vec![vec![(3.0, 4.0), (2.0, 2.0), (1.0, 3.0), (0.0, 2.0)], Vec::new()];
        let found = Correlation::pooled(&cells);
        assert!((found.value - 0.30288909599254427).abs() < TOLERANCE, "{found:?}");
        assert_eq!(found.df, 3.0);
    }

    #[test]
    fn correlation_of_equal_images_is_one_and_of_nothing_to_compare_zero() {
        assert_eq!(Correlation::pooled(&[vec![(4.0, 4.0), (0.0, 3.0)]]).value, 1.0);
        assert_eq!(Correlation::pooled(&[vec![(1.0, 1.0), (0.0, 1.0)]]).value, 0.0);
        // No error was made, or every class is in one group: nothing is known.
        assert_eq!(Correlation::pooled(&[vec![(4.0, 4.0), (3.0, 3.0)]]).value, 1.0);
        let apart = Correlation::pooled(&[vec![(3.0, 4.0)], vec![(2.0, 3.0)]]);
        assert_eq!(apart, Correlation { value: 1.0, df: 0.0 });
    }

    #[test]
    fn design_effect_is_one_for_single_images_and_the_size_for_equal_ones() {
        let effect =
            |value: f64, cells: &[(f64, f64)]| Correlation { value, df: 1.0 }.design_effect(cells);
        assert_eq!(effect(0.7, &[(1.0, 1.0), (0.0, 1.0)]), 1.0);
        assert_eq!(effect(1.0, &[(5.0, 5.0), (0.0, 5.0)]), 5.0);
        assert_eq!(effect(0.25, &[(5.0, 5.0), (0.0, 5.0)]), 2.0);
    }
}
