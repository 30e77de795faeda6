//! Which samples make up a batch: pure functions of seed and step.
//!
//! A sampler has no position. Whoever knows the step knows the batch, so a checkpoint stores the
//! step and nothing else.

mod class_balanced;
mod order;
mod pool;
mod reference;

pub use class_balanced::ClassBalancedSampler;
pub use pool::PoolSampler;
pub use reference::ReferenceSampler;

/// One place in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Draw {
    /// The sample's index in the dataset.
    pub sample_idx: usize,
    /// The epoch of the sampler, counted from 0.
    pub epoch: u64,
    /// How often this epoch gave the sample before: 0 the first time. No two draws of a sampler
    /// agree in sample, epoch and repeat, so that views drawn from the three differ.
    pub repeat: u64,
}

#[cfg(test)]
mod tests;
