//! One file per command.

pub(crate) mod benchmark;
pub(crate) mod ci;
pub(crate) mod data;
pub(crate) mod embed;
pub(crate) mod encoders;
pub(crate) mod evaluate;
pub(crate) mod predict;
pub(crate) mod report;
pub(crate) mod retrieve;
pub(crate) mod train;
