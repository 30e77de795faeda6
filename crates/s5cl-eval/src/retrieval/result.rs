//! What retrieval is measured by, and the measures that need only the nearest items.

use std::collections::BTreeMap;

use serde::Serialize;

use super::left_out::LeftOut;
use super::nearest::nearest;
use crate::error::{EvalError, at_least, same_length};
use crate::features::Features;

/// Measures of the nearest `k` items, means over queries, each in `[0, 1]`. An item is relevant if
/// it is of the query's class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RetrievalAtK {
    /// Items that a query gets.
    pub k: usize,
    /// Queries that were measured.
    pub n_queries: usize,
    /// Queries that were not, because nothing in the gallery is relevant for them.
    pub n_left_out: usize,
    /// Share of queries whose nearest item is relevant.
    pub precision_at_1: f64,
    /// Relevant items among the nearest `k`, over `k`, also where the gallery has fewer.
    pub precision_at_k: f64,
    /// Relevant items among the nearest `k`, over all that are relevant.
    pub recall_at_k: f64,
    /// Share of queries with a relevant item among the nearest `k`, which papers on metric learning
    /// call recall@k.
    pub hit_rate_at_k: f64,
}

/// Measures of the whole ranking, means over queries, each in `[0, 1]`. R is the number of items
/// that are relevant for the query.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RetrievalResult {
    /// Measures of the nearest `k`.
    #[serde(flatten)]
    pub at_k: RetrievalAtK,
    /// Relevant items among the nearest R, over R.
    pub r_precision: f64,
    /// `1 / R * sum_{i <= R} (precision at i if item i is relevant, else 0)`.
    pub map_at_r: f64,
    /// Mean average precision: the precision at the rank of every relevant item, their mean.
    pub map: f64,
    /// Mean reciprocal rank of the first relevant item.
    pub mrr: f64,
}

/// Measures the `k` nearest items of every query, which the fused search of [`nearest`] finds.
///
/// Ties, queries that are left out and shapes are those of [`super::retrieval`], which gives the
/// same values but for items whose similarities differ by roundings of `f32`.
///
/// # Errors
///
/// As [`super::retrieval`].
///
/// # Example
///
/// ```
/// use s5cl_eval::{Features, LeftOut, retrieval_at_k};
///
/// let rows = Features::new(vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.8, 0.3], 2)?;
/// let labels = [0, 0, 1, 1];
/// let found = retrieval_at_k(&rows, &labels, &rows, &labels, 2, LeftOut::Own)?;
/// assert_eq!((found.precision_at_1, found.hit_rate_at_k), (0.75, 0.75));
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn retrieval_at_k(
    query: &Features,
    query_labels: &[u32],
    gallery: &Features,
    gallery_labels: &[u32],
    k: usize,
    left_out: LeftOut<'_>,
) -> Result<RetrievalAtK, EvalError> {
    same_length(("query labels", query_labels.len()), ("query", query.n()))?;
    same_length(("gallery labels", gallery_labels.len()), ("gallery", gallery.n()))?;
    let found = nearest(query, gallery, k, left_out)?;
    let counts = Counts::new(gallery_labels, left_out);
    let mut sums = RetrievalAtK {
        k,
        n_queries: 0,
        n_left_out: 0,
        precision_at_1: 0.0,
        precision_at_k: 0.0,
        recall_at_k: 0.0,
        hit_rate_at_k: 0.0,
    };
    for (idx, (items, &label)) in found.iter().zip(query_labels).enumerate() {
        let n_relevant = counts.relevant(idx, label, gallery_labels, left_out);
        if n_relevant == 0 {
            sums.n_left_out += 1;
            continue;
        }
        let is_hit = |item: &super::Retrieved| gallery_labels[item.index as usize] == label;
        let n_hits = items.iter().filter(|item| is_hit(item)).count();
        sums.n_queries += 1;
        sums.precision_at_1 += f64::from(u8::from(items.first().is_some_and(is_hit)));
        sums.precision_at_k += n_hits as f64 / k as f64;
        sums.recall_at_k += n_hits as f64 / n_relevant as f64;
        sums.hit_rate_at_k += f64::from(u8::from(n_hits > 0));
    }
    at_least("queries that can find their class", sums.n_queries, 1)?;
    let n = sums.n_queries as f64;
    let means = [
        &mut sums.precision_at_1,
        &mut sums.precision_at_k,
        &mut sums.recall_at_k,
        &mut sums.hit_rate_at_k,
    ];
    means.into_iter().for_each(|sum| *sum /= n);
    Ok(sums)
}

