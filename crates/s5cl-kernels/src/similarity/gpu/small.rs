//! The kernel for few rows, which is all of S5CL's own batches.
#![expect(unsafe_code, reason = "a kernel is started with raw pointers")]

use candle_core::Result;

use super::problem::{CHUNK, Inputs, MOST_SEGMENTS, Problem, Segment, TILE, has_common_shift};
use crate::cuda::{Argument, Gpu, Launch, Memory, Pointer};
use crate::similarity::op::Part;

/// Threads of a block.
const THREADS: u32 = 256;
/// Rows of a segment, at most: both halves of so many are 64 KiB.
const MOST_SEGMENT_ROWS: usize = 256;
/// Rows of all segments, at most: one block goes through all of them.
const MOST_ROWS: usize = 1024;
/// Bytes of a row beside its halves.
const ROW_BYTES: usize = 5 * 4;

/// The loss, one value, and the gradient of the rows for 1 from above, if it was wanted.
pub(super) struct Output<G: Gpu> {
    pub(super) loss: Memory<G, f32>,
    pub(super) gradient: Option<Memory<G, f32>>,
}

/// Whether the rows are few enough, and the temperatures known and not too small.
pub(super) fn fits(inputs: &Inputs, parts: &[Part]) -> bool {
    inputs.width() == CHUNK
        && inputs.temperatures.is_none()
        && padded(parts) <= MOST_SEGMENT_ROWS
        && parts.iter().map(|part| part.rows.len()).sum::<usize>() <= MOST_ROWS
        && parts.iter().all(has_common_shift)
        && parts.iter().any(|part| !part.rows.is_empty())
}

/// Rows of the largest part, filled up to whole tiles of columns.
fn padded(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.rows.len().next_multiple_of(CHUNK)).max().unwrap_or(0)
}

/// The loss of parts that [`fits`] says yes to, and its gradient.
pub(super) fn contrast<G: Gpu>(
    gpu: &G,
    inputs: Inputs,
    parts: &[Part],
    wants_gradient: bool,
) -> Result<Output<G>> {
    let loss = gpu.allocate(1)?;
    let mut gradient = wants_gradient.then(|| gpu.allocate(inputs.n * inputs.dim)).transpose()?;
    let n_covered: usize = parts.iter().map(|part| part.rows.len()).sum();
    if let Some(gradient) = gradient.as_mut().filter(|_| n_covered != inputs.n) {
        gpu.clear(gradient)?;
    }
    let mut segments = [Segment::NONE; MOST_SEGMENTS];
    let mut n_blocks = 0;
    for (segment, part) in segments.iter_mut().zip(parts) {
        // A pair of blocks is a block here.
        *segment = Segment { first_pair: n_blocks, ..Segment::of(part) };
        n_blocks += part.rows.len().div_ceil(TILE) as u32;
    }
    let rows = padded(parts);
    let problem = Problem {
        loss: loss.pointer(),
        gradient: gradient.as_ref().map_or(Pointer::NULL, Memory::pointer),
        n_positions: rows as u32,
        ..Problem::new(inputs, segments, parts.len())
    };
    let launch = Launch {
        shared_bytes: (rows * (2 * CHUNK * 2 + ROW_BYTES)) as u32,
        ..Launch::new("small", "contrast_small", n_blocks, THREADS)
    };
    // SAFETY: the kernel takes a problem; it reads `n` rows and labels, and writes as many rows of
    // the gradient where there is one.
    unsafe { gpu.launch(&launch, &[Argument::structure(&problem)])? };
    Ok(Output { loss, gradient })
}
