//! Rows as tiles take them: `split_rows.cu`.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use super::problem::{CHUNK, TILE};
use crate::cuda::{Argument, Gpu, Launch, Memory, Plain, Pointer};

/// Threads of a block, and the rows that it has.
const THREADS: u32 = 256;
const ROWS: usize = 8;

/// Rows in two halves of 16 bits.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Halves {
    pub(super) high: Pointer<u16>,
    pub(super) low: Pointer<u16>,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Operand {
    rows: Pointer<f32>,
    halves: Halves,
    scales: Pointer<f32>,
    n: u32,
    n_padded: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Operands {
    operands: [Operand; 2],
    is_not_finite: Pointer<u32>,
    dim: u32,
    width: u32,
    is_cosine: u32,
    unused: u32,
}

// SAFETY: numbers and addresses in C's order, with a number in place of the padding.
unsafe impl Plain for Operands {}

/// Rows `[n, dim]`.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) values: Pointer<f32>,
    pub(super) n: usize,
}

/// Rows that were split, in whole tiles.
pub(super) struct SplitRows<G: Gpu> {
    halves: [Memory<G, u16>; 2],
    scales: Memory<G, f32>,
}

impl<G: Gpu> SplitRows<G> {
    /// The rows, `[n_padded, width]`.
    pub(super) fn halves(&self) -> Halves {
        let [high, low] = self.halves.each_ref().map(Memory::pointer);
        Halves { high, low }
    }

    /// What a product of each row is multiplied with.
    pub(super) fn scales(&self) -> Pointer<f32> {
        self.scales.pointer()
    }

    /// How many rows there are with those of zeros behind the last.
    pub(super) fn n_padded(&self) -> usize {
        self.scales.len()
    }
}

/// Splits two operands; with `is_cosine`, products become those of rows of unit length.
pub(super) fn split_rows<G: Gpu>(
    gpu: &G,
    rows: [Rows; 2],
    dim: usize,
    is_cosine: bool,
    is_not_finite: Pointer<u32>,
) -> Result<[SplitRows<G>; 2]> {
    let width = dim.next_multiple_of(CHUNK);
    let room = |rows: Rows| -> Result<SplitRows<G>> {
        let n_padded = rows.n.next_multiple_of(TILE);
        let half = || gpu.allocate(n_padded * width);
        Ok(SplitRows { halves: [half()?, half()?], scales: gpu.allocate(n_padded)? })
    };
    let split = [room(rows[0])?, room(rows[1])?];
    let operand = |i: usize| Operand {
        rows: rows[i].values,
        halves: split[i].halves(),
        scales: split[i].scales(),
        n: rows[i].n as u32,
        n_padded: split[i].n_padded() as u32,
    };
    let operands = Operands {
        operands: [operand(0), operand(1)],
        is_not_finite,
        dim: dim as u32,
        width: width as u32,
        is_cosine: u32::from(is_cosine),
        unused: 0,
    };
    let blocks = split.iter().map(SplitRows::n_padded).sum::<usize>() / ROWS;
    let launch = Launch::new("split_rows", "split_rows", blocks as u32, THREADS);
    // SAFETY: the kernel takes operands, whose memory was allocated for their numbers of rows.
    unsafe { gpu.launch(&launch, &[Argument::structure(&operands)])? };
    Ok(split)
}
