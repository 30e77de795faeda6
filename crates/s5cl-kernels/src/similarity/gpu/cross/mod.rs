//! Contrast of queries against keys on CUDA devices.
//!
//! Kernels and what they are given: `cross.cuh`, `cross_sums.cu`, `cross_gradient.cu`, behind
//! `split_rows.cu`.

#[cfg(feature = "cuda")]
mod cuda;
mod launch;
mod problem;

#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
pub(in crate::similarity) use cuda::apply;
