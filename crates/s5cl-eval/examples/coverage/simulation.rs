//! Synthetic evaluations of which the truth is known, and how often intervals hold it.

use std::fmt;

use s5cl_eval::{
    BootstrapConfig, EvalError, Interval, TestRun, accuracy_intervals, bootstrap, compare_runs,
    over_seeds, paired_over_seeds,
};
use s5cl_random::{Stream, named_stream};

/// Images of a class, from few to many.
pub(crate) const MIXED: &[usize] = &[5, 8, 12, 20, 30, 50, 80, 120, 200];
/// Classes of few images only.
pub(crate) const SMALL: &[usize] = &[5; 9];
/// Two classes of many images and one of few.
pub(crate) const ONE_SMALL: &[usize] = &[60, 60, 5];
/// Classes with fewer images than this count as small.
const SMALL_CLASS: usize = 20;
const LEVEL: f64 = 0.95;

/// How the images of a test set come in groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grouping {
    /// Groups, as slides or patients.
    pub(crate) n_groups: usize,
    /// In how many of them the images of one class are; all for mixed slides, few for slides that
    /// show mostly one tissue.
    pub(crate) n_groups_of_class: usize,
    /// Deviation of the log odds of being right between groups, half of its variance common to
    /// the classes of a group; 1 is an intraclass correlation of about 0.15.
    pub(crate) deviation: f64,
}

/// One kind of test set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Images of every class.
    pub(crate) support: &'static [usize],
    /// Mean recall of the classes.
    pub(crate) accuracy: f64,
    /// `None` for independent images.
    pub(crate) grouping: Option<Grouping>,
}

/// How often intervals held the truth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    n_held: u32,
    n: u32,
}

impl Coverage {
    /// Counts one interval.
    pub(crate) fn count(&mut self, interval: Interval, truth: f64) {
        self.n_held += u32::from(interval.contains(truth));
        self.n += 1;
    }

    /// Share of intervals that held the truth; NaN before the first.
    pub(crate) fn share(&self) -> f64 {
        f64::from(self.n_held) / f64::from(self.n)
    }
}

/// Coverage of the figures of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunCoverage {
    pub(crate) accuracy: Coverage,
    pub(crate) balanced_accuracy: Coverage,
    pub(crate) macro_f1: Coverage,
    /// Recall of classes of fewer than 20 images.
    pub(crate) recall_small: Coverage,
    /// Recall of the others.
    pub(crate) recall_large: Coverage,
}

/// Coverage of the differences between two runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PairedCoverage {
    pub(crate) accuracy: Coverage,
    pub(crate) balanced_accuracy: Coverage,
    pub(crate) macro_f1: Coverage,
}

impl fmt::Display for PairedCoverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [accuracy, balanced, f1] =
            [self.accuracy, self.balanced_accuracy, self.macro_f1].map(|found| found.share());
        write!(f, "accuracy {accuracy:.3}, balanced {balanced:.3}, macro F1 {f1:.3}")
    }
}

/// Accuracy, balanced accuracy, macro F1.
type Figures = [f64; 3];

impl Setting {
    /// Recall of every class over all groups: spread around the mean, most where there is room.
    fn recalls(&self, accuracy: f64) -> Vec<f64> {
        let deviation = self.grouping.map_or(0.0, |grouping| grouping.deviation);
        let levels = self.levels();
        let of_class = |class_idx| mean_recall(levels(accuracy, class_idx as u32), deviation);
        (0..self.support.len()).map(of_class).collect()
    }

    /// The figures of endlessly many test sets with these numbers of images.
    fn truth(&self, recalls: &[f64]) -> Figures {
        let n_classes = recalls.len();
        let n: usize = self.support.iter().sum();
        let hits: Vec<f64> = recalls.iter().zip(self.support).map(|(r, &n)| r * n as f64).collect();
        let mut f1 = 0.0;
        for class_idx in 0..n_classes {
            let mistaken: f64 = (0..n_classes)
                .filter(|&label| label != class_idx)
                .map(|label| {
                    let wrong = self.support[label] as f64 - hits[label];
                    let is_next = (label + 1) % n_classes == class_idx;
                    wrong * (0.4 / (n_classes - 1) as f64 + if is_next { 0.6 } else { 0.0 })
                })
                .sum();
            let denominator = self.support[class_idx] as f64 + hits[class_idx] + mistaken;
            f1 += 2.0 * hits[class_idx] / denominator / n_classes as f64;
        }
        let balanced = recalls.iter().sum::<f64>() / n_classes as f64;
        [hits.iter().sum::<f64>() / n as f64, balanced, f1]
    }

    fn labels(&self) -> Vec<u32> {
        let classes = self.support.iter().enumerate();
        classes.flat_map(|(class_idx, &n)| vec![class_idx as u32; n]).collect()
    }

    /// A group for every image, and by how much its log odds are shifted.
    fn groups(&self, labels: &[u32], stream: &mut Stream) -> (Option<Vec<u32>>, Vec<f64>) {
        let (groups, shifts, _) = self.paired_groups(labels, stream);
        (groups, shifts)
    }