/// Gallery items of each class, and of each class and group.
struct Counts {
    of_class: BTreeMap<u32, usize>,
    of_group: BTreeMap<(u32, u32), usize>,
}

impl Counts {
    fn new(labels: &[u32], left_out: LeftOut<'_>) -> Self {
        let mut counts = Self { of_class: BTreeMap::new(), of_group: BTreeMap::new() };
        for &label in labels {
            *counts.of_class.entry(label).or_default() += 1;
        }
        if let LeftOut::OwnGroup { gallery, .. } = left_out {
            for (&label, &group) in labels.iter().zip(gallery) {
                *counts.of_group.entry((label, group)).or_default() += 1;
            }
        }
        counts
    }

    /// Items that are relevant for a query and not left out.
    fn relevant(&self, query: usize, label: u32, labels: &[u32], left_out: LeftOut<'_>) -> usize {
        let all = self.of_class.get(&label).copied().unwrap_or(0);
        all - match left_out {
            LeftOut::Nothing => 0,
            LeftOut::Own => usize::from(labels[query] == label),
            LeftOut::OwnGroup { query: groups, .. } => {
                self.of_group.get(&(label, groups[query])).copied().unwrap_or(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::retrieval;
    use super::*;

    const LABELS: [u32; 4] = [3, 3, 8, 8];

    fn rows() -> Features {
        Features::new(vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.8, 0.3], 2).unwrap()
    }

    /// Both ways to measure.
    fn both(
        query_labels: &[u32],
        gallery_labels: &[u32],
        k: usize,
        left_out: LeftOut<'_>,
    ) -> [Result<RetrievalAtK, EvalError>; 2] {
        let rows = rows();
        let ranked = retrieval(&rows, query_labels, &rows, gallery_labels, k, left_out);
        let fused = retrieval_at_k(&rows, query_labels, &rows, gallery_labels, k, left_out);
        [ranked.map(|found| found.at_k), fused]
    }

    #[test]
    fn retrieval_divides_precision_by_k_where_the_gallery_has_fewer() {
        for found in both(&LABELS, &LABELS, 6, LeftOut::Own) {
            let found = found.unwrap();
            assert!((found.precision_at_k - 1.0 / 6.0).abs() < 1e-15);
            assert_eq!((found.recall_at_k, found.hit_rate_at_k), (1.0, 1.0));
        }
    }

    #[test]
    fn retrieval_without_anything_to_find_is_refused() {
        // One label that the gallery lacks, and groups that hold whole classes.
        let own_group = LeftOut::OwnGroup { query: &LABELS, gallery: &LABELS };
        let none = both(&[77; 4], &LABELS, 3, LeftOut::Nothing);
        for found in none.into_iter().chain(both(&LABELS, &LABELS, 3, own_group)) {
            assert_eq!(
                found.unwrap_err().to_string(),
                "there are 0 queries that can find their class, but at least 1 are needed"
            );
        }
    }

    #[test]
    fn retrieval_refuses_labels_that_do_not_fit() {
        for (query_labels, gallery_labels, k) in
            [(&LABELS[1..], &LABELS[..], 3), (&LABELS, &LABELS[1..], 3), (&LABELS, &LABELS, 0)]
        {
            for found in both(query_labels, gallery_labels, k, LeftOut::Own) {
                assert!(found.is_err());
            }
        }
    }

    #[test]
    fn retrieval_serializes_flat() {
        let found = retrieval(&rows(), &LABELS, &rows(), &LABELS, 3, LeftOut::Own).unwrap();
        let json = serde_json::to_value(found).unwrap();
        for key in ["k", "n_queries", "precision_at_1", "recall_at_k", "map_at_r", "map", "mrr"] {
            assert!(json[key].is_number(), "{key}: {json}");
        }
    }
}
