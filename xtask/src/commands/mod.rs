//! One file per command.

pub mod benchmark;
pub mod ci;
pub mod data;
pub mod embed;
pub mod evaluate;
pub mod predict;
pub mod report;
pub mod train;
