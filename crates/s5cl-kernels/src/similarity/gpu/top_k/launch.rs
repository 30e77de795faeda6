//! The kernels of the search, one after another.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use crate::cuda::{Argument, Gpu, Launch, Memory, Plain, Pointer};
use crate::similarity::TopK;
use crate::similarity::gpu::problem::{CHUNK, STREAM_BYTES, TILE};
use crate::similarity::gpu::split_rows::{Halves, Rows, SplitRows, split_rows};
use crate::similarity::gpu::splits::{BLOCKS, COLS, Splits};

/// Threads of the kernel that multiplies rows, and its warps.
const THREADS: u32 = 256;
const WARPS: usize = 8;
/// Places of the longest list of which each warp has room for one in shared memory.
const MOST_SHARED: usize = 256;
/// Places of the longest list for which one warp has room, so that parts of the keys are merged.
const MOST_MERGED: usize = 4096;
/// Most bytes of the lists that are worked on, unless those of one block are more.
pub(super) const LIST_BYTES: usize = 256 << 20;

/// What is searched, with the groups of queries and keys if those of the own one are not wanted.
#[derive(Clone, Copy)]
pub(super) struct Inputs {
    pub(super) queries: Rows,
    pub(super) keys: Rows,
    pub(super) groups: Option<[Pointer<u32>; 2]>,
    pub(super) dim: usize,
}

/// What was found, `[n_queries, per_query]`.
pub(super) struct Found<G: Gpu> {
    pub(super) indices: Memory<G, u32>,
    pub(super) similarities: Memory<G, f32>,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Search {
    queries: Halves,
    keys: Halves,
    query_scales: Pointer<f32>,
    key_scales: Pointer<f32>,
    query_groups: Pointer<u32>,
    key_groups: Pointer<u32>,
    lists: Pointer<u64>,
    found: Pointer<u64>,
    indices: Pointer<u32>,
    similarities: Pointer<f32>,
    n_queries: u32,
    n_keys: u32,
    width: u32,
    k: u32,
    capacity: u32,
    split_tiles: u32,
    n_splits: u32,
    excludes_own: u32,
    sorts_in_shared: u32,
    unused: u32,
}

// SAFETY: numbers and addresses in C's order, with a number in place of the padding.
unsafe impl Plain for Search {}

/// The keys of each query, `search.k` of them, which are no more than there are; lists that are
/// worked on take `list_bytes`, or those of one block.
pub(super) fn find<G: Gpu>(
    gpu: &G,
    inputs: Inputs,
    search: TopK,
    list_bytes: usize,
) -> Result<Found<G>> {
    let Inputs { queries, keys, groups, dim } = inputs;
    let TopK { k, is_cosine, excludes_own } = search;
    let found =
        Found { indices: gpu.allocate(queries.n * k)?, similarities: gpu.allocate(queries.n * k)? };
    if queries.n * k == 0 {
        return Ok(found);
    }
    let rows = split_rows(gpu, [queries, keys], dim, is_cosine, Pointer::NULL)?;
    let capacity = (2 * k).max(k + COLS).next_power_of_two();
    let (tiles, splits) = (queries.n.div_ceil(TILE), splits_of(queries.n, keys.n, k, capacity));
    let of_block = TILE * capacity;
    let at_once = (list_bytes / (of_block * size_of::<u64>() * splits.count)).clamp(1, BLOCKS);
    let blocks = tiles.min(at_once);
    let lists = gpu.allocate::<u64>(blocks * splits.count * of_block)?;
    let parts = gpu.allocate::<u64>(splits.count * queries.n * k)?;
    let [of_queries, of_keys] = rows.each_ref().map(SplitRows::halves);
    let [query_scales, key_scales] = rows.each_ref().map(SplitRows::scales);
    let [query_groups, key_groups] = groups.unwrap_or([Pointer::NULL; 2]);
    let problem = Search {
        queries: of_queries,
        keys: of_keys,
        query_scales,
        key_scales,
        query_groups,
        key_groups,
        lists: lists.pointer(),
        found: parts.pointer(),
        indices: found.indices.pointer(),
        similarities: found.similarities.pointer(),
        n_queries: queries.n as u32,
        n_keys: keys.n as u32,
        width: dim.next_multiple_of(CHUNK) as u32,
        k: k as u32,
        capacity: capacity as u32,
        split_tiles: splits.tiles as u32,
        n_splits: splits.count as u32,
        excludes_own: u32::from(excludes_own),
        sorts_in_shared: u32::from(capacity <= MOST_SHARED),
        unused: 0,
    };
    let sorted = if capacity <= MOST_SHARED { WARPS * capacity * size_of::<u64>() } else { 0 };
    let select = Launch {
        grid: [blocks as u32, splits.count as u32, 1],
        shared_bytes: (STREAM_BYTES + sorted) as u32,
        ..Launch::new("top_k", "top_k_select", 1, THREADS)
    };
    let merged = if splits.count > 1 { capacity * size_of::<u64>() } else { 0 };
    let merge = Launch {
        shared_bytes: merged as u32,
        ..Launch::new("top_k", "top_k_merge", queries.n as u32, 32)
    };
    // SAFETY: both kernels take a search, whose memory was allocated for its sizes.
    unsafe {
        gpu.launch(&select, &[Argument::structure(&problem)])?;
        gpu.launch(&merge, &[Argument::structure(&problem)])?;
    }
    Ok(found)
}

/// How blocks share the keys: as long as they have several times as many as they find.
fn splits_of(n_queries: usize, n_keys: usize, k: usize, capacity: usize) -> Splits {
    let fewest = (4 * k).div_ceil(COLS).max(8);
    let fewest = if capacity > MOST_MERGED { usize::MAX } else { fewest };
    Splits::of(n_queries.div_ceil(TILE), n_keys, fewest)
}
