//! What of the gallery a query may not find.

use crate::error::{EvalError, same_length, same_width};
use crate::features::Features;

/// Gallery items that are not there for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut<'a> {
    /// None: the gallery is another set.
    Nothing,
    /// The query itself: query `i` is gallery item `i`.
    Own,
    /// Everything of the query's group, as are tiles of the same patient; where the gallery is the
    /// set of the queries, this leaves out the query itself.
    OwnGroup {
        /// Group of each query, any numbers.
        query: &'a [u32],
        /// Group of each gallery item.
        gallery: &'a [u32],
    },
}

impl LeftOut<'_> {
    /// Refuses tables that do not fit each other, and a gallery that is empty.
    pub(super) fn check(self, query: &Features, gallery: &Features) -> Result<(), EvalError> {
        if gallery.n() == 0 {
            return Err(EvalError::Empty { what: "gallery" });
        }
        same_width(gallery.width(), query.width())?;
        match self {
            Self::Nothing => Ok(()),
            Self::Own => same_length(("query", query.n()), ("gallery", gallery.n())),
            Self::OwnGroup { query: of_query, gallery: of_gallery } => {
                same_length(("query groups", of_query.len()), ("query", query.n()))?;
                same_length(("gallery groups", of_gallery.len()), ("gallery", gallery.n()))
            }
        }
    }

    /// Whether this query may find this item.
    pub(super) fn admits(self, query: usize, item: usize) -> bool {
        match self {
            Self::Nothing => true,
            Self::Own => query != item,
            Self::OwnGroup { query: of_query, gallery } => of_query[query] != gallery[item],
        }
    }
}
