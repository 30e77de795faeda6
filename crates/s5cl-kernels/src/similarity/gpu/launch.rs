//! The kernels of the contrastive loss, one after another.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use super::problem::{CHUNK, Inputs, Layout, Problem, STREAM_BYTES, State, TILE, has_common_shift};
use crate::cuda::{Argument, Gpu, Launch, Memory, Pointer};
use crate::similarity::SimilarityPrecision;
use crate::similarity::op::Part;

/// Threads of the kernels that multiply rows, and of those that prepare and finish them.
const THREADS: u32 = 256;
const SORT_THREADS: u32 = 1024;
/// Counts of 256 digits by 32 warps, with a gap behind those of a digit, and a sum of each warp.
const SORT_BYTES: u32 = (256 * 33 + 32) * 4;
/// Warps times columns of a tile, numbers of 4 bytes.
const COL_SUMS_BYTES: usize = 8 * 64 * 4;
/// Numbers of a row that a block of the backward pass has.
const SLICE: usize = 2 * CHUNK;

/// The kernels for Hopper, their threads, the most numbers of a row that they take, and the bytes
/// of 64 numbers of a tile.
const HOPPER_MODULE: &str = "contrast_sm90a";
const HOPPER_THREADS: u32 = 384;
const HOPPER_WIDTH: usize = 128;
const HOPPER_CHUNK_BYTES: usize = TILE * CHUNK * 2;

/// A loss that was computed, with what its gradient takes.
pub(crate) struct Contrast<G: Gpu> {
    problem: Problem,
    layout: Layout,
    n: usize,
    _numbers: Numbers<G>,
}

/// The memory that a problem points to.
struct Numbers<G: Gpu> {
    _positions: [Memory<G, u32>; 3],
    _sorting: Memory<G, u32>,
    _halves: [Memory<G, u16>; 2],
    _floats: [Memory<G, f32>; 5],
    _doubles: [Memory<G, f64>; 3],
    _partial_sums: Memory<G, f32>,
    _states: Memory<G, State>,
    _ticket: Memory<G, u32>,
}

/// The gradients of rows and temperatures.
pub(crate) struct Gradients<G: Gpu> {
    pub(crate) rows: Memory<G, f32>,
    pub(crate) temperatures: Option<Memory<G, f32>>,
}

impl<G: Gpu> Contrast<G> {
    /// The loss, one value, and the loss of each row where there is a place for it.
    pub(crate) fn forward(
        gpu: &G,
        inputs: Inputs,
        parts: &[Part],
        precision: SimilarityPrecision,
        anchor_losses: Option<Pointer<f32>>,
    ) -> Result<(Self, Memory<G, f32>)> {
        let mut loss = gpu.allocate(1)?;
        let contrast = Self::new(gpu, inputs, parts, precision)?;
        let Self { layout, mut problem, .. } = contrast;
        problem.loss = loss.pointer();
        problem.anchor_losses = anchor_losses.unwrap_or(Pointer::NULL);
        if layout.n_positions == 0 {
            gpu.clear(&mut loss)?;
            return Ok((Self { problem, layout, ..contrast }, loss));
        }
        let tiles = (layout.n_positions / TILE) as u32;
        let segments = layout.n_segments as u32;
        let start = |launch| start(gpu, launch, &problem);
        start(Launch {
            shared_bytes: SORT_BYTES,
            ..Launch::new("prologue", "contrast_sort", segments, SORT_THREADS)
        })?;
        start(Launch::new("prologue", "contrast_rows", tiles, THREADS))?;
        start(Launch {
            shared_bytes: (8 * inputs.dim) as u32,
            ..Launch::new("prologue", "contrast_means", tiles, THREADS)
        })?;
        // Where a temperature is on the device, only the kernels know which of both is theirs.
        let is_learned = inputs.temperatures.is_some();
        if is_learned || parts.iter().any(has_common_shift) {
            start(contrast.powers())?;
        }
        if is_learned || !parts.iter().all(has_common_shift) {
            start(Launch {
                shared_bytes: STREAM_BYTES as u32,
                ..Launch::new("powers", "contrast_own_powers", tiles, THREADS)
            })?;
        }
        start(Launch::new("losses", "contrast_losses", tiles, TILE as u32))?;
        Ok((Self { problem, layout, ..contrast }, loss))
    }

    /// The gradients, for a gradient of `from_above`, one value on the device; the rows must still
    /// be there.
    pub(crate) fn backward(
        &self,
        gpu: &G,
        from_above: Pointer<f32>,
        wants_temperatures: bool,
    ) -> Result<Gradients<G>> {
        let Self { layout, mut problem, n, .. } = *self;
        let mut rows = gpu.allocate(n * problem.dim as usize)?;
        let n_covered: u32 = layout.segments.iter().map(|segment| segment.n_rows).sum();
        if n_covered as usize != n {
            gpu.clear(&mut rows)?;
        }
        let mut temperatures =
            wants_temperatures.then(|| gpu.allocate::<f32>(layout.n_segments)).transpose()?;
        if layout.n_positions == 0 {
            temperatures.iter_mut().try_for_each(|memory| gpu.clear(memory))?;
            return Ok(Gradients { rows, temperatures });
        }
        let width = problem.width as usize;
        let n_splits = problem.n_splits as usize;
        let unit_gradient = gpu.allocate::<f32>(n_splits * layout.n_positions * width)?;
        problem.unit_gradient = unit_gradient.pointer();
        problem.from_above = from_above;
        problem.gradient = rows.pointer();
        problem.temperature_gradient = temperatures.as_ref().map_or(Pointer::NULL, Memory::pointer);
        start(gpu, self.gradient(), &problem)?;
        let tiles = (layout.n_positions / TILE) as u32;
        start(gpu, Launch::new("gradient", "contrast_finish", tiles, THREADS), &problem)?;
        Ok(Gradients { rows, temperatures })
    }

