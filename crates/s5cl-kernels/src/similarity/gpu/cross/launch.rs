//! The kernels of the contrast of queries against keys, one after another.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use std::mem::offset_of;

use candle_core::Result;

use super::problem::{Partial, Problem, SHARES, Side, State};
use crate::cuda::{Argument, Gpu, Launch, Memory, Pointer};
use crate::similarity::gpu::problem::{CHUNK, STREAM_BYTES, TILE};
use crate::similarity::gpu::split_rows::{Rows, SplitRows, split_rows};
use crate::similarity::gpu::splits::Splits;

/// Threads of the kernels that multiply rows, and of those that prepare and finish them.
const THREADS: u32 = 256;
/// Rows of a block of the kernel that prepares them.
const ROWS: u32 = 8;
/// Numbers of a row that a block of the backward pass has.
const SLICE: usize = 2 * CHUNK;
/// Tiles of columns that are worth a block.
const FEWEST_TILES: usize = 4;

/// What belongs to the rows of one side: labels, or shares of classes, and weights.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) rows: Rows,
    pub(super) labels: Pointer<u32>,
    pub(super) shares: Pointer<f32>,
    pub(super) weights: Pointer<f32>,
}

/// The temperature of all queries, or where that of each is.
#[derive(Clone, Copy)]
pub(super) enum Temperatures {
    One(f64),
    Each(Pointer<f64>),
}

/// What is contrasted; where there are no classes, labels say what belongs together.
#[derive(Clone, Copy)]
pub(super) struct Inputs {
    pub(super) queries: Given,
    pub(super) keys: Given,
    pub(super) temperatures: Temperatures,
    pub(super) excluded: Pointer<u32>,
    pub(super) n_classes: usize,
    pub(super) dim: usize,
}

/// A loss that was computed, with what its gradients take.
pub(super) struct Cross<G: Gpu> {
    /// Rows of queries and of keys.
    sides: [usize; 2],
    dim: usize,
    /// Nothing where there is no query or no key.
    computed: Option<(Problem, Numbers<G>)>,
}

impl<G: Gpu> Cross<G> {
    /// The loss, one value.
    pub(super) fn forward(gpu: &G, inputs: Inputs) -> Result<(Self, Memory<G, f32>)> {
        let mut loss = gpu.allocate(1)?;
        let (sides, dim) = ([inputs.queries.rows.n, inputs.keys.rows.n], inputs.dim);
        if sides.contains(&0) {
            gpu.clear(&mut loss)?;
            return Ok((Self { sides, dim, computed: None }, loss));
        }
        let tiles = sides[0].div_ceil(TILE);
        let splits = Splits::of(tiles, sides[1], FEWEST_TILES);
        let numbers = Numbers::new(gpu, &inputs, splits)?;
        let problem = Problem { loss: loss.pointer(), ..numbers.problem(&inputs, splits) };
        let start = |launch| start(gpu, launch, &[Argument::structure(&problem)]);
        let rows = (problem.queries.n_padded + problem.keys.n_padded) / ROWS;
        start(Launch::new("cross_sums", "cross_rows", rows, THREADS))?;
        let tiles = tiles as u32;
        start(Launch {
            grid: [tiles, splits.count as u32, 1],
            shared_bytes: STREAM_BYTES as u32,
            ..Launch::new("cross_sums", "cross_sums", tiles, THREADS)
        })?;
        start(Launch::new("cross_sums", "cross_losses", tiles, TILE as u32))?;
        Ok((Self { sides, dim, computed: Some((problem, numbers)) }, loss))
    }

    /// The gradient of the queries, or of the keys, `[n, dim]`, for a gradient of `from_above`, one
    /// value on the device. What the inputs point to must still be there.
    pub(super) fn backward(
        &self,
        gpu: &G,
        is_of_keys: bool,
        from_above: Pointer<f32>,
    ) -> Result<Memory<G, f32>> {
        let [n_queries, n_keys] = self.sides;
        let (n, n_cols) = if is_of_keys { (n_keys, n_queries) } else { (n_queries, n_keys) };
        let mut gradient = gpu.allocate(n * self.dim)?;
        let Some((problem, _)) = &self.computed else {
            gpu.clear(&mut gradient)?;
            return Ok(gradient);
        };
        let width = problem.width as usize;
        let (tiles, slices) = (n.div_ceil(TILE), width.div_ceil(SLICE));
        let splits = Splits::of(tiles * slices, n_cols, FEWEST_TILES);
        let sums = gpu.allocate::<f32>(splits.count * tiles * TILE * width)?;
        let problem = Problem {
            sums: sums.pointer(),
            from_above,
            gradient: gradient.pointer(),
            split_tiles: splits.tiles as u32,
            n_splits: splits.count as u32,
            ..*problem
        };
        let kernel =
            if is_of_keys { "cross_gradient_of_keys" } else { "cross_gradient_of_queries" };
        let launch = Launch {
            grid: [tiles as u32, slices as u32, splits.count as u32],
            shared_bytes: STREAM_BYTES as u32,
            ..Launch::new("cross_gradient", kernel, 1, THREADS)
        };
        start(gpu, launch, &[Argument::structure(&problem)])?;
        let blocks = gradient.len().div_ceil(THREADS as usize) as u32;
        let launch = Launch::new("cross_gradient", "cross_finish", blocks, THREADS);
        start(gpu, launch, &[Argument::structure(&problem), u32::from(is_of_keys).into()])?;
        Ok(gradient)
    }
}

