//! The starts of the kernels, and their values against the passes on the CPU.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{Result, bail};

use crate::cuda::stored::{Stored, names};
use crate::cuda::{Gpu, Launch, Pointer};

/// Threads of a block; few where there are few threads in all, so that all multiprocessors work.
const THREADS: u32 = 64;
const BACKWARD_THREADS: u32 = 256;

/// Maps of a batch, `[batch, pixels, channels]`.
#[derive(Clone, Copy)]
pub(crate) struct Averaging {
    pub(crate) batch: usize,
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
}

impl Averaging {
    /// Writes the means, `[batch, channels]`.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shapes say.
    pub(crate) unsafe fn forward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        maps: Pointer<T>,
        out: Pointer<f32>,
    ) -> Result<()> {
        let addresses = [maps.address(), out.address()];
        let (kernel, width) = names!("global_average_pool").of::<T>(self.channels, &addresses);
        let vectors = self.channels / width;
        let n = count(self.batch * vectors)?;
        let launch = Launch::new("global_average_pool", kernel, n.div_ceil(THREADS), THREADS);
        let arguments =
            [maps.into(), out.into(), count(self.pixels)?.into(), count(vectors)?.into(), n.into()];
        // SAFETY: these are the kernel's parameters; the caller's promise covers their reach.
        unsafe { gpu.launch(&launch, &arguments) }
    }

    /// Writes the gradient of the maps from that of the means.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shapes say.
    pub(crate) unsafe fn backward<G: Gpu, T: Stored>(
        self,
        gpu: &G,
        gradient: Pointer<f32>,
        out: Pointer<T>,
    ) -> Result<()> {
        let (addresses, names) =
            ([gradient.address(), out.address()], names!("global_average_pool_backward"));
        let (kernel, width) = names.of::<T>(self.channels, &addresses);
        let vectors = self.channels / width;
        let n = count(self.batch * self.pixels * vectors)?;
        let blocks = n.div_ceil(BACKWARD_THREADS);
        let launch = Launch::new("global_average_pool", kernel, blocks, BACKWARD_THREADS);
        let arguments = [
            gradient.into(),
            out.into(),
            count(self.pixels)?.into(),
            count(vectors)?.into(),
            n.into(),
        ];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }
}

fn count(n: usize) -> Result<u32> {
    match u32::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => bail!("global_average_pool: {n} parts of maps are more than a GPU counts"),
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::Averaging;
    use crate::checks::draw;
    use crate::cuda::Gpu;
    use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
    use crate::cuda::stored::Stored;
    use crate::global_average_pool::{global_average_pool_backward, global_average_pool_forward};

    fn check<T: Stored>(gpu: &EmulatedGpu, [batch, pixels, channels]: [usize; 3]) {
        let what = format!("{:?} {batch} x {pixels} x {channels}", T::TYPE);
        let averaging = Averaging { batch, pixels, channels };
        let maps: Vec<T> = draw(1, batch * pixels * channels).into_iter().map(T::nearest).collect();
        let wide = |values: &[T]| values.iter().map(|v| v.to_f32()).collect::<Vec<f32>>();
        let gradient = draw(2, batch * channels);
        let mut expected = vec![0.0; gradient.len()];
        global_average_pool_forward(&wide(&maps), &mut expected, channels);
        let on_gpu = gpu.upload(&maps).unwrap();
        let out = gpu.allocate::<f32>(gradient.len()).unwrap();
        let of_maps = gpu.allocate::<T>(maps.len()).unwrap();
        let above = gpu.upload(&gradient).unwrap();
        // SAFETY: everything was allocated for these shapes.
        unsafe {
            averaging.forward(gpu, on_gpu.pointer(), out.pointer()).unwrap();
            averaging.backward(gpu, above.pointer(), of_maps.pointer()).unwrap();
        }
        assert_eq!(gpu.download(&out), expected, "{what}: the same sums");
        let mut expected = vec![0.0; maps.len()];
        global_average_pool_backward(&gradient, &mut expected, channels);
        let nearest: Vec<f32> = expected.iter().map(|&v| T::nearest(v).to_f32()).collect();
        assert_eq!(wide(&gpu.download(&of_maps)), nearest, "{what}: the same shares");
    }

    #[test]
    fn global_average_pool_kernels_are_the_passes_on_the_cpu() {
        with_emulated_gpu(|gpu| {
            for shape in [[1, 1, 1], [3, 49, 64], [2, 20, 7], [70, 9, 40], [5, 1, 12]] {
                check::<f32>(gpu, shape);
                check::<bf16>(gpu, shape);
                check::<f16>(gpu, shape);
            }
        });
    }
}
