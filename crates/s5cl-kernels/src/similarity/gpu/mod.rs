//! The contrastive losses on CUDA devices.
//!
//! Kernels and what they are given: `contrast.cuh`, `prologue.cu`, `powers.cu`, `losses.cu`,
//! `gradient.cu`, in the order in which they are started. What all similarities share: `tiles.cuh`.

#[cfg(feature = "cuda")]
mod cuda;
mod launch;
mod problem;

pub(super) mod cross;
pub(super) mod top_k;

mod split_rows;
mod splits;

#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
pub(super) use cuda::{anchor_losses, apply};
use launch::{Contrast, Inputs};
