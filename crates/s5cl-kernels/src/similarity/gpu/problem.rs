//! What the kernels of the contrastive loss are given, as `contrast.cuh` declares it.
#![expect(unsafe_code, reason = "structures go to the device as their bytes")]

use crate::cuda::{Plain, Pointer};
use crate::similarity::Reduction;
use crate::similarity::op::Part;

/// Positions of a tile of rows; a segment begins at a multiple of it.
pub(super) const TILE: usize = 128;
/// Numbers of a row that a kernel takes at a time; a row is padded to a multiple of it.
pub(super) const CHUNK: usize = 64;
/// Bytes of the stream of pieces of rows through shared memory.
pub(super) const STREAM_BYTES: usize = 3 * (TILE + 64) * CHUNK * 2;
/// Segments that one problem may have.
pub(super) const MOST_SEGMENTS: usize = 16;
/// Temperatures from here on have one shift for all powers of a segment.
const SMALLEST_COMMON_TEMPERATURE: f64 = 0.023;

/// Tiles of a block of the symmetric pass, at most: the sums of a block are in shared memory.
const MOST_BLOCK_TILES: usize = 16;
/// Blocks of the backward pass, and splits of its columns, as long as there are fewer tiles.
const ENOUGH_BLOCKS: usize = 256;
const MOST_SPLITS: usize = 8;
/// Blocks of the symmetric pass, as long as they are not larger than that: a row has a partial sum
/// for each.
pub(super) const MOST_BLOCKS: usize = 32;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Segment {
    pub(super) first_row: u32,
    pub(super) n_rows: u32,
    pub(super) first_position: u32,
    pub(super) reduction: u32,
    pub(super) block_tiles: u32,
    pub(super) n_blocks: u32,
    pub(super) first_pair: u32,
    pub(super) unused: u32,
    pub(super) temperature: f64,
    pub(super) weight: f64,
    pub(super) base_temperature: f64,
}

impl Segment {
    /// Behind the last one.
    pub(super) const NONE: Self = Self {
        first_row: 0,
        n_rows: 0,
        first_position: 0,
        reduction: 0,
        block_tiles: 0,
        n_blocks: 0,
        first_pair: 0,
        unused: 0,
        temperature: 1.0,
        weight: 0.0,
        base_temperature: 1.0,
    };

