//! The fused losses against a dense formula in f64.

pub(super) mod cross;
pub(super) mod dense;
pub(super) mod top_k;

mod cases;
mod properties;
mod square;
