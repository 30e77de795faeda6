//! Intervals of accuracy, balanced accuracy, macro F1 and the recall of every class.

use serde::Serialize;

use super::groups::{Correlation, Groups};
use super::interval::{Interval, checked_level, mid_p, proportion_by_group, small_sample_factor};
use super::score::Score;
use crate::classification::Confusion;
use crate::error::EvalError;

/// What [`accuracy_intervals`] gives; all figures are fractions in `[0, 1]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccuracyIntervals {
    /// Of [`Confusion::accuracy`].
    pub accuracy: Interval,
    /// Of [`Confusion::balanced_accuracy`].
    pub balanced_accuracy: Interval,
    /// Of [`Confusion::macro_f1`].
    pub macro_f1: Interval,
    /// Of the recall of every class, in the order of the class index; `None` for a class that
    /// does not occur.
    pub recall: Vec<Option<Interval>>,
}

/// The intervals in which accuracy, balanced accuracy, macro F1 and the recall of every class lie
/// with chance `level`, in `(0, 1)`, for the images (and groups) that the test set is a sample of.
///
/// Every figure gets an effective number of images, with which it would have its variance if it
/// were a plain proportion, `n_effective = value (1 - value) / variance`, and the [`mid_p`]
/// interval of that number.
///
/// - Accuracy: the number of images; with groups [`proportion_by_group`].
/// - Recall: the number of images of the class; with groups divided by the design effect
///   `1 + (m - 1) rho`, where m is the size of the group that a random image of the class is in
///   and rho the correlation within groups, pooled over classes.
/// - Balanced accuracy and macro F1: the variance by their derivatives with respect to the counts
///   (delta method), given how many images each class has. A class's share in it uses a recall
///   that is drawn towards the mean (`(hits + 2 mean + 1/2) / (n + 3)`), so that a class of five
///   images that are all right does not count as certain. With groups every share is multiplied
///   by its design effect, and what the classes of one group have in common is added.
///
/// With groups z gives way to Student's t. No replicate is drawn; see [`crate::bootstrap`] for
/// other figures.
///
/// # How honest
///
/// By simulation at 95 %, for nine classes of 5 to 200 images and accuracies of 0.6 to 0.95, with
/// independent images and with 20 or 40 groups, 93 to 97 % of the draws are covered. It errs to
/// the cautious side, with 97 to 99 %, where few values are possible: recall of classes below 20
/// images, balanced accuracy at 0.95 with such classes, test sets of five images a class. With 10
/// groups 93 to 99 % are covered, with 5 groups 93 to 99.9 %.
///
/// Two things are taken for granted: how alike the images of a group are does not differ much
/// between classes, and macro F1 is that of test sets with the same number of images in every
/// class, each of which occurs.
///
/// # Shapes
///
/// `labels` and `predictions`: `[n]` class indices below `n_classes`. `groups`: `[n]`, any number
/// that is the same for images of the same slide or patient; `None` for independent images.
///
/// # Errors
///
/// When there is no label, lengths differ, a class index is not below `n_classes`, or the level is
/// not between 0 and 1.
///
/// # Example
///
/// ```
/// use s5cl_eval::accuracy_intervals;
///
/// let labels = [0, 0, 0, 0, 1, 1, 1, 1];
/// let predictions = [0, 0, 0, 1, 1, 1, 1, 1];
/// let intervals = accuracy_intervals(&labels, &predictions, 2, None, 0.95)?;
/// assert!(intervals.accuracy.contains(0.6) && !intervals.accuracy.contains(0.5));
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn accuracy_intervals(
    labels: &[u32],
    predictions: &[u32],
    n_classes: usize,
    groups: Option<&[u32]>,
    level: f64,
) -> Result<AccuracyIntervals, EvalError> {
    checked_level(level)?;
    let confusion = Confusion::new(n_classes, labels, predictions)?;
    let cells = Cells::new(labels, predictions, n_classes, groups, level)?;
    Ok(AccuracyIntervals {
        accuracy: cells.accuracy(),
        balanced_accuracy: cells.of(&Score::balanced_accuracy(&confusion), &confusion),
        macro_f1: cells.of(&Score::macro_f1(&confusion), &confusion),
        recall: (0..n_classes).map(|class_idx| cells.recall(class_idx)).collect(),
    })
}

/// The images by class and group.
struct Cells<'a> {
    labels: &'a [u32],
    predictions: &'a [u32],
    groups: Option<Groups>,
    /// (hits, images) of a class in every group that has images of it.
    by_class: Vec<Vec<(f64, f64)>>,
    correlation: Correlation,
    level: f64,
    /// `(z / t)^2` of a recall, and of a figure of all classes; 1 without groups.
    factors: (f64, f64),
}