    /// The symmetric pass.
    fn powers(&self) -> Launch {
        let Self { problem, layout, .. } = self;
        let of_block = layout.block_tiles * TILE * 2 * 4;
        let blocks = layout.n_pairs as u32;
        if problem.is_tiled == 0 {
            return Launch {
                shared_bytes: (STREAM_BYTES + COL_SUMS_BYTES + of_block) as u32,
                ..Launch::new("powers", "contrast_powers", blocks, THREADS)
            };
        }
        let (kernel, tile_bytes) = match problem.width {
            64 => ("contrast_powers_64_sm90a", HOPPER_CHUNK_BYTES),
            _ => ("contrast_powers_128_sm90a", 2 * HOPPER_CHUNK_BYTES),
        };
        // Three tiles of rows, two of columns, and two barriers of each; sums of 8 warps.
        let tiles = 5 * (tile_bytes + 2 * 8);
        Launch {
            shared_bytes: (tiles + 8 * TILE * 4 + of_block) as u32,
            ..Launch::new(HOPPER_MODULE, kernel, blocks, HOPPER_THREADS)
        }
    }

    /// The backward pass, up to the gradient of unit rows.
    fn gradient(&self) -> Launch {
        let Self { problem, layout, .. } = self;
        let (tiles, width) = ((layout.n_positions / TILE) as u32, problem.width as usize);
        if problem.is_tiled == 0 {
            return Launch {
                grid: [tiles, width.div_ceil(SLICE) as u32, problem.n_splits],
                shared_bytes: STREAM_BYTES as u32,
                ..Launch::new("gradient", "contrast_gradient", tiles, THREADS)
            };
        }
        let (kernel, tile_bytes) = match width {
            64 => ("contrast_gradient_64_sm90a", HOPPER_CHUNK_BYTES),
            _ => ("contrast_gradient_128_sm90a", 2 * HOPPER_CHUNK_BYTES),
        };
        // Two tiles of rows, three of columns, and two barriers of each.
        Launch {
            grid: [tiles, 1, problem.n_splits],
            shared_bytes: (5 * (tile_bytes + 2 * 8)) as u32,
            ..Launch::new(HOPPER_MODULE, kernel, tiles, HOPPER_THREADS)
        }
    }

    fn new(
        gpu: &G,
        inputs: Inputs,
        parts: &[Part],
        precision: SimilarityPrecision,
    ) -> Result<Self> {
        let layout = Layout::of(parts);
        let Inputs { n, dim, .. } = inputs;
        let (positions, width) = (layout.n_positions, inputs.width());
        // Hopper's kernels are for what is common: rows of any other length, small temperatures
        // and exact products are left to the portable ones.
        let is_tiled = gpu.is_hopper()
            && width <= HOPPER_WIDTH
            && precision != SimilarityPrecision::Exact
            && inputs.temperatures.is_none()
            && parts.iter().all(has_common_shift);
        let tiles = positions / TILE;
        let u32s = || gpu.allocate::<u32>(positions);
        let f32s = || gpu.allocate::<f32>(positions);
        let halves = || gpu.allocate::<u16>(positions * width);
        let numbers = Numbers {
            _positions: [u32s()?, u32s()?, u32s()?],
            _sorting: gpu.allocate(4 * positions)?,
            _halves: [halves()?, halves()?],
            _floats: [f32s()?, f32s()?, f32s()?, f32s()?, f32s()?],
            _doubles: [
                gpu.allocate(2 * tiles * dim)?,
                gpu.allocate(positions)?,
                gpu.allocate(3 * tiles)?,
            ],
            _partial_sums: gpu.allocate(layout.n_blocks * positions)?,
            _states: gpu.allocate(layout.n_segments)?,
            _ticket: gpu.allocate(1)?,
        };
        let [order, sorted_labels, n_positives] =
            numbers._positions.each_ref().map(Memory::pointer);
        let [high, low] = numbers._halves.each_ref().map(Memory::pointer);
        let [inverse_norms, maxima, sums, shares, pulls] =
            numbers._floats.each_ref().map(Memory::pointer);
        let [run_sums, means, tile_sums] = numbers._doubles.each_ref().map(Memory::pointer);
        let problem = Problem {
            order,
            sorted_labels,
            high,
            low,
            inverse_norms,
            sorting: numbers._sorting.pointer(),
            run_sums,
            means,
            n_positives,
            partial_sums: numbers._partial_sums.pointer(),
            maxima,
            sums,
            shares,
            pulls,
            tile_sums,
            states: numbers._states.pointer(),
            ticket: numbers._ticket.pointer(),
            n_positions: positions as u32,
            precision: precision as u32,
            is_tiled: u32::from(is_tiled),
            n_splits: layout.n_splits() as u32,
            ..Problem::new(inputs, layout.segments, layout.n_segments)
        };
        Ok(Self { problem, layout, n, _numbers: numbers })
    }
}

fn start<G: Gpu>(gpu: &G, launch: Launch, problem: &Problem) -> Result<()> {
    // SAFETY: every kernel of the loss takes a problem, whose memory was allocated for its layout.
    unsafe { gpu.launch(&launch, &[Argument::structure(problem)]) }
}
