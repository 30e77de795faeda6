//! Labeled batches in which every class finds its own kind and another.

use std::collections::BTreeMap;

use super::Draw;
use super::order::EpochOrder;
use crate::DataError;

/// The fewest draws of a class that is in a batch: an anchor and a positive.
const FEWEST_DRAWS: usize = 2;
/// The fewest classes in a batch: positives and negatives.
const FEWEST_CLASSES: usize = 2;

/// Gives each batch the same number of draws from several classes, in turn.
///
/// Guarantees, for any number of classes and labels:
///
/// - every batch has exactly `batch` draws, of at least 2 classes, with at least 2 draws of each
///   class in it, and these are different images unless the class has a single one (which then
///   comes twice, with another `repeat`);
/// - an epoch covers every labeled image;
/// - within an epoch two classes differ by at most one turn.
///
/// A batch holds `batch / per_class` classes, but never fewer than 2 nor more than there are;
/// what the division leaves over goes to the first of them, one draw each. The classes take
/// turns in an order that changes with the epoch. A class goes around its images in one order
/// per epoch, which is why its draws in one batch are different images. A class with few labels
/// goes around more often than one with many: classes are balanced, images are not.
pub struct ClassBalancedSampler {
    /// The order in which the classes take turns.
    turns: EpochOrder,
    /// The samples of each class, and their order.
    classes: Vec<(Vec<usize>, EpochOrder)>,
    batch: usize,
    /// Classes in a batch.
    active: usize,
    steps_per_epoch: u64,
}

impl ClassBalancedSampler {
    /// A sampler over pairs of sample index and class index.
    ///
    /// # Errors
    ///
    /// With fewer than 2 classes, a batch below 4 or `per_class` below 2: there would be no
    /// positive or no negative.
    pub fn new(
        samples: &[(usize, u32)],
        batch: usize,
        per_class: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let by_class = by_class(samples);
        let n_classes = by_class.len();
        if n_classes < FEWEST_CLASSES
            || batch < FEWEST_CLASSES * FEWEST_DRAWS
            || per_class < FEWEST_DRAWS
        {
            return Err(DataError::BadSampler {
                sampler: "ClassBalancedSampler",
                reason: format!(
                    "{n_classes} classes, batch {batch}, {per_class} per class; it needs at \
                     least 2 classes, a batch of 4 and 2 per class"
                ),
            });
        }
        let active = (batch / per_class).clamp(FEWEST_CLASSES, n_classes);
        // Turns that the largest class needs, and the steps in which every class gets as many.
        let largest = by_class.values().map(Vec::len).max().unwrap_or(0);
        let n_turns = largest.div_ceil(batch / active);
        let steps_per_epoch = (n_turns * n_classes).div_ceil(active) as u64;
        let classes = by_class
            .into_iter()
            .map(|(class_idx, samples)| {
                let order = EpochOrder::new(seed, format!("class {class_idx}"), samples.len());
                (samples, order)
            })
            .collect();
        let turns = EpochOrder::new(seed, "classes", n_classes);
        Ok(Self { turns, classes, batch, active, steps_per_epoch })
    }

    /// The batch of one step, counted from 0; draws of one class stand together.
    #[must_use]
    pub fn batch(&self, step: u64) -> Vec<Draw> {
        let epoch = step / self.steps_per_epoch;
        let first_slot = (step % self.steps_per_epoch) as usize * self.active;
        let class_order = self.turns.of(epoch);
        let mut draws = Vec::with_capacity(self.batch);
        for slot in first_slot..first_slot + self.active {
            let position = slot % self.classes.len();
            let (samples, order) = &self.classes[class_order[position]];
            let order = order.of(epoch);
            let given: usize =
                (position..slot).step_by(self.classes.len()).map(|slot| self.draws_in(slot)).sum();
            draws.extend((given..given + self.draws_in(slot)).map(|turn| Draw {
                sample_idx: samples[order[turn % samples.len()]],
                epoch,
                repeat: (turn / samples.len()) as u64,
            }));
        }
        draws
    }

    /// The number of draws in every batch.
    #[must_use]
    pub fn batch_len(&self) -> usize {
        self.batch
    }

    /// The number of classes in every batch.
    #[must_use]
    pub fn classes_per_batch(&self) -> usize {
        self.active
    }

    /// The number of batches in which every labeled image comes at least once.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// Draws in a class's turn; slots are counted through the epoch, `active` to a batch.
    fn draws_in(&self, slot: usize) -> usize {
        let left_over = self.batch % self.active;
        self.batch / self.active + usize::from(slot % self.active < left_over)
    }
}

/// The samples of each class that has any, by class index.
pub(super) fn by_class(samples: &[(usize, u32)]) -> BTreeMap<u32, Vec<usize>> {
    let mut by_class: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &(sample_idx, class_idx) in samples {
        by_class.entry(class_idx).or_default().push(sample_idx);
    }
    by_class
}
