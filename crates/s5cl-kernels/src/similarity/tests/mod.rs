//! The fused losses against a dense formula in f64.

pub(super) mod dense;

mod cases;
mod cross;
mod properties;
mod square;
mod top_k;
