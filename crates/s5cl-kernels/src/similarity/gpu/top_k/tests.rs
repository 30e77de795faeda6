//! The kernels, run on the CPU, by the checks of the operation.

use candle_core::Result;

use super::launch::{self, Inputs, LIST_BYTES};
use crate::cuda::Gpu;
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::similarity::gpu::split_rows::Rows;
use crate::similarity::tests::top_k::{
    Find, check, check_groups, check_long_rows, check_sizes, check_ties,
};
use crate::similarity::{Neighbors, TopK};

fn find(
    gpu: &EmulatedGpu,
    (queries, keys): (&[f32], &[f32]),
    dim: usize,
    search: TopK,
    groups: Option<(&[u32], &[u32])>,
    list_bytes: usize,
) -> Result<Neighbors> {
    let (n, n_keys) = (queries.len() / dim, keys.len() / dim);
    let (queries, keys) = (gpu.upload(queries)?, gpu.upload(keys)?);
    let groups = match groups {
        Some((queries, keys)) => Some([gpu.upload(queries)?, gpu.upload(keys)?]),
        None => None,
    };
    let inputs = Inputs {
        queries: Rows { values: queries.pointer(), n },
        keys: Rows { values: keys.pointer(), n: n_keys },
        groups: groups.as_ref().map(|groups| groups.each_ref().map(|groups| groups.pointer())),
        dim,
    };
    let per_query = search.per_query(n_keys);
    let found = launch::find(gpu, inputs, TopK { k: per_query, ..search }, list_bytes)?;
    Ok(Neighbors {
        per_query,
        indices: gpu.download(&found.indices),
        similarities: gpu.download(&found.similarities),
    })
}

/// Runs a check on the kernels.
fn with_kernels(check: impl Fn(&Find<'_>) -> Result<()>) {
    with_emulated_gpu(|gpu| {
        check(&|queries: &[f32], keys: &[f32], dim, search, groups: Option<(&[u32], &[u32])>| {
            find(gpu, (queries, keys), dim, search, groups, LIST_BYTES)
        })
        .unwrap();
    });
}

#[test]
fn top_k_kernels_find_the_head_of_all_sorted() {
    with_kernels(check_sizes);
}

#[test]
fn top_k_kernels_find_ties_in_order() {
    with_kernels(check_ties);
}

#[test]
fn top_k_kernels_find_what_is_left_without_the_own_group() {
    with_kernels(check_groups);
}

#[test]
fn top_k_kernels_rank_products_up_to_the_end_of_f32() {
    with_kernels(check_long_rows);
}

#[test]
fn top_k_kernels_take_several_tiles_of_queries_a_block() {
    with_emulated_gpu(|gpu| {
        let search = TopK { k: 3, is_cosine: true, excludes_own: false };
        let in_one_block =
            |queries: &[f32], keys: &[f32], dim, search, groups: Option<(&[u32], &[u32])>| {
                find(gpu, (queries, keys), dim, search, groups, 1)
            };
        check(&in_one_block, [300, 100, 4], search).unwrap();
    });
}

#[test]
fn top_k_kernels_merge_more_than_a_list() {
    with_kernels(|find| {
        let search = TopK { k: 40, is_cosine: false, excludes_own: true };
        check(find, [3, 3000, 2], search)
    });
}

#[test]
fn top_k_kernels_do_not_find_what_is_no_number() {
    with_emulated_gpu(|gpu| {
        let search = TopK { k: 3, is_cosine: false, excludes_own: false };
        let keys = [1.0, f32::NAN, -2.0];
        let found = find(gpu, (&[1.0, f32::NAN], &keys), 1, search, None, LIST_BYTES).unwrap();
        assert_eq!(found.indices, [0, 2, u32::MAX, u32::MAX, u32::MAX, u32::MAX]);
        assert_eq!(found.similarities[1..3], [-2.0, f32::NEG_INFINITY]);
    });
}
