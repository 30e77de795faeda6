//! Contrastive and metric losses for candle, and the S5CL hierarchy of them.
//!
//! Tensors in, scalar out: the losses know no model, no data and no training loop.
//!
//! - [`SupCon`]: supervised contrast with every reduction found in the wild, by name.
//!   With each image its own class it is NT-Xent ([`instance_labels`]).
//! - [`TripletMargin`]: triplet margin loss on the hardest triplets of a batch.
//! - [`SupervisedLoss`]: the seam between them; [`supervised_loss`] makes one by name.
//! - [`Hierarchy`]: labels, then pseudo-labels or instances, then classification, with the
//!   temperature rule enforced.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use s5cl_losses::{Reduction, SupCon, SupervisedLoss};
//!
//! # fn main() -> candle_core::Result<()> {
//! let embeddings = Var::new(&[[1_f32, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 0.9]], &Device::Cpu)?;
//! let labels = Tensor::new(&[0_u32, 0, 1, 1], &Device::Cpu)?;
//! let loss = SupCon { temperature: 0.2, reduction: Reduction::MeanValid };
//! let value = loss.forward(&embeddings, &labels)?;
//! let gradients = value.backward()?;
//! assert!(gradients.get(&embeddings).is_some());
//! # Ok(())
//! # }
//! ```

mod supervised;

mod supcon;
mod triplet;

mod hierarchy;

mod distance;

pub use hierarchy::{Hierarchy, HierarchyConfig, LabeledViews, Terms, UnlabeledViews};
pub use s5cl_kernels::Reduction;
pub use supcon::{SupCon, instance_labels};
pub use supervised::{SUPERVISED_LOSSES, SupervisedConfig, SupervisedLoss, supervised_loss};
pub use triplet::TripletMargin;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
