//! How two runs differ on the same test images.

use serde::Serialize;

use super::bootstrap::Bootstrap;
use super::distributions::{student_cdf, student_two_sided};
use super::groups::Groups;
use super::interval::{Interval, checked_level};
use super::mcnemar::{McNemar, mcnemar};
use super::score::Score;
use crate::classification::Confusion;
use crate::error::{EvalError, at_least, same_length};

/// What a run said of its test images.
#[derive(Clone, Copy, Debug)]
pub struct TestRun<'a> {
    /// `[n]`, what tells the images apart, as their paths.
    pub ids: &'a [String],
    /// `[n]`, the true classes.
    pub labels: &'a [u32],
    /// `[n]`, the predicted classes.
    pub predictions: &'a [u32],
}

/// By how much one figure of two runs differs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunDifference {
    /// The first run's figure less the second's, in `[-1, 1]`.
    pub difference: f64,
    /// Where the true difference lies with the chance asked for, in `[-1, 1]`.
    pub interval: Interval,
    /// Chance of a difference at least as far from 0 if there were none, in `[0, 1]`.
    pub p_value: f64,
}

/// What [`compare_runs`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunComparison {
    /// Of [`Confusion::accuracy`].
    pub accuracy: RunDifference,
    /// Of [`Confusion::balanced_accuracy`].
    pub balanced_accuracy: RunDifference,
    /// Of [`Confusion::macro_f1`].
    pub macro_f1: RunDifference,
    /// On single images.
    pub mcnemar: McNemar,
}

/// How two runs differ in accuracy, balanced accuracy and macro F1 on the same test images, first
/// less second.
///
/// The interval is `difference +- t sqrt(variance)`. The variance is that of what the images add
/// to the difference (delta method, given how many images each class has), summed over groups
/// first and at least what it would be without them; t is Student's with one degree of freedom
/// less than there are groups (without groups, images). Runs that say the same of a few images
/// may still differ on others: every class counts as if the runs had told apart a share
/// `(k + 2 q + 1/2) / (n + 3)` of its images, where k of n did and q is the share over all
/// classes.
///
/// No replicate is drawn: of `config` only the level matters. For other figures see
/// [`crate::paired_bootstrap`].
///
/// By simulation at 95 %, for nine classes of 5 to 200 images, independent or in 5 to 40 groups,
/// 93 to 98 % of the draws are covered; balanced accuracy at 0.95 and test sets of five images a
/// class err to the cautious side, with up to 99.9 %. Where each class is in four of 40 groups
/// only, which are then few for the difference in accuracy, 92 to 96 % are covered.
///
/// # Shapes
///
/// `groups`: `[n]`, the same number for images of the same slide or patient; `None` for
/// independent images. Classes are below `n_classes`.
///
/// # Errors
///
/// When the runs' ids or labels differ, there is no image, lengths differ, a class index is not
/// below `n_classes`, there are fewer than two groups (or images), or the level is not between 0
/// and 1.
pub fn compare_runs(
    first: &TestRun<'_>,
    second: &TestRun<'_>,
    n_classes: usize,
    groups: Option<&[u32]>,
    config: &Bootstrap,
) -> Result<RunComparison, EvalError> {
    let level = config.level;
    checked_level(level)?;
    same_images(first, second)?;
    let confusion = |run: &TestRun<'_>| Confusion::new(n_classes, run.labels, run.predictions);
    let (of_first, of_second) = (confusion(first)?, confusion(second)?);
    let what = if groups.is_some() { "groups" } else { "images" };
    let groups = Groups::new(first.labels.len(), groups)?;
    at_least(what, groups.n, 2)?;
    let paired = Paired { first, second, groups, level };
    let of_classes = |score: fn(&Confusion) -> Score| {
        let (a, b) = (score(&of_first), score(&of_second));
        let added = |image: usize| {
            let label = first.labels[image] as usize;
            a.influence[label][first.predictions[image] as usize]
                - b.influence[label][second.predictions[image] as usize]
        };
        let slopes: Vec<f64> = a.slope.iter().zip(&b.slope).map(|(a, b)| 0.5 * (a + b)).collect();
        paired.difference(a.value - b.value, added, first.labels, &slopes)
    };
    Ok(RunComparison {
        accuracy: of_classes(Score::accuracy),
        balanced_accuracy: of_classes(Score::balanced_accuracy),
        macro_f1: of_classes(Score::macro_f1),
        mcnemar: mcnemar(first.labels, first.predictions, second.predictions)?,
    })
}

