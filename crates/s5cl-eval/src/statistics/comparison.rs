//! How two runs differ on the same test images.

use serde::Serialize;

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
/// less than there are groups (without groups, images). Runs that differ in the same way on all of
/// a few images, or on none, may do otherwise on others: the variance of a class is at least
/// `p1 + p2 - (p1 - p2)^2` over n, with shares `p = (k + 2 q + 1/4) / (n + 3)` of its n images that
/// only the first run, or only the second, has right, where k of n were seen and q is that share
/// over all classes.
///
/// No replicate is drawn. `level` is the chance with which an interval is to hold the truth, in
/// `(0, 1)`. For other figures see [`crate::paired_bootstrap`].
///
/// By simulation at 95 %, for nine classes of 5 to 200 images, independent or in 5 to 40 groups,
/// 93 to 98 % of the draws are covered. Balanced accuracy at 0.95, test sets of five images a class,
/// and small classes of which one run has no image right err to the cautious side, with up to
/// 100 %. Where each class is in four of 40 groups only, which are then few for the difference in
/// accuracy, 91 to 96 % are covered. Of a single class that only one run has right, on a share of
/// up to 0.96 of the images, 91 to 100 % are covered with 20 to 60 images, 93 to 100 % with fewer.
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
    level: f64,
) -> Result<RunComparison, EvalError> {
    checked_level(level)?;
    same_images(first, second)?;
    let confusion = |run: &TestRun<'_>| Confusion::new(n_classes, run.labels, run.predictions);
    let (of_first, of_second) = (confusion(first)?, confusion(second)?);
    let what = if groups.is_some() { "groups" } else { "images" };
    let groups = Groups::new(first.labels.len(), groups)?;
    at_least(what, groups.n, 2)?;
    let paired = Paired { first, second, members: groups.members(), level };
    let of_classes = |score: fn(&Confusion) -> Score| {
        let (a, b) = (score(&of_first), score(&of_second));
        let added = |image: usize| {
            let label = first.labels[image] as usize;
            a.influence[label][first.predictions[image] as usize]
                - b.influence[label][second.predictions[image] as usize]
        };
        let slopes: Vec<f64> = a.slope.iter().zip(&b.slope).map(|(a, b)| 0.5 * (a + b)).collect();
        paired.difference(a.value - b.value, added, &slopes)
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
    /// The images of every group.
    members: Vec<Vec<usize>>,
    level: f64,
}

impl Paired<'_> {
    /// The interval of a difference, from what every image adds to it (less the mean of its
    /// class) and the derivative with respect to the recall of each class.
    fn difference(
        &self,
        difference: f64,
        added: impl Fn(usize) -> f64,
        slopes: &[f64],
    ) -> RunDifference {
        let labels = self.first.labels;
        let by_class = self.by_class(&added, slopes.len());
        // A mean that is taken from the same n values takes 1 / n of their spread away.
        let unbiased = |n: f64| n / (n - 1.0).max(0.5);
        let scales: Vec<f64> =
            by_class.iter().map(|class| unbiased(class.n_groups).sqrt()).collect();
        let of_image = |&image: &usize| added(image) * scales[labels[image] as usize];
        let of_group = |images: &Vec<usize>| images.iter().map(of_image).sum::<f64>().powi(2);
        let between: f64 = self.members.iter().map(of_group).sum();
        let single: f64 = by_class.iter().map(|class| unbiased(class.n) * class.squares).sum();
        let only = |run: usize| by_class.iter().map(|class| class.only[run]).sum::<f64>();
        let shares = [0, 1].map(|run| only(run) / labels.len() as f64);
        let unseen: f64 = slopes
            .iter()
            .zip(&by_class)
            .filter(|(_, class)| class.n > 0.0)
            .map(|(slope, class)| class.unseen(shares) * slope * slope)
            .sum();
        let deviation = (between.max(single) + unseen).sqrt();
        let df = self.members.len() as f64 - 1.0;
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

    fn by_class(&self, added: impl Fn(usize) -> f64, n_classes: usize) -> Vec<OfClass> {
        let TestRun { labels, .. } = *self.first;
        let is_right = |run: &TestRun<'_>, image: usize| run.predictions[image] == labels[image];
        let mut by_class = vec![OfClass::default(); n_classes];
        let mut last_group = vec![None; n_classes];
        for (group, images) in self.members.iter().enumerate() {
            for &image in images {
                let class_idx = labels[image] as usize;
                let class = &mut by_class[class_idx];
                class.n += 1.0;
                class.squares += added(image).powi(2);
                match (is_right(self.first, image), is_right(self.second, image)) {
                    (true, false) => class.only[0] += 1.0,
                    (false, true) => class.only[1] += 1.0,
                    _ => {}
                }
                if last_group[class_idx].replace(group) != Some(group) {
                    class.n_groups += 1.0;
                }
            }
        }
        by_class
    }
}

/// What the images of one class add to a difference.
#[derive(Clone, Copy, Debug, Default)]
struct OfClass {
    n: f64,
    /// Groups that have images of the class.
    n_groups: f64,
    /// Images that only the first run has right, and those that only the second has.
    only: [f64; 2],
    /// Sum of the squares of what the images add.
    squares: f64,
}

impl OfClass {
    /// By how much the variance of the mean of (first right) - (second right) is larger than the
    /// images show, if as many more of them were told apart as `shares` of all images are.
    fn unseen(&self, shares: [f64; 2]) -> f64 {
        let variance = |[first, second]: [f64; 2]| first + second - (first - second).powi(2);
        let drawn = [0, 1].map(|run| (self.only[run] + 2.0 * shares[run] + 0.25) / (self.n + 3.0));
        let seen = self.only.map(|k| k / self.n);
        (variance(drawn) - variance(seen)).max(0.0) / self.n
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

    const LEVEL: f64 = 0.95;

    fn ids(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("{i}.png")).collect()
    }

    fn compare(labels: &[u32], a: &[u32], b: &[u32], groups: Option<&[u32]>) -> RunComparison {
        let ids = ids(labels.len());
        let run = |predictions| TestRun { ids: &ids, labels, predictions };
        compare_runs(&run(a), &run(b), 3, groups, LEVEL).unwrap()
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
    fn comparison_of_a_class_that_one_run_never_has_right_is_not_certain() {
        for n in [2_u32, 5, 20] {
            let (right, wrong) = (vec![0; n as usize], vec![1; n as usize]);
            let groups: Vec<u32> = (0..n).collect();
            for groups in [None, Some(&groups[..])] {
                let forth = compare(&right, &right, &wrong, groups).balanced_accuracy;
                let back = compare(&right, &wrong, &right, groups).balanced_accuracy;
                assert_eq!((forth.difference, back.difference), (1.0, -1.0));
                assert_eq!((forth.interval.high, back.interval.low), (1.0, -1.0));
                // With this share of all images every one of n is told apart once in ten draws.
                let share = 0.1_f64.powf(1.0 / f64::from(n));
                assert!(forth.interval.low < share && forth.p_value > 0.0, "{forth:?}");
                assert!(back.interval.high > -share && back.p_value == forth.p_value, "{back:?}");
            }
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
            compare_runs(&first, &second, 3, groups, LEVEL).unwrap_err().to_string()
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