impl<'a> Cells<'a> {
    fn new(
        labels: &'a [u32],
        predictions: &'a [u32],
        n_classes: usize,
        groups: Option<&[u32]>,
        level: f64,
    ) -> Result<Self, EvalError> {
        let n_samples = labels.len();
        let groups = groups.map(|groups| Groups::new(n_samples, Some(groups))).transpose()?;
        let members =
            groups.as_ref().map_or_else(|| vec![(0..n_samples).collect()], Groups::members);
        let mut by_class: Vec<Vec<(f64, f64)>> = vec![Vec::new(); n_classes];
        let mut last_group = vec![None; n_classes];
        for (group, samples) in members.iter().enumerate() {
            for &sample in samples {
                let label = labels[sample] as usize;
                if last_group[label].replace(group) != Some(group) {
                    by_class[label].push((0.0, 0.0));
                }
                if let Some(cell) = by_class[label].last_mut() {
                    cell.0 += f64::from(u8::from(labels[sample] == predictions[sample]));
                    cell.1 += 1.0;
                }
            }
        }
        let correlation = Correlation::pooled(&by_class);
        let factors = groups.as_ref().map_or((1.0, 1.0), |groups| {
            let of_all = small_sample_factor(groups.n as f64 - 1.0, level);
            (small_sample_factor(correlation.df, level), of_all)
        });
        Ok(Self { labels, predictions, groups, by_class, correlation, level, factors })
    }

    /// By how much a class's share of a variance grows with groups.
    fn design_effect(&self, cells: &[(f64, f64)]) -> f64 {
        self.groups.as_ref().map_or(1.0, |_| self.correlation.design_effect(cells))
    }

    fn accuracy(&self) -> Interval {
        let is_hit = |sample: usize| self.labels[sample] == self.predictions[sample];
        let Some(groups) = &self.groups else {
            let hits = (0..self.labels.len()).filter(|&sample| is_hit(sample)).count();
            return mid_p(hits as f64, self.labels.len() as f64, self.level);
        };
        let mut counts = vec![(0, 0); groups.n];
        for (sample, &group) in groups.of_sample.iter().enumerate() {
            counts[group].0 += u64::from(is_hit(sample));
            counts[group].1 += 1;
        }
        proportion_by_group(&counts, self.level)
    }

    fn recall(&self, class_idx: usize) -> Option<Interval> {
        let cells = &self.by_class[class_idx];
        let n: f64 = cells.iter().map(|(_, n)| n).sum();
        let hits: f64 = cells.iter().map(|(hits, _)| hits).sum();
        (n > 0.0).then(|| {
            let n_effective = n / self.design_effect(cells) * self.factors.0;
            mid_p(hits / n * n_effective, n_effective, self.level)
        })
    }

    fn of(&self, score: &Score, confusion: &Confusion) -> Interval {
        let n_classes = self.by_class.len();
        let mean_recall = confusion.balanced_accuracy();
        let (mut variance, mut drawn_sum, mut n_occurring) = (0.0, 0.0, 0.0);
        for (class_idx, cells) in self.by_class.iter().enumerate() {
            let n: f64 = cells.iter().map(|(_, n)| n).sum();
            if n == 0.0 {
                continue;
            }
            let hits: f64 = cells.iter().map(|(hits, _)| hits).sum();
            let recall = hits / n;
            let drawn = (hits + 2.0 * mean_recall + 0.5) / (n + 3.0);
            let excess = (drawn * (1.0 - drawn) - recall * (1.0 - recall)).max(0.0) / n;
            let measured: f64 = (0..n_classes)
                .map(|prediction| {
                    confusion.count(class_idx, prediction) as f64
                        * score.influence[class_idx][prediction].powi(2)
                })
                .sum();
            let share = measured + excess * score.slope[class_idx].powi(2);
            variance += share * self.design_effect(cells);
            drawn_sum += drawn;
            n_occurring += 1.0;
        }
        variance += self.common_to_groups(score);
        // At 0 and 1 the plain product would be zero, and so would the number of images.
        let is_inside = score.value > 0.0 && score.value < 1.0;
        let center = if is_inside { score.value } else { drawn_sum / n_occurring };
        let n_effective = center * (1.0 - center) / variance * self.factors.1;
        let n_effective = n_effective.min(self.labels.len() as f64);
        mid_p(score.value.clamp(0.0, 1.0) * n_effective, n_effective, self.level)
    }

