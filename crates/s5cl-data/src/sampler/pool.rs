//! Batches out of the unlabeled pool.

use super::Draw;
use super::order::EpochOrder;
use crate::DataError;

/// Goes through the pool in a new random order each epoch.
///
/// An epoch has `ceil(n / batch)` batches. Where the last one runs over the end it is filled up
/// from the start of the same order, with `repeat` 1: every batch is full, every image comes at
/// least once an epoch, and no image comes twice in a batch (for a loss that takes each image as
/// its own class it would be its own negative). A pool smaller than the batch makes the batch
/// smaller.
pub struct PoolSampler {
    samples: Vec<usize>,
    batch: usize,
    shrunk: bool,
    order: EpochOrder,
}

impl PoolSampler {
    /// A sampler over the given sample indices.
    ///
    /// # Errors
    ///
    /// If the pool is empty or the batch is 0.
    pub fn new(samples: &[usize], batch: usize, seed: u64) -> Result<Self, DataError> {
        if samples.is_empty() || batch == 0 {
            let reason = format!("{} images in batches of {batch}; give 1 or more", samples.len());
            return Err(DataError::BadSampler { sampler: "PoolSampler", reason });
        }
        Ok(Self {
            samples: samples.to_vec(),
            batch: batch.min(samples.len()),
            shrunk: batch > samples.len(),
            order: EpochOrder::new(seed, "pool", samples.len()),
        })
    }

    /// The batch of one step, counted from 0.
    #[must_use]
    pub fn batch(&self, step: u64) -> Vec<Draw> {
        let n = self.samples.len();
        let epoch = step / self.steps_per_epoch();
        let start = (step % self.steps_per_epoch()) as usize * self.batch;
        let order = self.order.of(epoch);
        (start..start + self.batch)
            .map(|place| Draw {
                sample_idx: self.samples[order[place % n]],
                epoch,
                repeat: (place / n) as u64,
            })
            .collect()
    }

    /// The number of draws in every batch.
    #[must_use]
    pub fn batch_len(&self) -> usize {
        self.batch
    }

    /// True if the pool is smaller than the batch that was asked for.
    #[must_use]
    pub fn shrunk(&self) -> bool {
        self.shrunk
    }

    /// The number of batches in which every image comes at least once.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.samples.len().div_ceil(self.batch) as u64
    }
}
