//! How well images of the query's class are found.

use anyhow::Result;
use s5cl_eval::{EvalError, LeftOut, RetrievalResult, retrieval};
use serde::Serialize;

use super::part::Part;
use super::predictions::number_groups;

/// The figures of queries in a gallery.
#[derive(Debug, Serialize)]
pub(crate) struct Retrieval {
    /// With all images of the gallery but the query itself.
    #[serde(flatten)]
    pub(crate) among_all: RetrievalResult,
    /// The same, where images of the query's own patient or slide do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) without_own_group: Option<RetrievalResult>,
}

impl Retrieval {
    /// Searches for the nearest images of each query, `k` of them for the figures at k; without a
    /// gallery among the queries themselves. `None` where a class is not known, or no query has
    /// another image of its class.
    pub(crate) fn new(queries: &Part, gallery: Option<&Part>, k: usize) -> Result<Option<Self>> {
        let known = |part: &Part| part.labels.iter().copied().collect::<Option<Vec<u32>>>();
        let among = gallery.unwrap_or(queries);
        let (Some(of_queries), Some(of_gallery)) = (known(queries), known(among)) else {
            return Ok(None);
        };
        let search = |left_out: LeftOut<'_>| -> Result<Option<RetrievalResult>, EvalError> {
            let (rows, items) = (&queries.embeddings, &among.embeddings);
            match retrieval(rows, &of_queries, items, &of_gallery, k, left_out) {
                Ok(found) => Ok(Some(found)),
                Err(EvalError::TooFew { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let own = if gallery.is_some() { LeftOut::Nothing } else { LeftOut::Own };
        let names = queries.groups.iter().chain(&among.groups).map(Option::as_deref);
        let without_own_group = match number_groups(names) {
            Some(groups) => {
                let (query, of_items) = groups.split_at(queries.n());
                // An image without a group has a number of its own, and is the same on both sides.
                let gallery = if gallery.is_some() { of_items } else { query };
                search(LeftOut::OwnGroup { query, gallery })?
            }
            None => None,
        };
        Ok(search(own)?.map(|among_all| Self { among_all, without_own_group }))
    }
}