    /// Covariance between the shares of different classes that lie in the same group; what is
    /// measured below zero is chance.
    fn common_to_groups(&self, score: &Score) -> f64 {
        let Some(groups) = &self.groups else {
            return 0.0;
        };
        // Of one group at a time; a table of all groups and classes could be large.
        let mut sums = vec![0.0; self.by_class.len()];
        let mut common = |samples: &Vec<usize>| {
            for &sample in samples {
                let label = self.labels[sample] as usize;
                sums[label] += score.influence[label][self.predictions[sample] as usize];
            }
            let (mut sum, mut squares) = (0.0, 0.0);
            for &sample in samples {
                // A class counts with its first sample, and is ready for the next group.
                let of_class = std::mem::take(&mut sums[self.labels[sample] as usize]);
                sum += of_class;
                squares += of_class * of_class;
            }
            sum * sum - squares
        };
        groups.members().iter().map(&mut common).sum::<f64>().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: f64 = 0.95;
    const LABELS: [u32; 14] = [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2];
    const PREDICTIONS: [u32; 14] = [0, 0, 0, 0, 2, 1, 1, 0, 1, 2, 2, 2, 2, 2];
    /// Sums in another order.
    const TOLERANCE: f64 = 1e-12;

    fn of(groups: Option<&[u32]>) -> AccuracyIntervals {
        accuracy_intervals(&LABELS, &PREDICTIONS, 4, groups, LEVEL).unwrap()
    }

    #[test]
    fn intervals_of_independent_images_are_those_of_proportions() {
        let found = of(None);
        assert_eq!(found.accuracy, mid_p(12.0, 14.0, 0.95));
        assert_eq!(found.recall[0], Some(mid_p(4.0, 5.0, 0.95)));
        assert_eq!(found.recall[2], Some(mid_p(5.0, 5.0, 0.95)));
        assert_eq!(found.recall[3], None);
    }

    #[test]
    fn intervals_hold_their_figures_and_narrow_with_copies() {
        let confusion = Confusion::new(4, &LABELS, &PREDICTIONS).unwrap();
        let found = of(None);
        assert!(found.balanced_accuracy.contains(confusion.balanced_accuracy()));
        assert!(found.macro_f1.contains(confusion.macro_f1()));
        let (labels, predictions) = (LABELS.repeat(100), PREDICTIONS.repeat(100));
        let more = accuracy_intervals(&labels, &predictions, 4, None, LEVEL).unwrap();
        for (few, more) in
            [(found.balanced_accuracy, more.balanced_accuracy), (found.macro_f1, more.macro_f1)]
        {
            // A tenth, were it not for what is added to few images.
            assert!((more.high - more.low) / (few.high - few.low) < 0.12);
        }
    }

    #[test]
    fn intervals_of_copies_in_a_group_do_not_count_the_copies() {
        // Each image once more in its own group: the images are groups of one, then of two.
        let once: Vec<u32> = (0..14).collect();
        let (labels, predictions) = (LABELS.repeat(2), PREDICTIONS.repeat(2));
        let twice = accuracy_intervals(&labels, &predictions, 4, Some(&once.repeat(2)), LEVEL);
        let (once, twice) = (of(Some(&once)), twice.unwrap());
        let distance = |a: Interval, b: Interval| (a.low - b.low).abs() + (a.high - b.high).abs();
        assert!(distance(once.accuracy, twice.accuracy) < TOLERANCE);
        for (once, twice) in once.recall.iter().zip(&twice.recall).take(3) {
            assert!(distance(once.unwrap(), twice.unwrap()) < TOLERANCE);
        }
        // What is measured of F1 and balanced accuracy is the same too; what is added for few
        // images is less.
        assert!(distance(once.macro_f1, twice.macro_f1) < 0.1);
        assert!(distance(once.balanced_accuracy, twice.balanced_accuracy) < 0.1);
    }

    #[test]
    fn intervals_do_not_depend_on_names_and_order_of_groups() {
        let groups: Vec<u32> = (0..14).map(|image| image % 5).collect();
        let renamed: Vec<u32> = groups.iter().map(|group| 100 - group).collect();
        assert_eq!(of(Some(&groups)), of(Some(&renamed)));
    }

    #[test]
    fn intervals_of_one_group_are_everything() {
        let found = of(Some(&[7; 14]));
        for interval in [found.accuracy, found.balanced_accuracy, found.macro_f1] {
            assert_eq!(interval, Interval::UNKNOWN);
        }
        assert_eq!(found.recall[0], Some(Interval::UNKNOWN));
    }

    #[test]
    fn intervals_of_a_perfect_run_reach_one_and_are_not_empty() {
        for groups in [None, Some(&[1_u32, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2][..])] {
            let found = accuracy_intervals(&LABELS, &LABELS, 3, groups, LEVEL).unwrap();
            for interval in [found.accuracy, found.balanced_accuracy, found.macro_f1] {
                assert!(interval.high == 1.0 && interval.low > 0.0 && interval.low < 0.95);
            }
        }
    }

    #[test]
    fn intervals_refuse_bad_input() {
        let error = |labels: &[u32], groups: Option<&[u32]>, level: f64| {
            accuracy_intervals(labels, &[0, 1], 2, groups, level).unwrap_err().to_string()
        };
        assert!(error(&[0], None, 0.95).contains("labels has 1 entries"));
        assert!(error(&[0, 5], None, 0.95).starts_with("labels[1] is 5"));
        assert!(error(&[0, 1], Some(&[1]), 0.95).contains("groups has 1 entries"));
        assert!(error(&[0, 1], None, 95.0).starts_with("level is 95"));
    }
}