    /// A part, before it has a place among others.
    pub(super) fn of(part: &Part) -> Self {
        let (reduction, base_temperature) = match part.reduction {
            Reduction::MeanValid => (0, 1.0),
            Reduction::PmlAvgNonZero => (1, 1.0),
            Reduction::SupContrastMeanAll { base_temperature } => (2, base_temperature),
        };
        Self {
            first_row: part.rows.start as u32,
            n_rows: part.rows.len() as u32,
            reduction,
            temperature: part.temperature,
            weight: part.weight,
            base_temperature,
            ..Self::NONE
        }
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct State {
    pub(super) numbers: [f64; 3],
    pub(super) flags: [u32; 2],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Problem {
    pub(super) rows: Pointer<f32>,
    pub(super) labels: Pointer<u32>,
    pub(super) temperatures: Pointer<f32>,
    pub(super) order: Pointer<u32>,
    pub(super) sorted_labels: Pointer<u32>,
    pub(super) high: Pointer<u16>,
    pub(super) low: Pointer<u16>,
    pub(super) inverse_norms: Pointer<f32>,
    pub(super) sorting: Pointer<u32>,
    pub(super) run_sums: Pointer<f64>,
    pub(super) means: Pointer<f64>,
    pub(super) n_positives: Pointer<u32>,
    pub(super) partial_sums: Pointer<f32>,
    pub(super) maxima: Pointer<f32>,
    pub(super) sums: Pointer<f32>,
    pub(super) shares: Pointer<f32>,
    pub(super) pulls: Pointer<f32>,
    pub(super) tile_sums: Pointer<f64>,
    pub(super) states: Pointer<State>,
    pub(super) ticket: Pointer<u32>,
    pub(super) loss: Pointer<f32>,
    pub(super) anchor_losses: Pointer<f32>,
    pub(super) unit_gradient: Pointer<f32>,
    pub(super) from_above: Pointer<f32>,
    pub(super) gradient: Pointer<f32>,
    pub(super) temperature_gradient: Pointer<f32>,
    pub(super) n_segments: u32,
    pub(super) n_positions: u32,
    pub(super) dim: u32,
    pub(super) width: u32,
    pub(super) precision: u32,
    pub(super) is_tiled: u32,
    pub(super) n_splits: u32,
    pub(super) unused: u32,
    pub(super) segments: [Segment; MOST_SEGMENTS],
}

// SAFETY: numbers and addresses in C's order, with a number in place of each padding; the kernels
// write a state before it is read.
unsafe impl Plain for State {}
// SAFETY: as above; no problem is made of bytes from the device.
unsafe impl Plain for Problem {}

impl Problem {
    /// A problem that points to nothing but what is given.
    pub(super) fn new(
        inputs: Inputs,
        segments: [Segment; MOST_SEGMENTS],
        n_segments: usize,
    ) -> Self {
        Self {
            rows: inputs.rows,
            labels: inputs.labels,
            temperatures: inputs.temperatures.unwrap_or(Pointer::NULL),
            order: Pointer::NULL,
            sorted_labels: Pointer::NULL,
            high: Pointer::NULL,
            low: Pointer::NULL,
            inverse_norms: Pointer::NULL,
            sorting: Pointer::NULL,
            run_sums: Pointer::NULL,
            means: Pointer::NULL,
            n_positives: Pointer::NULL,
            partial_sums: Pointer::NULL,
            maxima: Pointer::NULL,
            sums: Pointer::NULL,
            shares: Pointer::NULL,
            pulls: Pointer::NULL,
            tile_sums: Pointer::NULL,
            states: Pointer::NULL,
            ticket: Pointer::NULL,
            loss: Pointer::NULL,
            anchor_losses: Pointer::NULL,
            unit_gradient: Pointer::NULL,
            from_above: Pointer::NULL,
            gradient: Pointer::NULL,
            temperature_gradient: Pointer::NULL,
            n_segments: n_segments as u32,
            n_positions: 0,
            dim: inputs.dim as u32,
            width: inputs.width() as u32,
            precision: 0,
            is_tiled: 0,
            n_splits: 1,
            unused: 0,
            segments,
        }
    }
}

/// What is contrasted: rows `[n, dim]`, a label for each, and the temperature of each part if they
/// are on the device.
#[derive(Clone, Copy)]
pub(crate) struct Inputs {
    pub(crate) rows: Pointer<f32>,
    pub(crate) labels: Pointer<u32>,
    pub(crate) temperatures: Option<Pointer<f32>>,
    pub(crate) n: usize,
    pub(crate) dim: usize,
}

impl Inputs {
    /// Numbers of a row with the zeros behind it.
    pub(super) fn width(&self) -> usize {
        self.dim.next_multiple_of(CHUNK)
    }
}

/// Whether the powers of a part have one shift.
pub(super) fn has_common_shift(part: &Part) -> bool {
    part.temperature >= SMALLEST_COMMON_TEMPERATURE
}

/// The segments of a problem, and how much work they are.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) segments: [Segment; MOST_SEGMENTS],
    pub(super) n_segments: usize,
    pub(super) n_positions: usize,
    /// Pairs of blocks of the symmetric pass.
    pub(super) n_pairs: usize,
    /// The most blocks of a segment, and the most tiles of a block.
    pub(super) n_blocks: usize,
    pub(super) block_tiles: usize,
}

impl Layout {
    /// The layout of at most [`MOST_SEGMENTS`] parts; empty ones have no position.
    pub(super) fn of(parts: &[Part]) -> Self {
        let mut layout = Self {
            segments: [Segment::NONE; MOST_SEGMENTS],
            n_segments: parts.len(),
            n_positions: 0,
            n_pairs: 0,
            n_blocks: 0,
            block_tiles: 0,
        };
        for (segment, part) in layout.segments.iter_mut().zip(parts) {
            let n_tiles = part.rows.len().div_ceil(TILE);
            let block_tiles = n_tiles.div_ceil(MOST_BLOCKS).clamp(1, MOST_BLOCK_TILES);
            let n_blocks = n_tiles.div_ceil(block_tiles);
            *segment = Segment {
                first_position: layout.n_positions as u32,
                block_tiles: block_tiles as u32,
                n_blocks: n_blocks as u32,
                first_pair: layout.n_pairs as u32,
                ..Segment::of(part)
            };
            layout.n_positions += n_tiles * TILE;
            layout.n_pairs += n_blocks * (n_blocks + 1) / 2;
            layout.n_blocks = layout.n_blocks.max(n_blocks);
            layout.block_tiles = layout.block_tiles.max(block_tiles);
        }
        layout
    }

    /// Parts of the columns that the backward pass takes apart: with few tiles of rows a block for
    /// each would leave most of a device idle.
    pub(super) fn n_splits(&self) -> usize {
        let most_rows = self.segments.iter().map(|segment| segment.n_rows).max().unwrap_or(0);
        let of_segment = (most_rows as usize).div_ceil(TILE) / 2;
        let wanted = ENOUGH_BLOCKS / (self.n_positions / TILE).max(1);
        wanted.min(of_segment).clamp(1, MOST_SPLITS)
    }
}
