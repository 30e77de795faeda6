//! The search on CUDA devices.

use candle_core::{Result, Tensor};

use super::launch::{self, Found, Inputs, LIST_BYTES};
use crate::cuda::{CudaGpu, values};
use crate::similarity::TopK;
use crate::similarity::gpu::split_rows::Rows;

/// Indices and similarities `[n_queries, search.k]` of no more keys than there are; shapes were
/// checked.
pub(in crate::similarity) fn find(
    queries: &Tensor,
    keys: &Tensor,
    search: TopK,
    groups: Option<(&Tensor, &Tensor)>,
) -> Result<(Tensor, Tensor)> {
    let gpu = CudaGpu::of(queries.device().as_cuda_device()?);
    let (queries, keys) = (queries.contiguous()?, keys.contiguous()?);
    let groups = match groups {
        Some((queries, keys)) => Some([queries.contiguous()?, keys.contiguous()?]),
        None => None,
    };
    let ((n, dim), (n_keys, _)) = (queries.dims2()?, keys.dims2()?);
    let inputs = Inputs {
        queries: Rows { values: values(&queries, "top_k")?, n },
        keys: Rows { values: values(&keys, "top_k")?, n: n_keys },
        groups: match &groups {
            Some([queries, keys]) => Some([values(queries, "top_k")?, values(keys, "top_k")?]),
            None => None,
        },
        dim,
    };
    let Found { indices, similarities } = launch::find(&gpu, inputs, search, LIST_BYTES)?;
    let shape = (n, search.k);
    Ok((gpu.tensor(indices, shape), gpu.tensor(similarities, shape)))
}
