//! Measures that need the rank of every relevant item.

use rayon::prelude::*;

use super::left_out::LeftOut;
use super::result::{RetrievalAtK, RetrievalResult};
use crate::error::{EvalError, at_least, same_length};
use crate::features::Features;
use crate::vectors::{dot_f32, unit_rows};

/// Queries that a thread compares with the gallery at a time, so that it is read once for all.
const TILE: usize = 8;

/// A gallery item with its similarity; the smaller, the nearer. The upper half is the similarity,
/// mapped so that a larger one is a smaller integer, the lower half the item, so that of equally
/// similar ones the earlier one is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked(u64);

impl Ranked {
    fn new(similarity: f32, item: usize) -> Self {
        // -0 and 0 are equally similar; the sum of both is 0.
        let bits = (similarity + 0.0).to_bits();
        let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        Self(u64::from(!ascending) << 32 | item as u64)
    }

    fn item(self) -> usize {
        self.0 as u32 as usize
    }
}

/// Calls `of_query` with every query and the items that it may find, in no order, and returns what
/// that says. A thread holds the similarities of [`TILE`] queries at a time.
fn for_each_query<T: Send>(
    query: &Features,
    gallery: &Features,
    left_out: LeftOut<'_>,
    of_query: impl Fn(usize, &[Ranked]) -> T + Sync,
) -> Vec<T> {
    let width = gallery.width();
    let (queries, items) = (unit_rows(query), unit_rows(gallery));
    let of_tile = |found: &mut [Vec<Ranked>; TILE], (tile, rows): (usize, &[f32])| -> Vec<T> {
        found.iter_mut().for_each(Vec::clear);
        for (item, values) in items.chunks_exact(width).enumerate() {
            for (row, found) in rows.chunks_exact(width).zip(found.iter_mut()).enumerate() {
                if left_out.admits(tile * TILE + row, item) {
                    found.1.push(Ranked::new(dot_f32(found.0, values), item));
                }
            }
        }
        let n = rows.len() / width;
        let found = found.iter().take(n).enumerate();
        found.map(|(row, found)| of_query(tile * TILE + row, found)).collect()
    };
    let tiles = queries.par_chunks(TILE * width).enumerate();
    let tiles: Vec<Vec<T>> = tiles.map_init(Default::default, of_tile).collect();
    tiles.into_iter().flatten().collect()
}

/// Ranks the whole gallery for every query by cosine and measures where the items of the query's
/// class stand; see [`RetrievalResult`] for the measures.
///
/// Of equally similar items the earlier one is nearer. Queries for which no item of their class
/// can be found are left out of all means and counted. Every pair is looked at, without a matrix of
/// all: beside a copy of both tables, a thread holds eight similarities for each item, of 8 bytes. Where the nearest `k` are enough, [`super::retrieval_at_k`] is cheaper.
///
/// # Shapes
///
/// `query`: `f32 [m, width]`; `query_labels`: `u32 [m]`; `gallery`: `f32 [n, width]`;
/// `gallery_labels`: `u32 [n]`, any numbers. For a set against itself give it twice, with
/// [`LeftOut::Own`] or [`LeftOut::OwnGroup`].
///
/// # Errors
///
/// When `k` is 0, the gallery is empty, widths, labels or groups do not fit, or no query has an
/// item of its class in the gallery.
///
/// # Source
///
/// Musgrave, Belongie and Lim, "A metric learning reality check", ECCV 2020, for R-precision and
/// MAP@R; values as of pytorch-metric-learning's `AccuracyCalculator` with `k=None`.
pub fn retrieval(
    query: &Features,
    query_labels: &[u32],
    gallery: &Features,
    gallery_labels: &[u32],
    k: usize,
    left_out: LeftOut<'_>,
) -> Result<RetrievalResult, EvalError> {
    if k == 0 {
        return Err(EvalError::NoNeighbors);
    }
    left_out.check(query, gallery)?;
    same_length(("query labels", query_labels.len()), ("query", query.n()))?;
    same_length(("gallery labels", gallery_labels.len()), ("gallery", gallery.n()))?;
    let of_query = |query: usize, items: &[Ranked]| {
        let is_relevant = |item: &Ranked| gallery_labels[item.item()] == query_labels[query];
        OfQuery::new(ranks(items, is_relevant), k)
    };
    let found: Vec<Option<OfQuery>> = for_each_query(query, gallery, left_out, of_query);
    let measured: Vec<&OfQuery> = found.iter().flatten().collect();
    at_least("queries that can find their class", measured.len(), 1)?;
    let mean = |value: fn(&OfQuery) -> f64| {
        measured.iter().map(|of_query| value(of_query)).sum::<f64>() / measured.len() as f64
    };
    Ok(RetrievalResult {
        at_k: RetrievalAtK {
            k,
            n_queries: measured.len(),
            n_left_out: found.len() - measured.len(),
            precision_at_1: mean(|of| of.hits_at_1),
            precision_at_k: mean(|of| of.hits_at_k) / k as f64,
            recall_at_k: mean(|of| of.hits_at_k / of.n_relevant),
            hit_rate_at_k: mean(|of| of.hits_at_k.min(1.0)),
        },
        r_precision: mean(|of| of.hits_at_r / of.n_relevant),
        map_at_r: mean(|of| of.precisions_at_r / of.n_relevant),
        map: mean(|of| of.precisions / of.n_relevant),
        mrr: mean(|of| of.reciprocal_rank),
    })
}

