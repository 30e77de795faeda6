//! The starts of the kernels.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

#[cfg(test)]
mod tests;

use candle_core::{Result, bail};

use super::Activation;
use crate::batch_norm::launch::Rows;
use crate::cuda::stored::{Stored, names};
use crate::cuda::{Argument, Gpu, Launch, Pointer};

/// Threads of a block, and vectors of channels that it takes at most where it sums.
const THREADS: u32 = 256;
const TILE: usize = 32;

/// One thread for each of `n` vectors, which is the last argument.
///
/// # Safety
///
/// As for [`Gpu::launch`].
unsafe fn launch<G: Gpu>(
    gpu: &G,
    kernel: &'static str,
    n: usize,
    arguments: &[Argument<'_>],
) -> Result<()> {
    let count = count(n)?;
    let launch = Launch::new("activation", kernel, count.div_ceil(THREADS), THREADS);
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&launch, &[arguments, &[count.into()]].concat()) }
}

fn count(n: usize) -> Result<u32> {
    match u32::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => bail!("activation: {n} parts of maps are more than a GPU counts"),
    }
}

impl Activation {
    /// As the kernels number them.
    fn curve(self) -> u32 {
        match self {
            Self::Gelu => 0,
            Self::Silu => 1,
        }
    }

    /// Writes the function's values.
    ///
    /// # Safety
    ///
    /// The pointers must reach `len` values.
    pub(crate) unsafe fn launch<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        maps: Pointer<T>,
        out: Pointer<T>,
        len: usize,
    ) -> Result<()> {
        let (kernel, width) = names!("activation").of::<T>(len, &[maps.address(), out.address()]);
        let arguments = [maps.into(), out.into(), self.curve().into()];
        // SAFETY: these are the kernel's parameters; the caller's promise covers their reach.
        unsafe { launch(gpu, kernel, len / width, &arguments) }
    }

    /// Multiplies the gradient by the function's slope at the maps.
    ///
    /// # Safety
    ///
    /// The pointers must reach `len` values.
    pub(crate) unsafe fn launch_gradient<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        maps: Pointer<T>,
        gradient: Pointer<T>,
        len: usize,
    ) -> Result<()> {
        let (kernel, width) =
            names!("activation_gradient").of::<T>(len, &[maps.address(), gradient.address()]);
        let arguments = [maps.into(), gradient.into(), self.curve().into()];
        // SAFETY: as above.
        unsafe { launch(gpu, kernel, len / width, &arguments) }
    }
}

/// SwiGLU: writes rows of half as many values as the maps have; the shape is that of these rows.
///
/// # Safety
///
/// The pointers must reach as far as the shape says.
pub(crate) unsafe fn gated_unit<G: Gpu, T: Stored>(
    gpu: &G,
    maps: Pointer<T>,
    out: Pointer<T>,
    Rows { rows, channels }: Rows,
) -> Result<()> {
    let (kernel, width) = names!("gated_unit").of::<T>(channels, &[maps.address(), out.address()]);
    let vectors = channels / width;
    let arguments = [maps.into(), out.into(), count(vectors)?.into()];
    // SAFETY: as above.
    unsafe { launch(gpu, kernel, rows * vectors, &arguments) }
}

/// Writes the gradient of SwiGLU's maps.
///
/// # Safety
///
/// The pointers must reach as far as the shape says.
pub(crate) unsafe fn gated_unit_gradient<G: Gpu, T: Stored>(
    gpu: &G,
    [maps, gradient, out]: [Pointer<T>; 3],
    Rows { rows, channels }: Rows,
) -> Result<()> {
    let addresses = [maps, gradient, out].map(Pointer::address);
    let (kernel, width) = names!("gated_unit_gradient").of::<T>(channels, &addresses);
    let vectors = channels / width;
    let arguments = [maps.into(), gradient.into(), out.into(), count(vectors)?.into()];
    // SAFETY: as above.
    unsafe { launch(gpu, kernel, rows * vectors, &arguments) }
}

/// A gate for each channel of an image's pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    pub(crate) batch: usize,
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
}

impl Gate {
    /// Multiplies maps with the sigmoid of their logits, `[batch, channels]`.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the sizes say.
    pub(crate) unsafe fn forward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        [maps, logits, out]: [Pointer<T>; 3],
    ) -> Result<()> {
        let addresses = [maps, logits, out].map(Pointer::address);
        let (kernel, width) = names!("gate").of::<T>(self.channels, &addresses);
        let vectors = self.channels / width;
        let (pixels, n) = (count(self.pixels)?, self.batch * self.pixels * vectors);
        let arguments =
            [maps.into(), logits.into(), out.into(), pixels.into(), count(vectors)?.into()];
        // SAFETY: as above.
        unsafe { launch(gpu, kernel, n, &arguments) }
    }

    /// Makes the gradient that of the maps in place, and writes that of the logits.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the sizes say.
    pub(crate) unsafe fn backward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        maps: Pointer<T>,
        logits: Pointer<T>,
        gradient: Pointer<T>,
        of_logits: Pointer<T>,
    ) -> Result<()> {
        let addresses = [maps, logits, gradient].map(Pointer::address);
        let (kernel, width) = names!("gate_gradient").of::<T>(self.channels, &addresses);
        let tiles = (self.channels / width).div_ceil(TILE);
        let grid = [count(self.batch)?, count(tiles)?, 1];
        let launch = Launch { grid, ..Launch::new("activation", kernel, 1, THREADS) };
        let arguments = [
            maps.into(),
            logits.into(),
            gradient.into(),
            of_logits.into(),
            count(self.pixels)?.into(),
            count(self.channels)?.into(),
        ];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }
}
