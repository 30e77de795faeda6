//! The fused losses against a dense formula in f64.

pub(super) mod cross;
pub(super) mod dense;

mod cases;
mod properties;
mod square;
mod top_k;
