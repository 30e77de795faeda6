//! The search against sorting all similarities.

use candle_core::{Device, Result, Tensor};

use crate::checks::{draw, refusal};
use crate::simd::with_each_instruction_set;
use crate::similarity::{
    Neighbors, TopK, top_k, top_k_of_other_groups, top_k_tensors, top_k_tensors_of_other_groups,
};

/// f32 sums of `dim` products.
const TOLERANCE: f64 = 1e-6;

fn similarities(queries: &[f32], keys: &[f32], dim: usize, is_cosine: bool) -> Vec<Vec<f64>> {
    let exact = |rows: &[f32]| -> Vec<Vec<f64>> {
        let row = |row: &[f32]| {
            let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter().map(|x| if is_cosine { x / norm.max(1e-12) } else { *x }).collect()
        };
        rows.chunks(dim).map(row).collect()
    };
    let (queries, keys) = (exact(queries), exact(keys));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    queries.iter().map(|query| keys.iter().map(|key| dot(query, key)).collect()).collect()
}

/// A search, with the groups of queries and keys if only other groups are to be found.
pub(in crate::similarity) type Find<'a> =
    dyn Fn(&[f32], &[f32], usize, TopK, Option<(&[u32], &[u32])>) -> Result<Neighbors> + 'a;

fn find(
    queries: &[f32],
    keys: &[f32],
    dim: usize,
    search: TopK,
    groups: Option<(&[u32], &[u32])>,
) -> Result<Neighbors> {
    match groups {
        Some(groups) => top_k_of_other_groups(queries, keys, dim, search, groups),
        None => top_k(queries, keys, dim, search),
    }
}

/// Checks the found similarities against the best ones of all, and that the indices are theirs.
pub(in crate::similarity) fn check(
    find: &Find<'_>,
    [n_queries, n_keys, dim]: [usize; 3],
    search: TopK,
) -> Result<()> {
    let (queries, keys) = (draw(5, n_queries * dim), draw(6, n_keys * dim));
    let found = find(&queries, &keys, dim, search, None)?;
    let all = similarities(&queries, &keys, dim, search.is_cosine);
    assert_eq!(found.indices.len(), n_queries * found.per_query);
    for (query, all) in all.iter().enumerate() {
        let what = format!("query {query} of {n_queries} x {n_keys} x {dim}, {search:?}");
        let is_own = |index: usize| search.excludes_own && index == query;
        let mut best: Vec<f64> = (0..n_keys).filter(|&i| !is_own(i)).map(|i| all[i]).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let expected = search.k.min(n_keys - usize::from(search.excludes_own));
        assert_eq!(found.per_query, expected, "{what}");
        for (rank, &best) in best.iter().enumerate().take(expected) {
            let at = query * expected + rank;
            let (index, similarity) =
                (found.indices[at] as usize, f64::from(found.similarities[at]));
            assert!(!is_own(index), "{what}");
            for (of, value) in [("the best", best), ("its key", all[index])] {
                let scale = value.abs().max(1.0);
                assert!(
                    (similarity - value).abs() <= TOLERANCE * scale,
                    "{what}: {rank} is not {of}"
                );
            }
        }
    }
    Ok(())
}

/// Checks a search at every size.
pub(in crate::similarity) fn check_sizes(find: &Find<'_>) -> Result<()> {
    let search = |k, is_cosine, excludes_own| TopK { k, is_cosine, excludes_own };
    check(find, [1, 1, 1], search(1, true, false))?;
    check(find, [3, 40, 5], search(7, true, true))?;
    check(find, [130, 1000, 16], search(10, true, true))?;
    check(find, [65, 129, 63], search(10, false, false))?;
    check(find, [5, 8, 64], search(20, true, true))?;
    // More keys than are laid out at a time.
    check(find, [2, 3000, 2000], search(5, true, false))
}

