//! Whole networks against the same in f64, which finite differences check; and their contract.

mod cases;
mod contract;
mod gpu;
mod gpu_layers;
mod layer_cases;
mod on_gpu;
mod reference;
mod values;
