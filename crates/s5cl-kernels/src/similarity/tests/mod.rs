//! The fused losses against a dense formula in f64.

mod dense;

mod cross;
mod square;
mod top_k;
