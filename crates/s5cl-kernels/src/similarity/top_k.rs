//! The most similar keys of each query, without a matrix of similarities.

use candle_core::{Result, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::pack::{Embeddings, PANEL, inverse_norm, norms, panels_len};
use super::tile::{BLOCK, Epilogue, LANES, Operands};
use crate::microkernel::Tile;
use crate::simd::dispatch;

/// Most bytes of keys that are laid out for the search at a time.
const CHUNK_BYTES: usize = 16 << 20;

/// What to search for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    /// How many keys of each query; above 0.
    pub k: usize,
    /// Whether similarity is the cosine; otherwise it is the dot product.
    pub is_cosine: bool,
    /// Whether query i is key i, which is not its own neighbor.
    pub excludes_own: bool,
}

/// The most similar keys of each query, most similar first; of equally similar keys the one with
/// the lower index first.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbors {
    /// Room for the keys of each query: `k`, or all that there are if there are fewer.
    pub per_query: usize,
    /// Indices of the keys, `[n_queries, per_query]`.
    pub indices: Vec<u32>,
    /// Their similarities, `[n_queries, per_query]`.
    pub similarities: Vec<f32>,
}

/// Finds the most similar keys of each query. The search is exact in f32 and does not depend on the
/// number of threads. Beside inputs, outputs and a few numbers per query, its memory is bounded for
/// any number of keys.
///
/// # Shapes
///
/// - `queries`: `[n_queries, dim]`, row after row; `keys`: `[n_keys, dim]`
///
/// # Errors
///
/// If `dim` or `k` is 0, a slice is not made of whole rows, a row is not finite, or the lengths of
/// a query and a key are such that their product can leave the range of f32.
///
/// # Example
///
/// ```
/// use s5cl_kernels::{TopK, top_k};
///
/// # fn main() -> candle_core::Result<()> {
/// let rows = [1.0, 0.0, 0.8, 0.6, 0.0, 1.0, 0.9, 0.1];
/// let search = TopK { k: 2, is_cosine: true, excludes_own: true };
/// let neighbors = top_k(&rows, &rows, 2, search)?;
/// assert_eq!(neighbors.indices[..2], [3, 1]);
/// # Ok(())
/// # }
/// ```
pub fn top_k(queries: &[f32], keys: &[f32], dim: usize, search: TopK) -> Result<Neighbors> {
    find(queries, keys, dim, search, None)
}

/// As [`top_k`], among the keys of other groups than the query's own: `groups` are any numbers, one
/// for each query and one for each key.
///
/// A query may find fewer keys than it has room for. What is missing stands behind the others, with
/// index [`u32::MAX`] and similarity -infinity.
///
/// # Errors
///
/// As [`top_k`], or if the groups are not as many as the rows.
pub fn top_k_of_other_groups(
    queries: &[f32],
    keys: &[f32],
    dim: usize,
    search: TopK,
    groups: (&[u32], &[u32]),
) -> Result<Neighbors> {
    let n_values = (groups.0.len() * dim, groups.1.len() * dim);
    if n_values != (queries.len(), keys.len()) {
        bail!(
            "top_k_of_other_groups: {} and {} groups do not fit {} and {} values in rows of {dim}",
            groups.0.len(),
            groups.1.len(),
            queries.len(),
            keys.len()
        )
    }
    find(queries, keys, dim, search, Some(groups))
}