/// Checks that equally similar keys are in the order of their index.
pub(in crate::similarity) fn check_ties(find: &Find<'_>) -> Result<()> {
    // Every key is there many times, in a changing order.
    let key = |i: usize| [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]][i * i % 3];
    let keys: Vec<f32> = (0..400).flat_map(key).collect();
    let search = TopK { k: 200, is_cosine: false, excludes_own: false };
    let found = find(&[0.6, 0.8], &keys, 2, search, None)?;
    let mut expected: Vec<u32> = (0..400).collect();
    let similarity = |i: u32| key(i as usize)[0] * 0.6 + key(i as usize)[1] * 0.8;
    expected.sort_by(|&a, &b| similarity(b).total_cmp(&similarity(a)).then(a.cmp(&b)));
    assert_eq!(found.indices, expected[..200]);
    // Products that are 0 in f32, of either sign.
    let found = find(&[1e-30], &[-1e-30, 0.0, 1e-30], 1, TopK { k: 3, ..search }, None)?;
    assert_eq!(found.indices, [0, 1, 2]);
    Ok(())
}

/// Checks what is found of other groups against what is found of all.
pub(in crate::similarity) fn check_groups(find: &Find<'_>) -> Result<()> {
    let (n_queries, n_keys, dim, k) = (70, 300, 6, 9);
    let (queries, keys) = (draw(7, n_queries * dim), draw(8, n_keys * dim));
    let of_queries: Vec<u32> = (0..n_queries as u32).map(|i| i * i % 5).collect();
    // Group 4, of some queries, has all keys but a few.
    let of_keys: Vec<u32> = (0..n_keys as u32).map(|i| if i % 50 == 0 { 1 } else { 4 }).collect();
    let groups = (&of_queries[..], &of_keys[..]);
    for excludes_own in [false, true] {
        let search = TopK { k: n_keys, is_cosine: true, excludes_own };
        let all = find(&queries, &keys, dim, search, None)?;
        let found = find(&queries, &keys, dim, TopK { k, ..search }, Some(groups))?;
        for (query, group) in of_queries.iter().enumerate() {
            let all = all.indices[query * all.per_query..][..all.per_query].iter();
            let mut expected: Vec<u32> = all
                .copied()
                .filter(|&key| of_keys[key as usize] != *group)
                .chain([u32::MAX; 9])
                .collect();
            expected.truncate(k);
            assert_eq!(found.indices[query * k..][..k], expected, "{query}");
            let similarities = &found.similarities[query * k..][..k];
            for (similarity, index) in similarities.iter().zip(expected) {
                assert_eq!(*similarity == f32::NEG_INFINITY, index == u32::MAX);
            }
        }
    }
    Ok(())
}

/// Checks products near the largest numbers.
pub(in crate::similarity) fn check_long_rows(find: &Find<'_>) -> Result<()> {
    let long = f32::MAX.sqrt() * 0.999;
    let search = TopK { k: 3, is_cosine: false, excludes_own: false };
    let found = find(&[long, 0.0], &[-long, 0.0, 0.0, long, long, 0.0], 2, search, None)?;
    assert_eq!(found.indices, [2, 1, 0]);
    for (found, expected) in found.similarities.iter().zip([long * long, 0.0, -long * long]) {
        let error = f64::from(*found) - f64::from(expected);
        assert!(error.abs() <= TOLERANCE * f64::from(expected).abs(), "{found} {expected}");
    }
    // A cosine is never too long.
    let search = TopK { is_cosine: true, ..search };
    let found = find(&[1e38; 2], &[3e38, 3e38, 1e38, -1e38], 2, search, None)?;
    assert_eq!(found.indices, [0, 1]);
    Ok(())
}

#[test]
fn top_k_is_the_head_of_all_sorted() -> Result<()> {
    check_sizes(&find)
}

#[test]
fn top_k_ties_go_to_the_lower_index() {
    with_each_instruction_set(|| check_ties(&find).unwrap());
}

#[test]
fn top_k_of_other_groups_is_what_is_left_of_all_without_the_own_group() -> Result<()> {
    check_groups(&find)?;
    let search = TopK { k: 9, is_cosine: true, excludes_own: false };
    let groups = (&[0; 69][..], &[0; 300][..]);
    let message = refusal(top_k_of_other_groups(&[0.0; 70], &[0.0; 300], 1, search, groups));
    assert!(message.contains("69 and 300 groups do not fit"), "{message}");
    Ok(())
}

