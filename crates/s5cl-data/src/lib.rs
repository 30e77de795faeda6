//! Tiles on disk or drawn on the fly: datasets, splits, samplers, prefetching loader.
//!
//! The way of a tile: a [`Spec`] names a dataset, [`open()`] indexes it, [`partition()`] says
//! which samples are learned from, chosen by and judged by, a sampler turns a step into a list of
//! [`Draw`]s, and a [`Loader`] makes the batch of each step ahead of time, in order. What is done
//! with a tile on the way into its batch is a closure: this crate knows no augmentation and no
//! tensor.
//!
//! Everything is a function of what is on disk, a seed and a step. No sampler has a position and
//! no number of workers changes a batch.
//!
//! ```
//! use s5cl_data::{LabelBudget, Loader, PoolSampler, Spec, TileBatch, open, partition};
//!
//! # fn main() -> Result<(), s5cl_data::DataError> {
//! let spec: Spec = "synthetic:tissue?size=16&images=300".parse()?;
//! let dataset = open(&spec)?.cached(1 << 20);
//! let parts = partition(&dataset, LabelBudget::PerClass(2), 0)?;
//! let sampler = PoolSampler::new(&parts.unlabeled, 8, 0)?;
//!
//! let loader = Loader::new(0..3, 2, 4, move |step| {
//!     let mut batch = TileBatch::with_capacity(8, 16, 16);
//!     for draw in sampler.batch(step) {
//!         batch.push(&dataset.tile(draw.sample_idx)?)?;
//!     }
//!     Ok::<_, s5cl_data::DataError>(batch)
//! });
//! for batch in loader {
//!     assert_eq!(batch.expect("synthetic tiles cannot fail").n(), 8);
//! }
//! # Ok(())
//! # }
//! ```

mod batch;
mod cache;
mod dataset;
mod decode;
mod digest;
mod error;
mod folder;
mod images;
mod loader;
mod manifest;
mod npz;
mod partition;
mod resize;
mod sample;
mod sampler;
mod selection;
mod spec;
pub mod synthetic;
#[cfg(test)]
mod test_support;

pub use batch::TileBatch;
pub use dataset::{CommonSize, Dataset, Tiles};
pub use error::DataError;
pub use images::open_images;
pub use loader::{Loader, LoaderError};
pub use manifest::{SplitCounts, SplitManifest};
pub use npz::{Exported, export_npz};
pub use partition::{LabelBudget, Partition, TEST_SHARE, VALIDATION_SHARE, partition};
pub use resize::resize;
pub use sample::{Sample, Split};
pub use sampler::{ClassBalancedSampler, Draw, PoolSampler, ReferenceSampler};
pub use spec::{Spec, open};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
