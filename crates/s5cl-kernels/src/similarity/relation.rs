//! How queries and keys belong together, and what a query's row of them adds up to.

use super::tile::Sum;

/// What makes a key a positive of a query.
#[derive(Clone, Copy)]
pub(super) enum Relation<'a> {
    /// The same label.
    Labels { queries: &'a [u32], keys: &'a [u32] },
    /// The product of two rows of `n_classes` shares.
    Shares { queries: &'a [f32], keys: &'a [f32], n_classes: usize },
}

impl Relation<'_> {
    /// Length of the rows of shares, if there are any.
    pub(super) fn n_classes(&self) -> usize {
        match *self {
            Self::Labels { .. } => 0,
            Self::Shares { n_classes, .. } => n_classes,
        }
    }
}

/// What the row of a query adds up to.
#[derive(Clone, Copy)]
pub(super) struct RowSums {
    /// `sum over j of beta_j exp(q.k_j / t)`.
    pub(super) softmax: Sum,
    /// `sum over j of w_j log2(e) q.k_j / t`.
    pub(super) pull: f64,
    /// `sum over j of w_j`.
    pub(super) affinity: f64,
}

impl RowSums {
    pub(super) const EMPTY: Self = Self { softmax: Sum::EMPTY, pull: 0.0, affinity: 0.0 };

    pub(super) fn add(&mut self, other: Self) {
        self.softmax.add(other.softmax);
        self.pull += other.pull;
        self.affinity += other.affinity;
    }

    /// The loss, unless the query has no positive or no key at all.
    pub(super) fn loss(&self) -> Option<f64> {
        let has_loss = self.affinity > 0.0 && self.softmax.sum > 0.0;
        has_loss.then(|| self.softmax.ln() - self.pull * std::f64::consts::LN_2 / self.affinity)
    }
}