/// [`top_k`], or [`top_k_of_other_groups`] if there are groups, as many as there are rows.
pub(super) fn find(
    queries: &[f32],
    keys: &[f32],
    dim: usize,
    search: TopK,
    groups: Option<(&[u32], &[u32])>,
) -> Result<Neighbors> {
    let TopK { k, is_cosine, excludes_own } = search;
    if k == 0 || dim == 0 || !queries.len().is_multiple_of(dim) || !keys.len().is_multiple_of(dim) {
        bail!(
            "top_k: expected k above 0 and whole rows of {dim} values, got k = {k}, {} and {} values",
            queries.len(),
            keys.len()
        )
    }
    let of_queries = Scaled::new(queries, dim, is_cosine, ("query", 0))?;
    let queries = Embeddings { values: queries, dim, factors: &of_queries.factors };
    let excluded = Excluded { own: excludes_own, groups };
    let n_keys = keys.len() / dim;
    let per_query = search.per_query(n_keys);
    let mut best = vec![Neighbor::NONE; queries.len() * per_query];
    for start in (0..n_keys).step_by(chunk_rows(dim)) {
        let end = n_keys.min(start + chunk_rows(dim));
        let values = &keys[start * dim..end * dim];
        let of_keys = Scaled::new(values, dim, is_cosine, ("key", start))?;
        check_lengths(&of_queries, &of_keys, dim)?;
        if per_query > 0 {
            let panels = Embeddings { values, dim, factors: &of_keys.factors }.panels();
            best.par_chunks_mut(BLOCK * per_query).enumerate().for_each(|(block, best)| {
                search_chunk(queries, block * BLOCK, (&panels, start..end), excluded, best);
            });
        }
    }
    Ok(Neighbors {
        per_query,
        indices: best.iter().map(|neighbor| neighbor.index).collect(),
        similarities: best.iter().map(|neighbor| neighbor.similarity).collect(),
    })
}

impl TopK {
    /// Room for the keys of each query.
    pub(super) fn per_query(&self, n_keys: usize) -> usize {
        self.k.min(n_keys - usize::from(self.excludes_own && n_keys > 0))
    }
}

/// Keys that are laid out at a time: whole blocks, one of them however long the rows are.
fn chunk_rows(dim: usize) -> usize {
    (CHUNK_BYTES / (size_of::<f32>() * dim)).max(1).next_multiple_of(BLOCK)
}

/// Rows that were read.
struct Scaled {
    /// What scales each row.
    factors: Vec<f32>,
    /// The largest length of a scaled row, and the name of that row.
    longest: (f64, String),
}

impl Scaled {
    /// `name` is what a row is called, and the index of the first one.
    fn new(values: &[f32], dim: usize, is_cosine: bool, name: (&str, usize)) -> Result<Self> {
        let norms = norms(values, dim);
        let name = |row: usize| format!("{} {}", name.0, name.1 + row);
        if let Some(row) = norms.iter().position(|norm| !norm.is_finite()) {
            bail!("top_k: {} is not finite", name(row))
        }
        let factor = |&norm: &f64| if is_cosine { inverse_norm(norm) as f32 } else { 1.0 };
        let factors: Vec<f32> = norms.iter().map(factor).collect();
        let lengths = norms.iter().zip(&factors).map(|(norm, &factor)| norm * f64::from(factor));
        let longest = lengths.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let longest = longest.map_or((0.0, String::new()), |(row, length)| (length, name(row)));
        Ok(Self { factors, longest })
    }
}

/// Refuses rows whose products could be infinite, or not a number, which has no rank. No sum of
/// products is larger than the product of both lengths, and each of its roundings makes it larger
/// by half of f32's epsilon at most.
fn check_lengths(queries: &Scaled, keys: &Scaled, dim: usize) -> Result<()> {
    let ((query_length, query), (key_length, key)) = (&queries.longest, &keys.longest);
    let room = (dim as f64 * f64::from(f32::EPSILON)).exp();
    if query_length * key_length * room > f64::from(f32::MAX) {
        bail!(
            "top_k: {query} of length {query_length:e} and {key} of length {key_length:e} are too \
             long for a product in f32"
        )
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Neighbor {
    similarity: f32,
    index: u32,
}

impl Neighbor {
    const NONE: Self = Self { similarity: f32::NEG_INFINITY, index: u32::MAX };
}

/// Keys that a query does not find.
#[derive(Clone, Copy)]
struct Excluded<'a> {
    /// The key of its own index.
    own: bool,
    /// Those of its group: groups of all queries and keys.
    groups: Option<(&'a [u32], &'a [u32])>,
}

impl Excluded<'_> {
    fn holds(self, query: usize, key: usize) -> bool {
        (self.own && query == key)
            || self.groups.is_some_and(|(queries, keys)| queries[query] == keys[key])
    }
}