/// Two runs and how the images hang together.
struct Paired<'a> {
    first: &'a TestRun<'a>,
    second: &'a TestRun<'a>,
    groups: Groups,
    level: f64,
}

impl Paired<'_> {
    /// 1 where only the first run is right, -1 where only the second is, else 0.
    fn told_apart(&self, image: usize) -> f64 {
        let is_right =
            |run: &TestRun<'_>| f64::from(u8::from(run.predictions[image] == run.labels[image]));
        is_right(self.first) - is_right(self.second)
    }

    /// The interval of a difference, from what every image adds to it (less the mean of its
    /// class) and the derivative with respect to the recall of each class.
    fn difference(
        &self,
        difference: f64,
        added: impl Fn(usize) -> f64,
        classes: &[u32],
        slopes: &[f64],
    ) -> RunDifference {
        let n_classes = slopes.len();
        let mut sums = vec![0.0; self.groups.n * n_classes];
        let mut is_in = vec![false; sums.len()];
        // By class: images, those that the runs tell apart, squares of what they add.
        let mut by_class = vec![(0.0, 0.0, 0.0); n_classes];
        for (image, &class_idx) in classes.iter().enumerate() {
            let cell = self.groups.of_sample[image] * n_classes + class_idx as usize;
            let added = added(image);
            sums[cell] += added;
            is_in[cell] = true;
            let class = &mut by_class[class_idx as usize];
            class.0 += 1.0;
            class.1 += self.told_apart(image).abs();
            class.2 += added * added;
        }
        // A mean that is taken from the same n values takes 1 / n of their spread away.
        let unbiased = |n: f64| n / (n - 1.0).max(0.5);
        let scales: Vec<f64> = (0..n_classes)
            .map(|class_idx| {
                let of_class = is_in.iter().skip(class_idx).step_by(n_classes);
                unbiased(of_class.filter(|is_in| **is_in).count() as f64).sqrt()
            })
            .collect();
        let of_group = |sums: &[f64]| {
            sums.iter().zip(&scales).map(|(sum, scale)| sum * scale).sum::<f64>().powi(2)
        };
        let between: f64 = sums.chunks_exact(n_classes).map(of_group).sum();
        let single: f64 = by_class.iter().map(|(n, _, squares)| unbiased(*n) * squares).sum();
        let told_apart = by_class.iter().map(|(_, k, _)| k).sum::<f64>() / classes.len() as f64;
        let unseen = |(slope, (n, k, _)): (&f64, &(f64, f64, f64))| {
            let drawn = (k + 2.0 * told_apart + 0.5) / (n + 3.0);
            if *n > 0.0 { (drawn - k / n).max(0.0) / n * slope * slope } else { 0.0 }
        };
        let unseen: f64 = slopes.iter().zip(&by_class).map(unseen).sum();
        let deviation = (between.max(single) + unseen).sqrt();
        let df = self.groups.n as f64 - 1.0;
        let reach = student_two_sided(df, self.level) * deviation;
        RunDifference {
            difference,
            interval: Interval {
                low: (difference - reach).max(-1.0),
                high: (difference + reach).min(1.0),
            },
            p_value: (2.0 * student_cdf(df, -(difference / deviation).abs())).min(1.0),
        }
    }
}

