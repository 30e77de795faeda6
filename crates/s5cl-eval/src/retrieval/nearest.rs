//! The most similar items of a gallery.

use s5cl_kernels::{TopK, top_k, top_k_of_other_groups};

use super::left_out::LeftOut;
use crate::error::EvalError;
use crate::features::Features;

/// An item that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retrieved {
    /// Its position in the gallery.
    pub index: u32,
    /// Its cosine with the query, in `[-1, 1]`.
    pub similarity: f32,
}

/// Finds the `k` items of largest cosine for every query, the most similar first; of equally
/// similar ones the earlier one first.
///
/// The search is exact in `f32`, does not depend on the number of threads, and holds no matrix of
/// similarities. A row of zeros has cosine 0 with all others. A query gets fewer than `k` items
/// where the gallery has no more for it.
///
/// # Shapes
///
/// `query`: `f32 [m, width]`; `gallery`: `f32 [n, width]`. Returns `[m]` lists.
///
/// # Errors
///
/// When `k` is 0, the gallery is empty, or widths, groups or tables do not fit each other.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Features, LeftOut, nearest};
///
/// let gallery = Features::new(vec![1.0, 0.0, 0.0, 2.0, 3.0, 4.0], 2)?;
/// let query = Features::new(vec![0.0, 1.0], 2)?;
/// let found = nearest(&query, &gallery, 2, LeftOut::Nothing)?;
/// assert_eq!(found[0].iter().map(|item| item.index).collect::<Vec<_>>(), [1, 2]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn nearest(
    query: &Features,
    gallery: &Features,
    k: usize,
    left_out: LeftOut<'_>,
) -> Result<Vec<Vec<Retrieved>>, EvalError> {
    if k == 0 {
        return Err(EvalError::NoNeighbors);
    }
    left_out.check(query, gallery)?;
    let search = TopK { k, is_cosine: true, excludes_own: left_out == LeftOut::Own };
    let (rows, items, width) = (query.as_slice(), gallery.as_slice(), gallery.width());
    let found = match left_out {
        LeftOut::OwnGroup { query, gallery } => {
            top_k_of_other_groups(rows, items, width, search, (query, gallery))
        }
        LeftOut::Nothing | LeftOut::Own => top_k(rows, items, width, search),
    };
    let found = found.map_err(|error| EvalError::Search { message: error.to_string() })?;
    if found.per_query == 0 {
        return Ok(vec![Vec::new(); query.n()]);
    }
    let of_query = |(indices, similarities): (&[u32], &[f32])| {
        // Where a query finds fewer, the last places are empty.
        let items = indices.iter().zip(similarities).filter(|(index, _)| **index != u32::MAX);
        items.map(|(&index, &similarity)| Retrieved { index, similarity }).collect()
    };
    let indices = found.indices.chunks_exact(found.per_query);
    Ok(indices.zip(found.similarities.chunks_exact(found.per_query)).map(of_query).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(n: usize, width: usize, frequency: f32) -> Features {
        let values = (0..n * width).map(|i| (i as f32 * frequency).sin()).collect();
        Features::new(values, width).unwrap()
    }

    #[test]
    fn nearest_of_other_groups_are_those_of_all_without_the_own_group() {
        let (query, gallery) = (waves(37, 24, 1.7), waves(211, 24, 0.9));
        let (of_query, of_gallery): (Vec<u32>, Vec<u32>) =
            ((0..37).map(|i| i % 4).collect(), (0..211).map(|i| i % 5).collect());
        let groups = LeftOut::OwnGroup { query: &of_query, gallery: &of_gallery };
        let found = nearest(&query, &gallery, 9, groups).unwrap();
        let all = nearest(&query, &gallery, 211, LeftOut::Nothing).unwrap();
        for ((found, mut all), group) in found.iter().zip(all).zip(of_query) {
            all.retain(|item| of_gallery[item.index as usize] != group);
            assert_eq!(found[..], all[..9]);
        }
    }

    #[test]
    fn nearest_leaves_out_the_query_or_its_group() {
        let rows = waves(12, 5, 1.1);
        let groups: Vec<u32> = (0..12).map(|i| i / 3).collect();
        let indices = |left_out| -> Vec<Vec<u32>> {
            let found = nearest(&rows, &rows, 12, left_out).unwrap();
            found.iter().map(|items| items.iter().map(|item| item.index).collect()).collect()
        };
        for (query, found) in indices(LeftOut::Nothing).iter().enumerate() {
            assert_eq!((found.len(), found[0] as usize), (12, query));
        }
        for (query, found) in indices(LeftOut::Own).iter().enumerate() {
            assert!(found.len() == 11 && !found.contains(&(query as u32)));
        }
        let own = LeftOut::OwnGroup { query: &groups, gallery: &groups };
        for (query, found) in indices(own).iter().enumerate() {
            assert_eq!(found.len(), 9);
            assert!(found.iter().all(|&item| item as usize / 3 != query / 3));
        }
    }

    #[test]
    fn nearest_takes_the_earlier_of_equally_similar_items() {
        let gallery = Features::new(vec![0.0, 1.0, 3.0, 4.0, 0.0, 7.0, 0.0, 1.0], 2).unwrap();
        let query = Features::new(vec![0.0, 2.0], 2).unwrap();
        let groups = LeftOut::OwnGroup { query: &[9], gallery: &[0; 4] };
        for left_out in [LeftOut::Nothing, groups] {
            let found = nearest(&query, &gallery, 3, left_out).unwrap();
            assert_eq!(found[0].iter().map(|item| item.index).collect::<Vec<_>>(), [0, 2, 3]);
        }
    }

    #[test]
    fn nearest_refuses_bad_input() {
        let (one, none) = (waves(1, 2, 1.0), Features::new(vec![], 2).unwrap());
        let error = |query, gallery, k, left_out| nearest(query, gallery, k, left_out).unwrap_err();
        assert_eq!(error(&one, &one, 0, LeftOut::Nothing), EvalError::NoNeighbors);
        assert_eq!(
            error(&one, &none, 1, LeftOut::Nothing).to_string(),
            "gallery is empty: there is nothing to evaluate"
        );
        let wide = waves(1, 3, 1.0);
        assert_eq!(
            error(&wide, &one, 1, LeftOut::Nothing),
            EvalError::WidthMismatch { expected: 2, found: 3 }
        );
        assert!(nearest(&none, &one, 1, LeftOut::Nothing).unwrap().is_empty());
        assert_eq!(nearest(&one, &one, 1, LeftOut::Own).unwrap(), [[]]);
        assert!(nearest(&waves(2, 2, 1.0), &one, 1, LeftOut::Own).is_err());
        let groups = LeftOut::OwnGroup { query: &[], gallery: &[1] };
        assert!(nearest(&one, &one, 1, groups).is_err());
        let groups = LeftOut::OwnGroup { query: &[1], gallery: &[1, 2] };
        assert!(nearest(&one, &one, 1, groups).is_err());
    }
}
