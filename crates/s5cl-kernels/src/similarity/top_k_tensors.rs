//! The most similar keys of each query where both are tensors.

use candle_core::{DType, Result, Tensor, bail};

use super::matrix;
use super::top_k::{TopK, find};
use crate::values::Values;

/// [`crate::top_k`] of tensors: indices and similarities.
///
/// On a CUDA device products are those of 22 bits of each number, relative to the largest of its
/// row, and sums are in f32: keys whose similarities differ by a rounding may change places, equal
/// ones are in order. Memory beyond inputs and outputs is about `4 (n_queries + n_keys) dim +
/// 8 n_queries k` bytes, and 256 MiB for lists. No value is read by the host: what is not finite, or
/// too long for a product in f32, is not refused. A product that is no number is never found, as if
/// there were fewer keys.
///
/// # Shapes
///
/// - `queries`: f32 `[n_queries, dim]`; `keys`: f32 `[n_keys, dim]`
/// - result: u32 and f32 `[n_queries, per_query]`, without gradient
///
/// # Errors
///
/// As [`crate::top_k`], or if a tensor is not an f32 matrix, the lengths of rows differ, or the tensors are
/// not on one device.
pub fn top_k_tensors(queries: &Tensor, keys: &Tensor, search: TopK) -> Result<(Tensor, Tensor)> {
    find_tensors(queries, keys, search, None)
}

/// [`crate::top_k_of_other_groups`] of tensors: indices and similarities, on a CUDA device as
/// [`top_k_tensors`].
///
/// # Shapes
///
/// - `queries`: f32 `[n_queries, dim]`; `keys`: f32 `[n_keys, dim]`
/// - `groups`: u32 `[n_queries]` and `[n_keys]`
/// - result: u32 and f32 `[n_queries, per_query]`, without gradient
///
/// # Errors
///
/// As [`top_k_tensors`], or if groups are not u32 or not as many as the rows.
pub fn top_k_tensors_of_other_groups(
    queries: &Tensor,
    keys: &Tensor,
    search: TopK,
    groups: (&Tensor, &Tensor),
) -> Result<(Tensor, Tensor)> {
    for (groups, rows) in [(groups.0, queries), (groups.1, keys)] {
        let (n, _) = matrix(rows, "top_k_tensors_of_other_groups")?;
        if groups.dims() != [n] || groups.dtype() != DType::U32 {
            bail!(
                "top_k_tensors_of_other_groups: expected u32 groups [{n}], got {:?} {:?}",
                groups.dtype(),
                groups.shape()
            )
        }
    }
    find_tensors(queries, keys, search, Some(groups))
}

fn find_tensors(
    queries: &Tensor,
    keys: &Tensor,
    search: TopK,
    groups: Option<(&Tensor, &Tensor)>,
) -> Result<(Tensor, Tensor)> {
    let ((n, dim), (_, key_dim)) = (matrix(queries, "top_k")?, matrix(keys, "top_k")?);
    if dim != key_dim {
        bail!("top_k: queries {:?} and keys {:?} differ in length", queries.shape(), keys.shape())
    }
    #[cfg(feature = "cuda")]
    if queries.device().is_cuda() {
        if search.k == 0 || dim == 0 {
            bail!("top_k: expected k above 0 and rows that are not empty, got {search:?}, {dim}")
        }
        let k = search.per_query(keys.dim(0)?);
        return super::gpu::top_k::find(queries, keys, TopK { k, ..search }, groups);
    }
    let (queries, keys) = (queries.contiguous()?, keys.contiguous()?);
    let groups = match groups {
        Some((queries, keys)) => Some((queries.to_vec1()?, keys.to_vec1()?)),
        None => None,
    };
    let groups = groups.as_ref().map(|(queries, keys)| (&queries[..], &keys[..]));
    let neighbors =
        find(&Values::of(&queries, "top_k")?, &Values::of(&keys, "top_k")?, dim, search, groups)?;
    let shape = (n, neighbors.per_query);
    let device = queries.device();
    let indices = Tensor::from_vec(neighbors.indices, shape, device)?;
    Ok((indices, Tensor::from_vec(neighbors.similarities, shape, device)?))
}
