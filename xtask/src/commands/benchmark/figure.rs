//! What a suite measures, as a baseline holds it.

use s5cl_eval::Interval;

/// A figure that a baseline can hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) value: f64,
}

/// What a figure is, and so when it is worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A mean over seeds, with its interval if it is known: worse below.
    Accuracy { n_seeds: usize, interval: Option<Interval> },
    /// A value over that of a reference, which is 1 where both do the same: worse on either side.
    Same,
    /// Our speed over a peer's in the same run: worse below.
    Ratio,
}
