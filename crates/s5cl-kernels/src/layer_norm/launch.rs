//! The starts of the kernels.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

#[cfg(test)]
mod tests;

use candle_core::Result;

use crate::batch_norm::launch::{Parameters, Rows, Scratch};
use crate::cuda::stored::{Stored, names};
use crate::cuda::{Gpu, Launch, Pointer};

/// Threads of a block, and of a warp.
const THREADS: usize = 256;
const WARP: usize = 32;

/// Blocks of each multiprocessor.
const BLOCKS: usize = 8;

/// Layer normalization of rows of channels.
#[derive(Clone, Copy)]
pub(crate) struct Normalizing {
    pub(crate) shape: Rows,
    pub(crate) parameters: Parameters,
    pub(crate) epsilon: f64,
}

impl Normalizing {
    /// Lanes that share a row of so many vectors.
    fn group(vectors: usize) -> usize {
        vectors.next_power_of_two().min(WARP)
    }

    /// A kernel that takes whole rows, and the lanes that share one.
    fn launch<G: Gpu>(&self, gpu: &G, kernel: &'static str, width: usize) -> (Launch, u32) {
        let group = Self::group(self.shape.channels / width);
        let most = BLOCKS * gpu.n_multiprocessors() as usize;
        let blocks = (self.shape.rows * group).div_ceil(THREADS).min(most);
        (Launch::new("layer_norm", kernel, blocks as u32, THREADS as u32), group as u32)
    }

    /// Writes the normalized rows, and into `kept`, unless it is null, mean and inverse deviation
    /// of each.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shape says.
    pub(crate) unsafe fn forward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        maps: Pointer<T>,
        kept: Pointer<f32>,
        out: Pointer<T>,
    ) -> Result<()> {
        let Parameters { weight, bias } = self.parameters;
        let addresses = [maps.address(), out.address(), weight.address(), bias.address()];
        let (kernel, width) = names!("layer_norm").of::<T>(self.shape.channels, &addresses);
        let (launch, group) = self.launch(gpu, kernel, width);
        let arguments = [
            maps.into(),
            weight.into(),
            bias.into(),
            kept.into(),
            out.into(),
            (self.shape.rows as u64).into(),
            (self.shape.channels as u32).into(),
            group.into(),
            (self.epsilon as f32).into(),
        ];
        // SAFETY: these are the kernel's parameters, and the caller's promise covers their reach.
        unsafe { gpu.launch(&launch, &arguments) }
    }

    /// Writes the gradients of the parameters, each unless it is null.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shape says, and the scratch be for it.
    pub(crate) unsafe fn parameter_gradients<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        (maps, kept): (Pointer<T>, Pointer<f32>),
        gradient: Pointer<T>,
        scratch: Scratch,
        into: Parameters,
    ) -> Result<()> {
        let addresses = [maps.address(), gradient.address()];
        let names = names!("layer_norm_gradient_sums");
        let (kernel, width) = names.of::<T>(self.shape.channels, &addresses);
        let launch = self.shape.summing("layer_norm", kernel, width);
        let arguments = [
            maps.into(),
            kept.into(),
            gradient.into(),
            scratch.partials.into(),
            scratch.counters.into(),
            into.weight.into(),
            into.bias.into(),
            (self.shape.rows as u64).into(),
            (self.shape.channels as u32).into(),
        ];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }

    /// Makes the gradient that of the maps in place.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shape says.
    pub(crate) unsafe fn map_gradient<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        (maps, kept): (Pointer<T>, Pointer<f32>),
        gradient: Pointer<T>,
    ) -> Result<()> {
        let weight = self.parameters.weight;
        let addresses = [maps.address(), gradient.address(), weight.address()];
        let names = names!("layer_norm_gradient");
        let (kernel, width) = names.of::<T>(self.shape.channels, &addresses);
        let (launch, group) = self.launch(gpu, kernel, width);
        let arguments = [
            maps.into(),
            kept.into(),
            weight.into(),
            gradient.into(),
            (self.shape.rows as u64).into(),
            (self.shape.channels as u32).into(),
            group.into(),
        ];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }
}