    /// The same for two runs, of which half of the shifts' variance is in common: a slide that is
    /// hard for one is not always hard for the other.
    fn paired_groups(
        &self,
        labels: &[u32],
        stream: &mut Stream,
    ) -> (Option<Vec<u32>>, Vec<f64>, Vec<f64>) {
        let Some(grouping) = self.grouping else {
            return (None, vec![0.0; labels.len()], vec![0.0; labels.len()]);
        };
        let n_cells = grouping.n_groups * self.support.len();
        let mut normals =
            |n: usize| -> Vec<f64> { (0..n).map(|_| f64::from(stream.normal())).collect() };
        let common = (normals(grouping.n_groups), normals(n_cells));
        let own: Vec<_> = (0..2).map(|_| (normals(grouping.n_groups), normals(n_cells))).collect();
        let (mut groups, mut shifts) = (Vec::new(), [Vec::new(), Vec::new()]);
        for &label in labels {
            let nth = stream.below(grouping.n_groups_of_class);
            let group = (label as usize * 7 + nth * 3) % grouping.n_groups;
            let cell = group * self.support.len() + label as usize;
            groups.push(group as u32);
            for (shifts, own) in shifts.iter_mut().zip(&own) {
                let sum = common.0[group] + common.1[cell] + own.0[group] + own.1[cell];
                shifts.push(0.5 * grouping.deviation * sum);
            }
        }
        let [first, second] = shifts;
        (Some(groups), first, second)
    }

    /// How often the intervals of one run hold the truth in `n_draws` test sets.
    pub(crate) fn coverage(&self, n_draws: u32) -> Result<RunCoverage, EvalError> {
        self.coverage_with(n_draws, true)
    }

    /// The same with intervals that are not told of the groups.
    pub(crate) fn coverage_without_groups(&self, n_draws: u32) -> Result<RunCoverage, EvalError> {
        self.coverage_with(n_draws, false)
    }

    fn coverage_with(&self, n_draws: u32, knows_groups: bool) -> Result<RunCoverage, EvalError> {
        let recalls = self.recalls(self.accuracy);
        let truth = self.truth(&recalls);
        let labels = self.labels();
        let mut coverage = RunCoverage::default();
        for draw in 0..n_draws {
            let mut stream = named_stream(u64::from(draw), "coverage");
            let (groups, shifts) = self.groups(&labels, &mut stream);
            let levels = self.levels();
            let predictions: Vec<u32> = labels
                .iter()
                .zip(&shifts)
                .map(|(&label, shift)| {
                    let chance = logistic(levels(self.accuracy, label) + shift);
                    let is_right = stream.uniform_f64() < chance;
                    answer(label, recalls.len(), is_right, &mut stream)
                })
                .collect();
            let groups = groups.as_deref().filter(|_| knows_groups);
            let found = accuracy_intervals(&labels, &predictions, recalls.len(), groups, LEVEL)?;
            coverage.accuracy.count(found.accuracy, truth[0]);
            coverage.balanced_accuracy.count(found.balanced_accuracy, truth[1]);
            coverage.macro_f1.count(found.macro_f1, truth[2]);
            for ((interval, &recall), n) in found.recall.iter().zip(&recalls).zip(self.support) {
                let is_small = *n < SMALL_CLASS;
                let of_size =
                    if is_small { &mut coverage.recall_small } else { &mut coverage.recall_large };
                if let Some(interval) = interval {
                    of_size.count(*interval, recall);
                }
            }
        }
        Ok(coverage)
    }

    /// How often the intervals of the difference hold it, between a run of this accuracy and one
    /// that is 0.04 worse; on half of the images both have the same luck. The second run has no
    /// image of the class `lost` right.
    pub(crate) fn paired_coverage(
        &self,
        n_draws: u32,
        lost: Option<u32>,
    ) -> Result<PairedCoverage, EvalError> {
        let worse = self.accuracy - 0.04;
        let mut recalls = self.recalls(worse);
        if let Some(class_idx) = lost {
            recalls[class_idx as usize] = 0.0;
        }
        let (first, second) = (self.truth(&self.recalls(self.accuracy)), self.truth(&recalls));
        let n_classes = recalls.len();
        let labels = self.labels();
        let ids: Vec<String> = (0..labels.len()).map(|i| i.to_string()).collect();
        let mut coverage = PairedCoverage::default();
        for draw in 0..n_draws {
            let mut stream = named_stream(u64::from(draw), "paired coverage");
            let (groups, shifts, other_shifts) = self.paired_groups(&labels, &mut stream);
            let levels = self.levels();
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for (image, &label) in labels.iter().enumerate() {
                let luck = stream.uniform_f64();
                let other = if stream.chance(0.5) { luck } else { stream.uniform_f64() };
                let of_first = logistic(levels(self.accuracy, label) + shifts[image]);
                let of_second = logistic(levels(worse, label) + other_shifts[image]);
                a.push(answer(label, n_classes, luck < of_first, &mut stream));
                let is_right = other < of_second && lost != Some(label);
                b.push(answer(label, n_classes, is_right, &mut stream));
            }
            let run = |predictions| TestRun { ids: &ids, labels: &labels, predictions };
            let found = compare_runs(&run(&a), &run(&b), n_classes, groups.as_deref(), LEVEL)?;
            coverage.accuracy.count(found.accuracy.interval, first[0] - second[0]);
            coverage
                .balanced_accuracy
                .count(found.balanced_accuracy.interval, first[1] - second[1]);
            coverage.macro_f1.count(found.macro_f1.interval, first[2] - second[2]);
        }
        Ok(coverage)
    }