/// Shows a block of queries the keys of a chunk.
fn search_chunk(
    queries: Embeddings<'_>,
    start: usize,
    (panels, keys): (&[f32], std::ops::Range<usize>),
    excluded: Excluded<'_>,
    best: &mut [Neighbor],
) {
    let dim = queries.dim;
    let rows = BLOCK.min(queries.len() - start);
    let mut left = vec![0.0; panels_len(rows, dim)];
    queries.pack_panels(start, rows, &mut left);
    let per_query = best.len() / rows;
    // Rows behind the last are above no similarity.
    let mut thresholds = [f32::INFINITY; BLOCK];
    for (threshold, best) in thresholds.iter_mut().zip(best.chunks_exact(per_query)) {
        *threshold = best[per_query - 1].similarity;
    }
    let mut select =
        Select { thresholds, best, per_query, excluded, query: start, key: 0, cols: 0 };
    for key in keys.clone().step_by(BLOCK) {
        let cols = BLOCK.min(keys.end - key);
        let right = &panels[(key - keys.start) * dim..][..cols.next_multiple_of(PANEL) * dim];
        let operands = Operands { left: &left, right, dim, rows, cols };
        (select.key, select.cols) = (key, cols);
        dispatch(SelectTile { operands, select: &mut select });
    }
}

/// The best keys of a block of queries so far.
struct Select<'a> {
    /// What a similarity must exceed to be among the best of its row.
    thresholds: [f32; BLOCK],
    best: &'a mut [Neighbor],
    per_query: usize,
    excluded: Excluded<'a>,
    /// The first query of the block.
    query: usize,
    /// The first key of the tile and their number.
    key: usize,
    cols: usize,
}

struct SelectTile<'a, 'b> {
    operands: Operands<'a>,
    select: &'a mut Select<'b>,
}

impl WithSimd for SelectTile<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.operands.multiply(simd, self.select);
    }
}

impl<S: Simd> Epilogue<S> for Select<'_> {
    #[inline(always)]
    fn take<const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        products: Tile<S, MR, NV>,
        row: usize,
        col: usize,
    ) {
        for (m, products) in products.into_iter().enumerate() {
            let threshold = simd.splat_f32s(self.thresholds[row + m]);
            for (n, product) in products.into_iter().enumerate() {
                let is_better = simd.greater_than_f32s(product, threshold);
                if simd.first_true_m32s(is_better) < S::F32_LANES {
                    let mut lanes = [f32::NEG_INFINITY; LANES];
                    S::as_mut_simd_f32s(&mut lanes).0[0] = product;
                    self.insert(row + m, col + n * S::F32_LANES, &lanes);
                }
            }
        }
    }
}

impl Select<'_> {
    /// Enters what belongs among the best of a row. Keys come in the order of their index, so one
    /// that is as similar as another goes behind it.
    #[cold]
    fn insert(&mut self, row: usize, col: usize, similarities: &[f32; LANES]) {
        let best = &mut self.best[row * self.per_query..][..self.per_query];
        for (&similarity, col) in similarities.iter().zip(col..self.cols) {
            let index = self.key + col;
            if similarity > best[best.len() - 1].similarity
                && !self.excluded.holds(self.query + row, index)
            {
                let at = best.partition_point(|other| other.similarity >= similarity);
                best[at..].rotate_right(1);
                best[at] = Neighbor { similarity, index: index as u32 };
            }
        }
        self.thresholds[row] = best[best.len() - 1].similarity;
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, CHUNK_BYTES, chunk_rows};

    #[test]
    fn top_k_lays_out_a_block_of_keys_however_long_they_are() {
        for dim in [1, 64, 2000, 32_768, 4_194_304, 4_194_305, 1 << 30] {
            let rows = chunk_rows(dim);
            assert!(rows > 0 && rows.is_multiple_of(BLOCK), "{dim}: {rows}");
            assert!((rows - BLOCK) * dim * size_of::<f32>() <= CHUNK_BYTES, "{dim}: {rows}");
        }
    }
}