/// The memory that a problem points to; two of a kind are of queries and keys.
struct Numbers<G: Gpu> {
    rows: [SplitRows<G>; 2],
    shares: [Memory<G, f32>; 2],
    factors: [Memory<G, f32>; 2],
    biases: Memory<G, f32>,
    /// Four numbers of each query.
    of_queries: [Memory<G, f32>; 4],
    partials: Memory<G, Partial>,
    tile_sums: Memory<G, f64>,
    state: Memory<G, State>,
}

impl<G: Gpu> Numbers<G> {
    /// Room for all, and the rows of both sides split.
    fn new(gpu: &G, inputs: &Inputs, splits: Splits) -> Result<Self> {
        let Inputs { queries, keys, n_classes, dim, .. } = *inputs;
        let mut state = gpu.allocate::<State>(1)?;
        gpu.clear(&mut state)?;
        let is_wrong = state.pointer().address() + offset_of!(State, is_wrong) as u64;
        let rows = [queries.rows, keys.rows];
        let rows = split_rows(gpu, rows, dim, false, Pointer::at(is_wrong))?;
        let [n_queries, n_keys] = rows.each_ref().map(SplitRows::n_padded);
        let class_width = n_classes.next_multiple_of(SHARES);
        let of_query = || gpu.allocate(n_queries);
        Ok(Self {
            rows,
            shares: [gpu.allocate(n_queries * class_width)?, gpu.allocate(n_keys * class_width)?],
            factors: [gpu.allocate(n_queries)?, gpu.allocate(n_keys)?],
            biases: gpu.allocate(n_keys)?,
            of_queries: [of_query()?, of_query()?, of_query()?, of_query()?],
            partials: gpu.allocate(splits.count * n_queries)?,
            tile_sums: gpu.allocate(2 * n_queries / TILE)?,
            state,
        })
    }

    /// The problem of the forward pass, but for the place of the loss.
    fn problem(&self, inputs: &Inputs, splits: Splits) -> Problem {
        let Inputs { queries, keys, temperatures, excluded, n_classes, dim } = *inputs;
        let side = |given: Given, i: usize| Side {
            labels: given.labels,
            shares: given.shares,
            weights: given.weights,
            halves: self.rows[i].halves(),
            padded_shares: self.shares[i].pointer(),
            scales: self.rows[i].scales(),
            factors: self.factors[i].pointer(),
            n: given.rows.n as u32,
            n_padded: self.rows[i].n_padded() as u32,
        };
        let (temperature, temperatures) = match temperatures {
            Temperatures::One(temperature) => (temperature, Pointer::NULL),
            Temperatures::Each(temperatures) => (1.0, temperatures),
        };
        let [maxima, inverse_sums, inverse_affinities, slopes] =
            self.of_queries.each_ref().map(Memory::pointer);
        Problem {
            queries: side(queries, 0),
            keys: side(keys, 1),
            temperatures,
            excluded,
            biases: self.biases.pointer(),
            partials: self.partials.pointer(),
            maxima,
            inverse_sums,
            inverse_affinities,
            slopes,
            tile_sums: self.tile_sums.pointer(),
            state: self.state.pointer(),
            loss: Pointer::NULL,
            sums: Pointer::NULL,
            from_above: Pointer::NULL,
            gradient: Pointer::NULL,
            temperature,
            dim: dim as u32,
            width: dim.next_multiple_of(CHUNK) as u32,
            n_classes: n_classes as u32,
            class_width: n_classes.next_multiple_of(SHARES) as u32,
            split_tiles: splits.tiles as u32,
            n_splits: splits.count as u32,
        }
    }
}

fn start<G: Gpu>(gpu: &G, launch: Launch, arguments: &[Argument<'_>]) -> Result<()> {
    // SAFETY: every kernel of the loss takes a problem, whose memory was allocated for its sizes,
    // and the last also which side it is for.
    unsafe { gpu.launch(&launch, arguments) }
}