    /// The log odds of a class at a mean recall.
    fn levels(&self) -> impl Fn(f64, u32) -> f64 {
        let n_classes = self.support.len();
        move |accuracy: f64, label: u32| {
            let spread = (1.0 - accuracy).min(0.2) * 0.8;
            // Neither rising nor falling with the number of images.
            let place = 2.0 * ((label as usize * 5) % n_classes) as f64 / (n_classes - 1) as f64;
            log_odds(accuracy + spread * (place - 1.0))
        }
    }
}

/// A figure of one image of which a test set shows the mean.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PerImage {
    /// Uniform between 0 and 1, as a precision.
    Bounded,
    /// Exponential with mean 1, as a loss.
    Skewed,
}

/// How often bootstrap intervals hold the mean of a figure of single images, in groups of five
/// that share half of it.
pub(crate) fn bootstrap_coverage(
    figure: PerImage,
    n_groups: usize,
    n_draws: u32,
    replicates: usize,
) -> Result<Coverage, EvalError> {
    const GROUP_SIZE: usize = 5;
    let groups: Vec<u32> = (0..n_groups * GROUP_SIZE).map(|i| (i / GROUP_SIZE) as u32).collect();
    let truth = match figure {
        PerImage::Bounded => 0.5,
        PerImage::Skewed => 1.0,
    };
    let mut coverage = Coverage::default();
    for draw in 0..n_draws {
        let mut stream = named_stream(u64::from(draw), "bootstrap coverage");
        let mut value = || match figure {
            PerImage::Bounded => stream.uniform_f64(),
            PerImage::Skewed => -(1.0 - stream.uniform_f64()).ln(),
        };
        let shared: Vec<f64> = (0..n_groups).map(|_| value()).collect();
        let values: Vec<f64> =
            groups.iter().map(|&group| 0.5 * (shared[group as usize] + value())).collect();
        let mean = |drawn: &[usize]| {
            Some(drawn.iter().map(|&image| values[image]).sum::<f64>() / drawn.len() as f64)
        };
        let config = BootstrapConfig { replicates, level: LEVEL, seed: u64::from(draw) };
        coverage.count(bootstrap(groups.len(), Some(&groups), &config, mean)?.interval, truth);
    }
    Ok(coverage)
}

/// How often the intervals over `n_seeds` normal values, and of paired differences of such, hold
/// their means.
pub(crate) fn seed_coverage(
    n_seeds: usize,
    n_draws: u32,
) -> Result<(Coverage, Coverage), EvalError> {
    let (mut single, mut paired) = (Coverage::default(), Coverage::default());
    for draw in 0..n_draws {
        let mut stream = named_stream(u64::from(draw), "seeds");
        let mut values = |mean: f64, deviation: f64| -> Vec<f64> {
            (0..n_seeds).map(|_| mean + deviation * f64::from(stream.normal())).collect()
        };
        let (split, first, second) = (values(0.0, 0.03), values(0.8, 0.01), values(0.75, 0.02));
        let add = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(&split).map(|(value, split)| value + split).collect()
        };
        let (first, second) = (add(&first), add(&second));
        if let Some(interval) = over_seeds(&first, LEVEL)?.interval {
            single.count(interval, 0.8);
        }
        if let Some(interval) = paired_over_seeds(&first, &second, LEVEL)?.interval {
            paired.count(interval, 0.05);
        }
    }
    Ok((single, paired))
}

/// The label, or another class: the next one more often than the rest.
fn answer(label: u32, n_classes: usize, is_right: bool, stream: &mut Stream) -> u32 {
    if is_right {
        return label;
    }
    let step = if stream.chance(0.6) { 1 } else { 1 + stream.below(n_classes - 1) };
    (label + step as u32) % n_classes as u32
}

fn log_odds(chance: f64) -> f64 {
    (chance / (1.0 - chance)).ln()
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// Mean of the chance over a normal deviate of its log odds, by a sum over a fine grid.
fn mean_recall(log_odds: f64, deviation: f64) -> f64 {
    let grid = (-800..=800).map(|step| f64::from(step) / 100.0);
    let (mut sum, mut weights) = (0.0, 0.0);
    for x in grid {
        let weight = (-0.5 * x * x).exp();
        sum += weight * logistic(log_odds + deviation * x);
        weights += weight;
    }
    sum / weights
}
