//! Takes a share of each class out of a training set, whole groups at a time.

use std::collections::BTreeMap;

use s5cl_random::Stream;

use crate::Sample;

/// Samples that stay together: a group, or one sample that has none.
struct Unit {
    members: Vec<usize>,
    /// Labeled members per class, by class index.
    counts: BTreeMap<usize, usize>,
}

/// What is left to train on, in units.
pub(super) struct Remaining {
    units: Vec<Unit>,
    /// Labeled samples that are left per class.
    left: Vec<usize>,
    /// Labeled samples that there were per class.
    total: Vec<usize>,
}

impl Remaining {
    /// Takes all samples that are for training or for nothing in particular.
    pub(super) fn new(samples: &[Sample], training: &[usize], n_classes: usize) -> Self {
        let mut units: Vec<Unit> = Vec::new();
        let mut unit_of_group: BTreeMap<&str, usize> = BTreeMap::new();
        let mut total = vec![0; n_classes];
        for &sample_idx in training {
            let sample = &samples[sample_idx];
            let next = units.len();
            let unit_idx = match sample.group.as_deref() {
                Some(group) => *unit_of_group.entry(group).or_insert(next),
                None => next,
            };
            if unit_idx == next {
                units.push(Unit { members: Vec::new(), counts: BTreeMap::new() });
            }
            let unit = &mut units[unit_idx];
            unit.members.push(sample_idx);
            if let Some(class_idx) = sample.class_idx {
                *unit.counts.entry(class_idx as usize).or_default() += 1;
                total[class_idx as usize] += 1;
            }
        }
        Self { units, left: total.clone(), total }
    }

    /// How many samples of each class make up a share of what there was, rounded; at least one
    /// of a class that had `at_least_one_from` samples.
    pub(super) fn targets(&self, share: f64, at_least_one_from: usize) -> Vec<usize> {
        let target = |&total: &usize| {
            let rounded = (share * total as f64).round() as usize;
            rounded.max(usize::from(total >= at_least_one_from))
        };
        self.total.iter().map(target).collect()
    }

    /// Takes out units until each class comes as near to its target as whole units allow.
    ///
    /// One sample of every class stays. Without groups the targets are met exactly.
    pub(super) fn take(&mut self, targets: &[usize], stream: &mut Stream) -> Vec<usize> {
        stream.shuffle(&mut self.units);
        let mut taken = Taken { counts: vec![0; targets.len()], members: Vec::new() };
        let mut unit_idx = 0;
        while unit_idx < self.units.len() {
            let unit = &self.units[unit_idx];
            if self.gain(unit, targets, &taken.counts) > 0.0 && self.can_spare(unit) {
                self.remove(unit_idx, &mut taken);
            } else {
                unit_idx += 1;
            }
        }
        // Units larger than twice a class's target were passed over: where that left a class
        // without any, the unit that does the least harm is taken after all.
        for class_idx in 0..targets.len() {
            if targets[class_idx] > 0 && taken.counts[class_idx] == 0 {
                let least_harm = (0..self.units.len())
                    .filter(|&i| self.units[i].counts.contains_key(&class_idx))
                    .filter(|&i| self.can_spare(&self.units[i]))
                    .map(|i| (self.gain(&self.units[i], targets, &taken.counts), i))
                    .max_by(|a, b| a.0.total_cmp(&b.0));
                if let Some((_, unit_idx)) = least_harm {
                    self.remove(unit_idx, &mut taken);
                }
            }
        }
        taken.members
    }

    /// All samples that were not taken.
    pub(super) fn into_members(self) -> Vec<usize> {
        self.units.into_iter().flat_map(|unit| unit.members).collect()
    }

    fn remove(&mut self, unit_idx: usize, taken: &mut Taken) {
        // The order of the other units is random, so that a swap does no harm.
        let unit = self.units.swap_remove(unit_idx);
        for (&class_idx, &n) in &unit.counts {
            self.left[class_idx] -= n;
            taken.counts[class_idx] += n;
        }
        taken.members.extend(unit.members);
    }

    fn can_spare(&self, unit: &Unit) -> bool {
        unit.counts.iter().all(|(&class_idx, &n)| self.left[class_idx] > n)
    }

    /// How much nearer to the targets a unit brings what was taken, as a share of each class.
    fn gain(&self, unit: &Unit, targets: &[usize], taken: &[usize]) -> f64 {
        let class_gain = |(&class_idx, &n): (&usize, &usize)| {
            let before = targets[class_idx].abs_diff(taken[class_idx]) as f64;
            let after = targets[class_idx].abs_diff(taken[class_idx] + n) as f64;
            (before - after) / self.total[class_idx] as f64
        };
        unit.counts.iter().map(class_gain).sum()
    }
}

/// What was taken out so far.
struct Taken {
    counts: Vec<usize>,
    members: Vec<usize>,
}
