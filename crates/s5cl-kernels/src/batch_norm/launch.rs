//! The starts of the kernels.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

mod backward;
mod known;
mod running;
#[cfg(test)]
mod tests;

use candle_core::Result;

use crate::cuda::stored::{Stored, names};
use crate::cuda::{Gpu, Launch, Memory, Pointer};

pub(crate) use backward::{Backward, Mask};
pub(crate) use known::{Known, known};
#[cfg(feature = "cuda")]
pub(crate) use running::{Running, running};

/// Threads of a block, and vectors of channels that it takes at most, as the kernels have them.
const THREADS: usize = 256;
const TILE: usize = 32;

/// Values that a thread takes at a time, at most.
const WIDEST: usize = 8;

/// Rows that a thread takes at least, where there are as many.
const ROWS: usize = 8;

/// Blocks that sum; their number must not depend on the device, as the sums would too.
const SUMMING_BLOCKS: usize = 512;

/// Blocks of each multiprocessor that only compute.
const BLOCKS: usize = 8;

/// Maps as rows of channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) rows: usize,
    pub(crate) channels: usize,
}

impl Rows {
    /// Tiles of channels, and blocks that give each thread its rows.
    fn blocks(self, width: usize) -> [usize; 2] {
        let vectors = self.channels / width;
        let lanes = THREADS / vectors.min(TILE);
        [self.rows.div_ceil(lanes * ROWS).max(1), vectors.div_ceil(TILE)]
    }

    fn launch(self, kernel: &'static str, width: usize, most: usize) -> Launch {
        let [blocks, tiles] = self.blocks(width);
        let blocks = blocks.min((most / tiles).max(1));
        let grid = [blocks as u32, tiles as u32, 1];
        Launch { grid, ..Launch::new("batch_norm", kernel, 1, THREADS as u32) }
    }

    /// Of a kernel of another module that sums rows as these do.
    pub(crate) fn summing(
        self,
        module: &'static str,
        kernel: &'static str,
        width: usize,
    ) -> Launch {
        Launch { module, ..self.launch(kernel, width, SUMMING_BLOCKS) }
    }

    /// Partial sums that the kernels want room for.
    pub(crate) fn n_partials(self) -> usize {
        // The kernel that takes most values at a time has the fewest tiles, and so the most blocks.
        let tiles = self.channels.div_ceil(TILE * WIDEST);
        2 * self.channels * (SUMMING_BLOCKS / tiles).max(1)
    }

    /// Counters that the kernels want, zero before the first of them.
    pub(crate) fn n_counters(self) -> usize {
        self.channels.div_ceil(TILE)
    }
}

/// Room for sums, used by one kernel after the other.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    pub(crate) partials: Pointer<f32>,
    pub(crate) counters: Pointer<u32>,
}

/// What normalizes by a batch's statistics: mean, inverse deviation, scale and shift of each
/// channel, `[4, channels]`.
#[derive(Clone, Copy)]
pub(crate) struct Coefficients {
    pub(crate) all: Pointer<f32>,
    pub(crate) channels: usize,
}

impl Coefficients {
    pub(crate) const PARTS: usize = 4;

    pub(crate) fn affine(self) -> Affine {
        let (scale, shift) = (2 * self.channels, 3 * self.channels);
        Affine { scale: self.all.offset(scale), shift: self.all.offset(shift) }
    }
}

/// One multiplication and one addition a value, each channel's own.
#[derive(Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) scale: Pointer<f32>,
    pub(crate) shift: Pointer<f32>,
}

/// Weight and bias, `[channels]` each, or their gradients.
#[derive(Clone, Copy)]
pub(crate) struct Parameters {
    pub(crate) weight: Pointer<f32>,
    pub(crate) bias: Pointer<f32>,
}

/// Mean and unbiased variance of each channel.
#[derive(Clone, Copy)]
pub(crate) struct Statistics {
    pub(crate) mean: Pointer<f32>,
    pub(crate) variance: Pointer<f32>,
}

/// The statistics of a batch, and what normalizes by them.
///
/// # Safety
///
/// The pointers must reach as far as the shape says, and `maps` have a row.
#[expect(clippy::too_many_arguments, reason = "three are what is written")]
pub(crate) unsafe fn moments<G: Gpu, T: Stored>(
    gpu: &G,
    maps: Pointer<T>,
    shape: Rows,
    parameters: Parameters,
    epsilon: f64,
    scratch: Scratch,
    coefficients: Coefficients,
    statistics: Statistics,
) -> Result<()> {
    let (kernel, width) = names!("batch_norm_moments").of::<T>(shape.channels, &[maps.address()]);
    let launch = shape.launch(kernel, width, SUMMING_BLOCKS);
    let arguments = [
        maps.into(),
        parameters.weight.into(),
        parameters.bias.into(),
        scratch.partials.into(),
        scratch.counters.into(),
        coefficients.all.into(),
        statistics.mean.into(),
        statistics.variance.into(),
        (shape.rows as u64).into(),
        (shape.channels as u32).into(),
        epsilon.into(),
    ];
    // SAFETY: these are the kernel's parameters, and the caller's promise covers their reach.
    unsafe { gpu.launch(&launch, &arguments) }
}

/// `out = relu(maps * scale + shift + residual)`; the residual may be null, the scale too where it
/// is 1, and `out` may be the maps.
///
/// # Safety
///
/// The pointers must reach as far as the shape says.
pub(crate) unsafe fn apply<G: Gpu, T: Stored>(
    gpu: &G,
    [maps, residual, out]: [Pointer<T>; 3],
    shape: Rows,
    affine: Affine,
    relu: bool,
) -> Result<()> {
    let addresses = [maps, residual, out].map(Pointer::address);
    let (kernel, width) = names!("batch_norm_apply").of::<T>(shape.channels, &addresses);
    let launch = shape.launch(kernel, width, BLOCKS * gpu.n_multiprocessors() as usize);
    let arguments = [
        maps.into(),
        residual.into(),
        affine.scale.into(),
        affine.shift.into(),
        out.into(),
        (shape.rows as u64).into(),
        (shape.channels as u32).into(),
        u32::from(relu).into(),
    ];
    // SAFETY: as above.
    unsafe { gpu.launch(&launch, &arguments) }
}

/// Room for sums over maps of a shape.
pub(crate) struct OwnScratch<G: Gpu> {
    partials: Memory<G, f32>,
    counters: Memory<G, u32>,
}

impl<G: Gpu> OwnScratch<G> {
    pub(crate) fn new(gpu: &G, shape: Rows) -> Result<Self> {
        let mut counters = gpu.allocate(shape.n_counters())?;
        gpu.clear(&mut counters)?;
        Ok(Self { partials: gpu.allocate(shape.n_partials())?, counters })
    }

    pub(crate) fn get(&self) -> Scratch {
        Scratch { partials: self.partials.pointer(), counters: self.counters.pointer() }
    }
}
