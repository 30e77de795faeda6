//! The starts of the kernels.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

#[cfg(test)]
mod tests;

use candle_core::{Result, bail};

use super::{Shape, TokenPool};
use crate::cuda::stored::{Stored, names};
use crate::cuda::{Argument, Gpu, Launch, Plain, Pointer};

/// Threads of a block; few where there are few threads in all, so that all multiprocessors work.
const THREADS: u32 = 256;
const POOLING_THREADS: u32 = 64;

/// Tokens of a batch of images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) batch: usize,
    pub(crate) shape: Shape,
}

/// As the kernels have it.
#[derive(Clone, Copy)]
#[repr(C)]
struct OnGpu {
    n_prefix: u32,
    n_tokens: u32,
    vectors: u32,
    n: u32,
}

// SAFETY: numbers of one size, so there is no padding.
unsafe impl Plain for OnGpu {}

#[derive(Clone, Copy)]
#[repr(C)]
struct PoolOnGpu {
    has_class: u32,
    has_mean: u32,
}

// SAFETY: as above.
unsafe impl Plain for PoolOnGpu {}

/// Gradients of the prefix and the positions, each unless it is null; or both themselves.
#[derive(Clone, Copy)]
pub(crate) struct Embeddings {
    pub(crate) prefix: Pointer<f32>,
    pub(crate) positions: Pointer<f32>,
}

fn count(n: usize) -> Result<u32> {
    match u32::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => bail!("tokens: {n} parts of them are more than a GPU counts"),
    }
}

impl Batch {
    fn n_tokens(self) -> usize {
        self.shape.n_prefix + self.shape.n_patches
    }

    /// For kernels with a thread for each of `of` tokens' vectors.
    fn on_gpu(self, of: usize, width: usize) -> Result<OnGpu> {
        let vectors = self.shape.dim / width;
        Ok(OnGpu {
            n_prefix: count(self.shape.n_prefix)?,
            n_tokens: count(self.n_tokens())?,
            vectors: count(vectors)?,
            n: count(of * vectors)?,
        })
    }

    /// Writes the prefix, and the patches plus their positions.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shapes say.
    pub(crate) unsafe fn forward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        patches: Pointer<T>,
        Embeddings { prefix, positions }: Embeddings,
        out: Pointer<T>,
    ) -> Result<()> {
        let addresses = [patches.address(), prefix.address(), positions.address(), out.address()];
        let (kernel, width) = names!("tokens").of::<T>(self.shape.dim, &addresses);
        let tokens = self.on_gpu(self.batch * self.n_tokens(), width)?;
        let launch = Launch::new("tokens", kernel, tokens.n.div_ceil(THREADS), THREADS);
        let last = Argument::structure(&tokens);
        let arguments = [patches.into(), prefix.into(), positions.into(), out.into(), last];
        // SAFETY: these are the kernel's parameters; the caller's promise covers their reach.
        unsafe { gpu.launch(&launch, &arguments) }
    }

    /// Writes the gradients of patches, prefix and positions.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shapes say.
    pub(crate) unsafe fn backward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        gradient: Pointer<T>,
        of_patches: Pointer<T>,
        Embeddings { prefix, positions }: Embeddings,
    ) -> Result<()> {
        let addresses =
            [gradient.address(), of_patches.address(), prefix.address(), positions.address()];
        let (kernel, width) = names!("tokens_gradient").of::<T>(self.shape.dim, &addresses);
        let tokens = self.on_gpu(self.n_tokens(), width)?;
        let blocks = tokens.n.div_ceil(POOLING_THREADS);
        let launch = Launch::new("tokens", kernel, blocks, POOLING_THREADS);
        let arguments = [
            gradient.into(),
            of_patches.into(),
            prefix.into(),
            positions.into(),
            count(self.batch)?.into(),
            Argument::structure(&tokens),
        ];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }

    /// Writes one vector an image.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shapes say.
    pub(crate) unsafe fn pool<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        pool: TokenPool,
        tokens: Pointer<T>,
        out: Pointer<f32>,
    ) -> Result<()> {
        let addresses = [tokens.address(), out.address()];
        let (kernel, width) = names!("pool_tokens").of::<T>(self.shape.dim, &addresses);
        let (of, pool) = (self.on_gpu(self.batch, width)?, pool.on_gpu());
        let blocks = of.n.div_ceil(POOLING_THREADS);
        let launch = Launch::new("tokens", kernel, blocks, POOLING_THREADS);
        let [of, pool] = [Argument::structure(&of), Argument::structure(&pool)];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &[tokens.into(), out.into(), of, pool]) }
    }

    /// Writes the gradient of the tokens from that of the vectors.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shapes say.
    pub(crate) unsafe fn pool_gradient<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        pool: TokenPool,
        gradient: Pointer<f32>,
        out: Pointer<T>,
    ) -> Result<()> {
        let addresses = [gradient.address(), out.address()];
        let (kernel, width) = names!("pool_tokens_gradient").of::<T>(self.shape.dim, &addresses);
        let (of, pool) = (self.on_gpu(self.batch * self.n_tokens(), width)?, pool.on_gpu());
        let launch = Launch::new("tokens", kernel, of.n.div_ceil(THREADS), THREADS);
        let [of, pool] = [Argument::structure(&of), Argument::structure(&pool)];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &[gradient.into(), out.into(), of, pool]) }
    }
}

impl TokenPool {
    fn on_gpu(self) -> PoolOnGpu {
        PoolOnGpu { has_class: self.has_class().into(), has_mean: self.has_mean().into() }
    }
}