#[test]
fn top_k_ranks_products_up_to_the_end_of_f32() -> Result<()> {
    check_long_rows(&find)
}

#[test]
fn top_k_of_tensors_is_that_of_their_values() -> Result<()> {
    let (queries, keys) = (draw(1, 6 * 4), draw(2, 30 * 4));
    let search = TopK { k: 3, is_cosine: true, excludes_own: false };
    let Neighbors { indices, similarities, .. } = top_k(&queries, &keys, 4, search)?;
    // Transposed and back: the same values in another order in memory.
    let queries = Tensor::from_slice(&queries, (6, 4), &Device::Cpu)?.t()?.contiguous()?.t()?;
    let keys = Tensor::from_slice(&keys, (30, 4), &Device::Cpu)?;
    let found = top_k_tensors(&queries, &keys, search)?;
    assert_eq!(found.0.flatten_all()?.to_vec1::<u32>()?, indices);
    assert_eq!(found.1.flatten_all()?.to_vec1::<f32>()?, similarities);
    let groups = [[0, 1, 2].repeat(2), [0, 1, 2].repeat(10)];
    let of_tensors = groups.each_ref().map(|g| Tensor::new(&g[..], &Device::Cpu).unwrap());
    let (of_queries, of_keys) = (&of_tensors[0], &of_tensors[1]);
    let found = top_k_tensors_of_other_groups(&queries, &keys, search, (of_queries, of_keys))?;
    let (queries, keys) = (draw(1, 6 * 4), draw(2, 30 * 4));
    let groups = (&groups[0][..], &groups[1][..]);
    let expected = top_k_of_other_groups(&queries, &keys, 4, search, groups)?;
    assert_eq!(found.0.flatten_all()?.to_vec1::<u32>()?, expected.indices);
    assert_eq!(found.1.flatten_all()?.to_vec1::<f32>()?, expected.similarities);
    let rows = Tensor::zeros((6, 4), candle_core::DType::F32, &Device::Cpu)?;
    let message =
        refusal(top_k_tensors_of_other_groups(&rows, &rows, search, (of_queries, of_keys)));
    assert!(message.contains("expected u32 groups [6], got U32 [30]"), "{message}");
    Ok(())
}

#[test]
fn top_k_refuses_what_it_cannot_rank() -> Result<()> {
    let search = TopK { k: 2, is_cosine: true, excludes_own: false };
    let refused =
        |queries: &[f32], keys: &[f32], dim, search| refusal(top_k(queries, keys, dim, search));
    assert!(refused(&[1.0, f32::NAN], &[1.0; 4], 2, search).contains("query 0 is not finite"));
    assert!(refused(&[1.0; 3], &[1.0; 4], 2, search).contains("whole rows of 2"));
    assert!(refused(&[1.0; 2], &[1.0; 4], 2, TopK { k: 0, ..search }).contains("k = 0"));
    let long = TopK { is_cosine: false, ..search };
    for values in [[1e38, 1e38], [-1e38, -1e38], [1e38, -1e38]] {
        let message = refused(&[1.0, 1.0, 1e38, 1e38], &[&[1.0; 2][..], &values].concat(), 2, long);
        assert!(message.contains("query 1 of length") && message.contains("key 1"), "{message}");
    }
    let mut keys = vec![1.0; 5000 * 2000];
    keys[4321 * 2000] = f32::INFINITY;
    assert!(refused(&[1.0; 2000], &keys, 2000, search).contains("key 4321 is not finite"));
    let row = Tensor::new(&[1_f32, 2.0], &Device::Cpu)?;
    let message = refusal(top_k_tensors(&row, &row, search));
    assert!(message.contains("top_k: expected a matrix, got F32 [2]"), "{message}");
    let none = top_k(&[1.0; 2], &[], 2, search)?;
    assert_eq!((none.per_query, none.indices.len()), (0, 0));
    Ok(())
}
