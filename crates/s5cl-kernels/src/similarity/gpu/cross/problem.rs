//! What the kernels are given, as `cross.cuh` declares it.
#![expect(unsafe_code, reason = "structures go to the device as their bytes")]

use crate::cuda::{Plain, Pointer};
use crate::similarity::gpu::split_rows::Halves;

/// Shares of classes are padded to a multiple of this.
pub(super) const SHARES: usize = 32;

/// Queries or keys.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Side {
    pub(super) labels: Pointer<u32>,
    pub(super) shares: Pointer<f32>,
    pub(super) weights: Pointer<f32>,
    pub(super) halves: Halves,
    pub(super) padded_shares: Pointer<f32>,
    pub(super) scales: Pointer<f32>,
    pub(super) factors: Pointer<f32>,
    pub(super) n: u32,
    pub(super) n_padded: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Partial {
    pub(super) sums: [f64; 3],
    pub(super) maximum: f32,
    pub(super) unused: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct State {
    pub(super) scale: f64,
    pub(super) is_wrong: u32,
    pub(super) largest: [u32; 2],
    pub(super) ticket: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Problem {
    pub(super) queries: Side,
    pub(super) keys: Side,
    pub(super) temperatures: Pointer<f64>,
    pub(super) excluded: Pointer<u32>,
    pub(super) biases: Pointer<f32>,
    pub(super) partials: Pointer<Partial>,
    pub(super) maxima: Pointer<f32>,
    pub(super) inverse_sums: Pointer<f32>,
    pub(super) inverse_affinities: Pointer<f32>,
    pub(super) slopes: Pointer<f32>,
    pub(super) tile_sums: Pointer<f64>,
    pub(super) state: Pointer<State>,
    pub(super) loss: Pointer<f32>,
    pub(super) sums: Pointer<f32>,
    pub(super) from_above: Pointer<f32>,
    pub(super) gradient: Pointer<f32>,
    pub(super) temperature: f64,
    pub(super) dim: u32,
    pub(super) width: u32,
    pub(super) n_classes: u32,
    pub(super) class_width: u32,
    pub(super) split_tiles: u32,
    pub(super) n_splits: u32,
}

// SAFETY: numbers in C's order, with a number in place of the padding; the kernels write what is
// read.
unsafe impl Plain for Partial {}
// SAFETY: numbers in C's order without padding.
unsafe impl Plain for State {}
// SAFETY: numbers and addresses in C's order without padding; none is made of bytes from the
// device.
unsafe impl Plain for Problem {}
