//! The most similar keys of each query on CUDA devices: `top_k.cu` behind `split_rows.cu`.

#[cfg(feature = "cuda")]
mod cuda;
mod launch;

#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
pub(in crate::similarity) use cuda::find;