/// Ranks of the relevant items, from 1, ascending.
fn ranks(items: &[Ranked], is_relevant: impl Fn(&Ranked) -> bool) -> Vec<usize> {
    let mut relevant: Vec<Ranked> = items.iter().copied().filter(&is_relevant).collect();
    relevant.sort_unstable();
    // The others need no order among themselves: those that are nearer than a relevant item, but
    // not nearer than the relevant one before it, are counted.
    let mut nearer = vec![0; relevant.len() + 1];
    for item in items.iter().filter(|item| !is_relevant(item)) {
        nearer[relevant.partition_point(|relevant| relevant < item)] += 1;
    }
    let mut n_before = 0;
    let rank = |(position, n_nearer): (usize, usize)| {
        n_before += n_nearer;
        position + 1 + n_before
    };
    nearer.into_iter().take(relevant.len()).enumerate().map(rank).collect()
}

/// What the ranks of a query's relevant items come to.
struct OfQuery {
    n_relevant: f64,
    hits_at_1: f64,
    hits_at_k: f64,
    hits_at_r: f64,
    /// Sum of the precisions at every relevant item, and at those among the first R.
    precisions: f64,
    precisions_at_r: f64,
    reciprocal_rank: f64,
}

impl OfQuery {
    /// From the ranks of all relevant items, ascending, from 1; none if there is none.
    fn new(ranks: Vec<usize>, k: usize) -> Option<Self> {
        let first = *ranks.first()?;
        let within = |most: usize| ranks.partition_point(|&rank| rank <= most);
        let n_at_r = within(ranks.len());
        let precision = |(n_before, &rank): (usize, &usize)| (n_before + 1) as f64 / rank as f64;
        let precisions = |n: usize| ranks.iter().enumerate().take(n).map(precision).sum();
        Some(Self {
            n_relevant: ranks.len() as f64,
            hits_at_1: within(1) as f64,
            hits_at_k: within(k) as f64,
            hits_at_r: n_at_r as f64,
            precisions: precisions(ranks.len()),
            precisions_at_r: precisions(n_at_r),
            reciprocal_rank: 1.0 / first as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranked_orders_by_similarity_then_item() {
        let similarities = [0.5, -0.0, 1.0, 0.0, -0.25, 0.5, -1.0, f32::MIN_POSITIVE];
        let mut items: Vec<Ranked> =
            similarities.iter().enumerate().map(|(item, &s)| Ranked::new(s, item)).collect();
        items.sort_unstable();
        let order: Vec<usize> = items.iter().map(|item| item.item()).collect();
        assert_eq!(order, [2, 0, 5, 7, 1, 3, 4, 6]);
    }

    #[test]
    fn ranks_are_the_places_in_the_sorted_list() {
        let mut items: Vec<Ranked> =
            (0..200).map(|item| Ranked::new((item as f32 * 0.37).sin().round(), item)).collect();
        let is_relevant = |item: &Ranked| item.item() % 7 == 2;
        let found = ranks(&items, is_relevant);
        items.sort_unstable();
        let places = items.iter().enumerate().filter(|(_, item)| is_relevant(item));
        assert_eq!(found, places.map(|(place, _)| place + 1).collect::<Vec<_>>());
    }

    #[test]
    fn measures_of_ranks_are_what_their_formulas_say() {
        // Four relevant items at ranks 1, 3, 4 and 10; k = 3.
        let of = OfQuery::new(vec![1, 3, 4, 10], 3).unwrap();
        assert_eq!((of.n_relevant, of.hits_at_1, of.hits_at_k, of.hits_at_r), (4.0, 1.0, 2.0, 3.0));
        let at_r = 1.0 + 2.0 / 3.0 + 3.0 / 4.0;
        assert!((of.precisions_at_r - at_r).abs() < 1e-15);
        assert!((of.precisions - (at_r + 0.4)).abs() < 1e-15);
        assert_eq!(OfQuery::new(vec![2], 1).unwrap().reciprocal_rank, 0.5);
        assert!(OfQuery::new(Vec::new(), 1).is_none());
    }
}
