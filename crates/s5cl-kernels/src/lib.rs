//! Differentiable operations for candle, made for training.
//!
//! candle's own convolution, batch normalization and pooling are made for inference: their
//! backward passes are slow, or refused. The operations here have the same meaning as PyTorch's,
//! forward and backward, and differ from candle's in three points:
//!
//! - Feature maps are `[batch, height, width, channels]` (NHWC): pixels are the rows of every
//!   matrix product, which is where a GEMM is near the hardware's peak.
//! - A result does not depend on the number of threads: work is cut by the shapes alone, and
//!   partial sums are added in a fixed order.
//! - What belongs together is one pass over memory: normalization, residual sum and ReLU; cross
//!   entropy and its gradient; similarities between many rows, their softmax and its gradient; a
//!   step of an optimizer.
//!
//! What there is:
//!
//! - [`Network`]: a whole network of convolutions as one operation, for training at speed.
//! - [`conv2d`], [`batch_norm_train`], [`batch_norm_eval`], [`max_pool2d`],
//!   [`global_average_pool`], [`linear`], [`cross_entropy`]: its parts, and what follows it, one
//!   at a time.
//! - [`sup_con`], [`nt_xent`], [`contrast`], [`cross_contrast`]: contrastive losses on any number
//!   of rows in bounded memory. [`top_k`]: exact nearest neighbors.
//! - [`adamax_step`], [`adamw_step`], [`sgd_step`], [`average_step`]: steps in place.
//!
//! Vector instructions are found at run time: AVX-512, AVX2 or NEON. All `unsafe` code of the
//! project lives in this crate, in the modules that open with `#![expect(unsafe_code)]`.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use s5cl_kernels::{Conv2dConfig, conv2d, max_pool2d};
//!
//! # fn main() -> candle_core::Result<()> {
//! let image = Tensor::ones((1, 8, 8, 3), candle_core::DType::F32, &Device::Cpu)?;
//! let weight = Var::ones((4, 3, 3, 3), candle_core::DType::F32, &Device::Cpu)?;
//! let features = conv2d(&image, &weight, Conv2dConfig::same(3))?;
//! let pooled = max_pool2d(&features, 3, 2, 1)?;
//! assert_eq!(pooled.dims(), [1, 4, 4, 4]);
//! let gradients = pooled.sum_all()?.backward()?;
//! assert!(gradients.get(&weight).is_some());
//! # Ok(())
//! # }
//! ```

mod batch_norm;
mod conv2d;
mod cross_entropy;
mod global_average_pool;
mod linear;
mod max_pool2d;
mod network;
mod optimizer_step;
mod similarity;
mod window;
mod winograd;

mod product;

mod microkernel;
mod panels;
mod scratch;
mod simd;
mod values;

#[cfg(any(feature = "cuda", test))]
mod cuda;

#[cfg(test)]
mod checks;

pub use batch_norm::{BatchNormOutput, batch_norm_eval, batch_norm_train};
pub use conv2d::{Conv2dConfig, conv2d};
pub use cross_entropy::{CrossEntropyConfig, cross_entropy};
pub use global_average_pool::global_average_pool;
pub use linear::linear;
pub use max_pool2d::max_pool2d;
pub use network::{BatchStatistics, Maps, Network, NetworkOutput};
pub use optimizer_step::{
    StepConfig, adamax_step, adamw_step, average_step, gradient_norm, sgd_step,
};
pub use similarity::{
    CrossContrast, Neighbors, Positives, Reduction, Segment, SimilarityPrecision, Temperature,
    TopK, contrast, contrast_with_precision, cross_contrast, nt_xent, sup_con,
    sup_con_anchor_losses, top_k, top_k_of_other_groups, top_k_tensors,
    top_k_tensors_of_other_groups,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
