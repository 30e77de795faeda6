//! The starts of the kernels.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

#[cfg(test)]
mod tests;

use std::f32::consts::LOG2_E;

use candle_core::{Result, bail};

use super::Attention;
use crate::cuda::stored::{Stored, wide};
use crate::cuda::{Argument, Gpu, Launch, Plain, Pointer};

/// Threads of a block, and tokens that it has of its own, as the kernels have them.
const THREADS: u32 = 128;
const ROWS: usize = 64;

/// Widths of a head that there are kernels for; a narrower one is filled up with zeros.
const WIDTHS: [usize; 2] = [64, 128];

/// The names of a kernel by width and type.
type Names = [[&'static str; 3]; 2];

macro_rules! names {
    ($kernel:literal) => {
        [
            [
                concat!($kernel, "_f32_64"),
                concat!($kernel, "_bf16_64"),
                concat!($kernel, "_f16_64"),
            ],
            [
                concat!($kernel, "_f32_128"),
                concat!($kernel, "_bf16_128"),
                concat!($kernel, "_f16_128"),
            ],
        ]
    };
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Heads {
    n_tokens: u32,
    n_heads: u32,
    dim: u32,
    is_wide: u32,
    exponent_scale: f32,
    scale: f32,
}

// SAFETY: numbers of one size, so there is no padding.
unsafe impl Plain for Heads {}

/// Tiles of tokens in shared memory.
struct Tiles {
    own: usize,
    /// Of each stage.
    others: usize,
    /// Tokens of one of the latter.
    other_rows: usize,
    /// Bytes behind the tiles, by token of another tile.
    numbers: usize,
}

/// Attention over a batch of images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attending {
    pub(crate) batch: usize,
    pub(crate) of: Attention,
}

impl Attending {
    /// Values that there are one of for each query of each head: the logarithms that the forward
    /// pass keeps, and the sums between both backward passes.
    pub(crate) fn n_rows(self) -> usize {
        self.batch * self.of.n_heads * self.of.n_tokens
    }

    /// The narrowest kernels that take the heads.
    fn width_idx(self) -> Result<usize> {
        let head_dim = self.of.head_dim();
        match WIDTHS.iter().position(|&width| head_dim <= width) {
            Some(index) => Ok(index),
            None => bail!(
                "attention on CUDA devices takes heads of up to {} channels, got {head_dim}",
                WIDTHS[WIDTHS.len() - 1]
            ),
        }
    }

    fn heads<T>(self, addresses: &[u64]) -> Heads {
        let Attention { n_tokens, n_heads, .. } = self.of;
        let aligned = (wide::<T>() * size_of::<T>()) as u64;
        let is_wide = self.of.head_dim().is_multiple_of(wide::<T>())
            && addresses.iter().all(|address| address.is_multiple_of(aligned));
        Heads {
            n_tokens: n_tokens as u32,
            n_heads: n_heads as u32,
            dim: self.of.head_dim() as u32,
            is_wide: is_wide.into(),
            exponent_scale: self.of.scale() * LOG2_E,
            scale: self.of.scale(),
        }
    }

    fn launch<T: Stored>(
        self,
        module: &'static str,
        names: Names,
        tiles: impl Fn(usize) -> Tiles,
    ) -> Result<Launch> {
        let width_idx = self.width_idx()?;
        let width = WIDTHS[width_idx];
        let n_blocks = self.batch * self.of.n_heads * self.of.n_tokens.div_ceil(ROWS);
        let Ok(blocks) = u32::try_from(n_blocks) else {
            bail!("{self:?} has more tiles than a GPU counts")
        };
        let Tiles { own, others, other_rows, numbers } = tiles(width);
        let rows = own * ROWS + 2 * others * other_rows;
        let bytes = rows * width * size_of::<T>() + numbers * other_rows * size_of::<f32>();
        let kernel = names[width_idx][T::TYPE as usize];
        Ok(Launch { shared_bytes: bytes as u32, ..Launch::new(module, kernel, blocks, THREADS) })
    }

    /// Writes the rows of the result, and the logarithms unless these are null.
    ///
    /// # Errors
    ///
    /// If a head is too wide.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the sizes say.
    pub(crate) unsafe fn forward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        maps: Pointer<T>,
        out: Pointer<T>,
        logarithms: Pointer<f32>,
    ) -> Result<()> {
        let tiles =
            |_width| Tiles { own: 1, others: 2, other_rows: 128 / size_of::<T>(), numbers: 0 };
        let launch = self.launch::<T>("attention", names!("attention"), tiles)?;
        let heads = self.heads::<T>(&[maps.address(), out.address()]);
        let last = Argument::structure(&heads);
        // SAFETY: these are the kernel's parameters; the caller's promise covers their reach.
        unsafe { gpu.launch(&launch, &[maps.into(), out.into(), logarithms.into(), last]) }
    }

    /// Writes the gradient of the maps from that of the result; `deltas` are room for as many
    /// values as there are logarithms.
    ///
    /// # Errors
    ///
    /// If a head is too wide.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the sizes say.
    pub(crate) unsafe fn backward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        [maps, result, gradient, out]: [Pointer<T>; 4],
        logarithms: Pointer<f32>,
        deltas: Pointer<f32>,
    ) -> Result<()> {
        let tiles = |width| Tiles {
            own: 2,
            others: 2,
            other_rows: if width > WIDTHS[0] { 64 } else { 128 } / size_of::<T>(),
            numbers: 2,
        };
        let heads = self.heads::<T>(&[maps, result, gradient, out].map(Pointer::address));
        let last = Argument::structure(&heads);
        let module = "attention_gradient";
        let launch = self.launch::<T>(module, names!("attention_query_gradient"), &tiles)?;
        let arguments = [
            maps.into(),
            gradient.into(),
            result.into(),
            logarithms.into(),
            deltas.into(),
            out.into(),
            last,
        ];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments)? };
        let launch = self.launch::<T>(module, names!("attention_key_gradient"), &tiles)?;
        let arguments =
            [maps.into(), gradient.into(), logarithms.into(), deltas.into(), out.into(), last];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }
}
