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
//! - [`Network`]: a whole network, of convolutions or of attention, as one operation, for training at
//!   speed.
//! - [`conv2d`], [`batch_norm_train`], [`batch_norm_eval`], [`running_statistics_step`],
//!   [`max_pool2d`], [`global_average_pool`], [`linear`], [`scale_rows`], [`cross_entropy`]: its
//!   parts, and what follows it, one at a time.
//! - [`sup_con`], [`nt_xent`], [`contrast`], [`cross_contrast`]: contrastive losses on any number
//!   of rows in bounded memory. [`top_k`]: exact nearest neighbors.
//! - [`ResidentTiles`]: tiles in the memory of a GPU, and augmented views of them made there.
//! - [`optimizer_step`], [`gradient_norm`], [`average_step`]: steps in place, of all parameters
//!   together.
//! - [`cuda_devices`], [`open_cuda_device`], [`device_memory`], [`Upload`], [`Readback`]: devices,
//!   and values on their way to one and back while it goes on.
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

mod activation;
mod attention;
mod batch_norm;
mod conv2d;
mod cross_entropy;
mod global_average_pool;
mod layer_norm;
mod linear;
mod max_pool2d;
mod network;
mod optimizer_step;
mod scaled_rows;
mod similarity;
mod tokens;
mod views;
mod window;
mod winograd;

mod devices;
mod transfer;

mod product;

mod exp2;
mod microkernel;
mod panels;
mod scratch;
mod simd;
mod values;

#[cfg(any(feature = "cuda", test))]
mod cuda;

#[cfg(test)]
mod checks;

// The name under which a file of the program, which the tests of views share, knows this crate.
#[cfg(test)]
extern crate self as s5cl_kernels;

pub use activation::Activation;
pub use batch_norm::{BatchNormOutput, batch_norm_eval, batch_norm_train, running_statistics_step};
pub use conv2d::{Conv2dConfig, conv2d};
pub use cross_entropy::{CrossEntropyConfig, cross_entropy};
pub use devices::{
    CudaDeviceInfo, DeviceMemory, LEAST_COMPUTE_CAPABILITY, cuda_devices, device_memory,
    forget_peak_memory, is_out_of_memory, open_cuda_device,
};
pub use global_average_pool::global_average_pool;
pub use linear::linear;
pub use max_pool2d::max_pool2d;
pub use network::{BatchStatistics, Maps, Network, NetworkOutput, Precision};
pub use optimizer_step::{
    GradientScale, Slot, StepConfig, StepItem, StepRule, average_step, clip_scale, gradient_norm,
    optimizer_step,
};
pub use scaled_rows::scale_rows;
pub use similarity::{
    CrossContrast, Neighbors, Positives, Reduction, Segment, SimilarityPrecision, Temperature,
    TopK, contrast, contrast_with_precision, cross_contrast, nt_xent, sup_con,
    sup_con_anchor_losses, top_k, top_k_of_other_groups, top_k_tensors,
    top_k_tensors_of_other_groups,
};
pub use tokens::TokenPool;
pub use transfer::{Readback, Upload};
pub use views::{ResidentTiles, ViewRequest, ViewStep};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
