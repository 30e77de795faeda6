//! Labeled batches as the reference implementation drew them, defect included.

use std::collections::BTreeMap;

use s5cl_random::named_stream;

use super::Draw;
use super::class_balanced::by_class;
use crate::DataError;

/// Reproduces the batches of the reference, in which a short batch can hold a single class.
///
/// An epoch is one list: over the shuffled classes, `per_class` images of each behind each other,
/// as many times as the labeled images fill such a pass (at least once). The list is then cut
/// into batches, whatever the cut leaves: 9 classes of 4 give 36 draws, so batches of 32 and 4,
/// and the batch of 4 has no negatives. Nor does an epoch cover every image. A class with fewer
/// than `per_class` images is drawn from with replacement.
///
/// # Source
///
/// The authors' notebook with the M-per-class sampler of pytorch-metric-learning, given the number of
/// labeled images as its list length. Only for comparison; [`ClassBalancedSampler`] has neither
/// defect.
///
/// [`ClassBalancedSampler`]: crate::ClassBalancedSampler
pub struct ReferenceSampler {
    classes: Vec<Vec<usize>>,
    batch: usize,
    per_class: usize,
    passes: usize,
    seed: u64,
}

impl ReferenceSampler {
    /// A sampler over pairs of sample index and class index.
    ///
    /// # Errors
    ///
    /// Without samples, or if `batch` or `per_class` is 0.
    pub fn new(
        samples: &[(usize, u32)],
        batch: usize,
        per_class: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        if samples.is_empty() || batch == 0 || per_class == 0 {
            return Err(DataError::BadSampler {
                sampler: "ReferenceSampler",
                reason: format!(
                    "{} images, batch {batch}, {per_class} per class; give 1 or more of each",
                    samples.len()
                ),
            });
        }
        let classes: Vec<_> = by_class(samples).into_values().collect();
        let passes = (samples.len() / (classes.len() * per_class)).max(1);
        Ok(Self { classes, batch, per_class, passes, seed })
    }

    /// The batch of one step, counted from 0.
    #[must_use]
    pub fn batch(&self, step: u64) -> Vec<Draw> {
        let epoch = step / self.steps_per_epoch();
        let start = (step % self.steps_per_epoch()) as usize * self.batch;
        let mut list = self.epoch_list(epoch);
        list.truncate(start + self.batch);
        list.split_off(start)
    }

    /// The number of batches in an epoch; the last one may be short.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        (self.passes * self.classes.len() * self.per_class).div_ceil(self.batch) as u64
    }

    fn epoch_list(&self, epoch: u64) -> Vec<Draw> {
        let mut stream = named_stream(self.seed, &format!("reference, epoch {epoch}"));
        let mut given: BTreeMap<usize, u64> = BTreeMap::new();
        let mut list = Vec::new();
        for _ in 0..self.passes {
            for class in stream.permutation(self.classes.len()) {
                let samples = &self.classes[class];
                let chosen = if samples.len() < self.per_class {
                    (0..self.per_class).map(|_| stream.below(samples.len())).collect()
                } else {
                    stream.permutation(samples.len())
                };
                for sample_idx in chosen.into_iter().take(self.per_class).map(|i| samples[i]) {
                    let times = given.entry(sample_idx).or_default();
                    list.push(Draw { sample_idx, epoch, repeat: *times });
                    *times += 1;
                }
            }
        }
        list
    }
}