/// Refuses runs that were not tested on the same images in the same order.
fn same_images(first: &TestRun<'_>, second: &TestRun<'_>) -> Result<(), EvalError> {
    for run in [first, second] {
        same_length(("ids", run.ids.len()), ("labels", run.labels.len()))?;
    }
    same_length(
        ("the first run's ids", first.ids.len()),
        ("the second run's ids", second.ids.len()),
    )?;
    let differ = |what, index, first: String, second: String| {
        Err(EvalError::RunsDiffer { what, index, first, second })
    };
    for index in 0..first.ids.len() {
        let (id, other) = (&first.ids[index], &second.ids[index]);
        if id != other {
            return differ("ids", index, id.clone(), other.clone());
        }
        let (label, other) = (first.labels[index], second.labels[index]);
        if label != other {
            return differ("labels", index, label.to_string(), other.to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Bootstrap = Bootstrap { replicates: 2, level: 0.95, seed: 0 };

    fn ids(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("{i}.png")).collect()
    }

    fn compare(labels: &[u32], a: &[u32], b: &[u32], groups: Option<&[u32]>) -> RunComparison {
        let ids = ids(labels.len());
        let run = |predictions| TestRun { ids: &ids, labels, predictions };
        compare_runs(&run(a), &run(b), 3, groups, &CONFIG).unwrap()
    }

    /// Labels and two runs: the first makes every fifth a mistake, the second every fourth.
    fn runs(n: u32) -> [Vec<u32>; 3] {
        let wrong_every = |step: u32| {
            (0..n).map(|i| if i % step == 0 { (i % 3 + 1) % 3 } else { i % 3 }).collect()
        };
        [(0..n).map(|i| i % 3).collect(), wrong_every(5), wrong_every(4)]
    }

    // import numpy as np; from scipy.stats import ttest_rel
    // i = np.arange(6000); r = ttest_rel(i % 5 != 0, i % 4 != 0)
    // r.confidence_interval(.95)
    #[test]
    fn comparison_of_many_images_is_scipys_paired_t_test() {
        /// Of the width: half a made-up image among 6,000.
        const TOLERANCE: f64 = 1e-3;
        let [labels, first, second] = runs(6_000);
        let found = compare(&labels, &first, &second, None).accuracy;
        let (low, high) = (0.03507983256726248, 0.06492016743273753);
        assert!((found.difference - 0.05).abs() < 1e-12);
        assert!((found.interval.low - low).abs() < TOLERANCE * (high - low), "{found:?}");
        assert!((found.interval.high - high).abs() < TOLERANCE * (high - low), "{found:?}");
    }

    #[test]
    fn comparison_the_other_way_round_is_the_negative() {
        let [labels, first, second] = runs(90);
        let groups: Vec<u32> = (0..90).map(|i| i / 6).collect();
        let forth = compare(&labels, &first, &second, Some(&groups));
        let back = compare(&labels, &second, &first, Some(&groups));
        for (forth, back) in [
            (forth.accuracy, back.accuracy),
            (forth.balanced_accuracy, back.balanced_accuracy),
            (forth.macro_f1, back.macro_f1),
        ] {
            assert!((forth.difference + back.difference).abs() < 1e-12);
            assert!((forth.interval.low + back.interval.high).abs() < 1e-12);
            assert!((forth.p_value - back.p_value).abs() < 1e-12);
        }
        assert_eq!(forth.mcnemar.only_first, back.mcnemar.only_second);
    }

    #[test]
    fn comparison_of_a_run_with_itself_is_zero_and_not_certain() {
        let [labels, first, _] = runs(60);
        let found = compare(&labels, &first, &first, None);
        for difference in [found.accuracy, found.balanced_accuracy, found.macro_f1] {
            assert_eq!((difference.difference, difference.p_value), (0.0, 1.0));
            assert!(difference.interval.low < -0.01 && difference.interval.high > 0.01);
        }
    }

    #[test]
    fn comparison_of_copies_in_a_group_does_not_count_the_copies() {
        let [labels, first, second] = runs(300);
        let groups: Vec<u32> = (0..300).collect();
        let once = compare(&labels, &first, &second, Some(&groups)).balanced_accuracy;
        let twice = |classes: &[u32]| classes.repeat(4);
        let copies =
            compare(&twice(&labels), &twice(&first), &twice(&second), Some(&groups.repeat(4)));
        let width = |found: RunDifference| found.interval.high - found.interval.low;
        // What is added for images that were not seen shrinks, what was measured does not.
        let ratio = width(copies.balanced_accuracy) / width(once);
        assert!((0.95..=1.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn comparison_refuses_runs_on_other_images() {
        let (ids, mut other_ids) = (ids(3), ids(3));
        other_ids[2] = "z.png".to_owned();
        let first = TestRun { ids: &ids, labels: &[0, 1, 2], predictions: &[0, 1, 1] };
        let error = |second: TestRun<'_>, groups: Option<&[u32]>| {
            compare_runs(&first, &second, 3, groups, &CONFIG).unwrap_err().to_string()
        };
        let found = error(TestRun { ids: &other_ids, ..first }, None);
        assert!(found.starts_with("ids[2] is 2.png in the first run and z.png"), "{found}");
        let found = error(TestRun { labels: &[0, 2, 2], ..first }, None);
        assert!(found.starts_with("labels[1] is 1 in the first run and 2"), "{found}");
        assert!(error(TestRun { ids: &ids[..2], ..first }, None).contains("ids has 2 entries"));
        assert!(error(TestRun { predictions: &[0], ..first }, None).contains("predictions has 1"));
        assert!(error(first, Some(&[5, 5, 5])).starts_with("there are 1 groups, but at least 2"));
    }
}
