//! The starts of the kernels.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{Result, bail};

use super::rules::Formula;
use crate::cuda::{Argument, Gpu, Launch, Memory, Plain, Pointer};

const MODULE: &str = "optimizer_step";
/// Threads of a block, and of the one that sums what blocks gave.
const THREADS: u32 = 256;
const SUM_THREADS: u32 = 1024;
/// Values of a tensor that a block takes.
const VALUES_OF_BLOCK: usize = 4096;
/// Tensors of a launch: their addresses fill the 4 KB that a kernel can be given.
const MOST_TENSORS: usize = 96;

/// What a launch reads and writes of one tensor.
#[derive(Clone, Copy)]
pub(super) struct Item {
    /// What changes, what it follows, and two of state; null where a rule has fewer.
    pub(super) at: [Pointer<f32>; 4],
    /// Values of each.
    pub(super) len: usize,
}

/// What gradients count for, as kernels take it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Scale {
    norm: u64,
    loss_scale: u64,
    largest: f64,
    given: f32,
    unused: f32,
}

// SAFETY: numbers of 32 bytes in all, without padding.
unsafe impl Plain for Scale {}

impl Scale {
    /// A number that is known.
    pub(super) fn given(scale: f32) -> Self {
        Self { norm: 0, loss_scale: 0, largest: 0.0, given: scale, unused: 0.0 }
    }

    /// What the norm decides.
    pub(super) fn by_norm(
        norm: Pointer<f64>,
        largest: f64,
        loss_scale: Option<Pointer<f32>>,
    ) -> Self {
        let loss_scale = loss_scale.unwrap_or(Pointer::NULL).address();
        Self { norm: norm.address(), loss_scale, largest, given: 1.0, unused: 0.0 }
    }
}

/// The tensors of a launch, in the layout of the kernels' structure.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensors {
    at: [[u64; MOST_TENSORS]; 4],
    first_block: [u32; MOST_TENSORS],
    len: [u32; MOST_TENSORS],
    n: u32,
    unused: u32,
}

// SAFETY: numbers, the larger ones first, and an even number of the smaller ones: no padding.
unsafe impl Plain for Tensors {}

impl Tensors {
    /// At most [`MOST_TENSORS`] items, and their blocks.
    fn new(items: &[Item]) -> Result<(Self, u32)> {
        let mut tensors = Self {
            at: [[0; MOST_TENSORS]; 4],
            first_block: [0; MOST_TENSORS],
            len: [0; MOST_TENSORS],
            n: items.len() as u32,
            unused: 0,
        };
        let mut blocks = 0;
        for (i, item) in items.iter().enumerate() {
            let Ok(len) = u32::try_from(item.len) else {
                bail!("{MODULE}: a tensor of {} values is too large", item.len)
            };
            for (row, pointer) in tensors.at.iter_mut().zip(item.at) {
                row[i] = pointer.address();
            }
            tensors.first_block[i] = blocks;
            tensors.len[i] = len;
            blocks += item.len.div_ceil(VALUES_OF_BLOCK) as u32;
        }
        Ok((tensors, blocks))
    }
}

/// Starts a kernel of [`THREADS`] for all items, in as few launches as they fit in; `more` are its
/// arguments behind the tensors, given the number of blocks that came before.
///
/// # Safety
///
/// The arguments must be the kernel's, and each item's pointers reach as far as its length.
unsafe fn for_each_group<'a, G: Gpu>(
    gpu: &G,
    kernel: &'static str,
    items: &[Item],
    more: impl Fn(usize) -> Vec<Argument<'a>>,
) -> Result<()> {
    let mut before = 0;
    for group in items.chunks(MOST_TENSORS) {
        let (tensors, blocks) = Tensors::new(group)?;
        if blocks == 0 {
            continue;
        }
        let mut arguments = vec![Argument::structure(&tensors)];
        arguments.extend(more(before));
        // SAFETY: the caller's promise.
        unsafe { gpu.launch(&Launch::new(MODULE, kernel, blocks, THREADS), &arguments)? };
        before += blocks as usize;
    }
    Ok(())
}

/// One step of all items: a parameter, its gradient, and its state.
pub(super) fn step<G: Gpu>(gpu: &G, formula: Formula, scale: Scale, items: &[Item]) -> Result<()> {
    let (kernel, numbers) = match formula {
        Formula::Adamax { rate, decay, share, kept, epsilon } => {
            ("adamax_step", vec![rate, decay, share, kept, epsilon])
        }
        Formula::AdamW { rate, kept, mean_share, square_share, root_scale, epsilon } => {
            ("adamw_step", vec![rate, kept, mean_share, square_share, root_scale, epsilon])
        }
        Formula::Momentum { rate, decay, momentum, .. } => {
            ("momentum_step", vec![rate, decay, momentum])
        }
        Formula::Descent { rate, decay } => ("descent_step", vec![rate, decay]),
    };
    let look_ahead = match formula {
        Formula::Momentum { nesterov, .. } => Some(u32::from(nesterov)),
        _ => None,
    };
    let more = |_| {
        let mut arguments = vec![Argument::structure(&scale)];
        arguments.extend(numbers.iter().map(|&number| Argument::from(number)));
        arguments.extend(look_ahead.map(Argument::from));
        arguments
    };
    // SAFETY: these are the kernels' parameters, and the tensors of an item have one length.
    unsafe { for_each_group(gpu, kernel, items, more) }
}

/// Moves each item's first values towards its second.
pub(super) fn average<G: Gpu>(gpu: &G, share: f32, items: &[Item]) -> Result<()> {
    // SAFETY: these are the kernel's parameters, and the tensors of an item have one length.
    unsafe { for_each_group(gpu, "average_step", items, |_| vec![share.into()]) }
}

/// The norm of each item's first values together: one value.
pub(super) fn norm<G: Gpu>(gpu: &G, items: &[Item]) -> Result<Memory<G, f64>> {
    let n_blocks: usize = items.iter().map(|item| item.len.div_ceil(VALUES_OF_BLOCK)).sum();
    let (sums, root) = (gpu.allocate::<f64>(n_blocks)?, gpu.allocate::<f64>(1)?);
    let more = |before| vec![sums.pointer().offset(before).into()];
    // SAFETY: these are the kernel's parameters, and there is a place for the sum of every block.
    unsafe { for_each_group(gpu, "sums_of_squares", items, more)? };
    let launch = Launch::new(MODULE, "root_of_sum", 1, SUM_THREADS);
    let arguments = [sums.pointer().into(), root.pointer().into(), (n_blocks as u32).into()];
    // SAFETY: these are the kernel's parameters, with as many sums as blocks.
    unsafe { gpu.launch(&launch, &arguments)? };
    Ok(root)
}

#[cfg(test)]
mod tests;
