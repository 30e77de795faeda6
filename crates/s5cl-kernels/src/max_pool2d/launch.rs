//! The starts of the kernels, and their values against the passes on the CPU.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{Result, bail};

use crate::cuda::stored::{Stored, names};
use crate::cuda::{Argument, Gpu, Launch, Plain, Pointer};
use crate::window::Window;

/// Threads of a block.
const THREADS: u32 = 256;

/// What the kernels know of a window, in their order.
#[derive(Clone, Copy)]
#[repr(C)]
struct OnGpu {
    sizes: [u32; 8],
}

// SAFETY: numbers without padding.
unsafe impl Plain for OnGpu {}

impl OnGpu {
    fn new(window: &Window, vectors: usize) -> Self {
        let Window { height, width, kernel, stride, padding } = *window;
        let (out_height, out_width) = (window.out_height(), window.out_width());
        let sizes = [height, width, out_height, out_width, kernel, stride, padding, vectors];
        Self { sizes: sizes.map(|size| size as u32) }
    }
}

/// Windows over maps of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Pooling<'a> {
    pub(crate) batch: usize,
    pub(crate) window: &'a Window,
    pub(crate) channels: usize,
}

impl Pooling<'_> {
    /// Writes the largest value of each window and, unless `winners` is null, its place.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shapes say.
    pub(crate) unsafe fn forward<G: Gpu, T: Stored>(
        &self,
        gpu: &G,
        maps: Pointer<T>,
        out: Pointer<T>,
        winners: Pointer<u8>,
    ) -> Result<()> {
        let addresses = [maps.address(), out.address()];
        let (kernel, width) = names!("max_pool2d").of::<T>(self.channels, &addresses);
        let window = OnGpu::new(self.window, self.channels / width);
        let (launch, n) = self.launch(kernel, self.window.out_pixels(), width)?;
        let arguments =
            [maps.into(), out.into(), winners.into(), Argument::structure(&window), n.into()];
        // SAFETY: these are the kernel's parameters; the caller's promise covers their reach.
        unsafe { gpu.launch(&launch, &arguments) }
    }

    /// Writes the gradient of the maps.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the shapes say.
    pub(crate) unsafe fn backward<G: Gpu, T: Stored>(
        &self,
        gpu: &G,
        winners: Pointer<u8>,
        gradient: Pointer<T>,
        out: Pointer<T>,
    ) -> Result<()> {
        let addresses = [gradient.address(), out.address()];
        let (kernel, width) = names!("max_pool2d_backward").of::<T>(self.channels, &addresses);
        let window = OnGpu::new(self.window, self.channels / width);
        let (launch, n) = self.launch(kernel, self.window.in_pixels(), width)?;
        let arguments =
            [winners.into(), gradient.into(), out.into(), Argument::structure(&window), n.into()];
        // SAFETY: as above.
        unsafe { gpu.launch(&launch, &arguments) }
    }

    /// One thread for each vector of channels that is written.
    fn launch(&self, kernel: &'static str, pixels: usize, width: usize) -> Result<(Launch, u32)> {
        let n = self.batch * pixels * (self.channels / width);
        match u32::try_from(n) {
            Ok(n) => {
                let blocks = n.div_ceil(THREADS).max(1);
                Ok((Launch::new("max_pool2d", kernel, blocks, THREADS), n))
            }
            Err(_) => bail!("max_pool2d: {n} parts of maps are more than a GPU counts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::Pooling;
    use crate::checks::draw;
    use crate::cuda::Gpu;
    use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
    use crate::cuda::stored::{Stored, StoredType};
    use crate::max_pool2d::cpu::{max_pool2d_backward, max_pool2d_forward};
    use crate::window::Window;

    fn check<T: Stored>(gpu: &EmulatedGpu, batch: usize, window: &Window, channels: usize) {
        let what = format!("{:?} {batch} {window:?} {channels}", T::TYPE);
        let pooling = Pooling { batch, window, channels };
        // Few different values, so that most windows have several largest ones, and a NaN.
        let stored = |seed, n, factor: f32| -> Vec<T> {
            draw(seed, n).into_iter().map(|v| T::nearest((factor * v).round())).collect()
        };
        let wide = |values: &[T]| values.iter().map(|v| v.to_f32()).collect::<Vec<f32>>();
        let mut maps = stored(5, batch * window.in_pixels() * channels, 3.0);
        let middle = maps.len() / 2;
        maps[middle] = T::nearest(f32::NAN);
        let n_out = batch * window.out_pixels() * channels;
        let gradient = stored(6, n_out, 20.0);
        let mut expected = [vec![0.0; n_out], vec![0.0; maps.len()]];
        let mut places = vec![0; n_out];
        max_pool2d_forward(&wide(&maps), &mut expected[0], Some(&mut places), window, channels);
        max_pool2d_backward(&places, &wide(&gradient), &mut expected[1], window, channels);

        let on_gpu = [&maps, &gradient].map(|values| gpu.upload(values).unwrap());
        let [out, of_maps] = [n_out, maps.len()].map(|n| gpu.allocate::<T>(n).unwrap());
        let winners = gpu.allocate::<u8>(n_out).unwrap();
        let [maps, gradient] = on_gpu.each_ref().map(|memory| memory.pointer());
        // SAFETY: everything was allocated for these shapes.
        unsafe {
            let winners = winners.pointer();
            pooling.forward(gpu, maps, out.pointer(), winners).unwrap();
            pooling.backward(gpu, winners, gradient, of_maps.pointer()).unwrap();
        }
        // Whole numbers: no sum is rounded. A NaN's bits are not compared.
        let bits =
            |values: &[f32]| values.iter().map(|v| v.max(-1e9).to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&wide(&gpu.download(&out))), bits(&expected[0]), "{what}: values");
        assert_eq!(gpu.download(&winners), places, "{what}: winners");
        assert_eq!(wide(&gpu.download(&of_maps)), expected[1], "{what}: gradient");
    }

    #[test]
    fn max_pool2d_kernels_are_the_passes_on_the_cpu() {
        with_emulated_gpu(|gpu| {
            for (batch, [height, width], [kernel, stride, padding], channels) in [
                (1, [7, 5], [3, 2, 1], 3),
                (2, [8, 6], [3, 2, 1], 64),
                (3, [4, 9], [2, 2, 0], 16),
                (1, [5, 6], [2, 1, 1], 1),
                (2, [6, 7], [2, 3, 0], 12),
                (1, [9, 17], [16, 1, 8], 2),
                (2, [1, 1], [3, 2, 1], 40),
            ] {
                let window = Window { height, width, kernel, stride, padding };
                check::<f32>(gpu, batch, &window, channels);
                check::<bf16>(gpu, batch, &window, channels);
                check::<f16>(gpu, batch, &window, channels);
            }
        });
    }

    #[test]
    fn max_pool2d_kernels_run_without_winners() {
        with_emulated_gpu(|gpu| {
            let window = Window { height: 2, width: 2, kernel: 2, stride: 2, padding: 0 };
            let maps = gpu.upload(&[1.0_f32, 4.0, 3.0, 2.0]).unwrap();
            let out = gpu.allocate::<f32>(1).unwrap();
            let pooling = Pooling { batch: 1, window: &window, channels: 1 };
            let none = crate::cuda::Pointer::NULL;
            // SAFETY: one window over four pixels.
            unsafe { pooling.forward(gpu, maps.pointer(), out.pointer(), none) }.unwrap();
            assert_eq!((gpu.download(&out), f32::TYPE), (vec![4.0], StoredType::F32));
        });
    }
}
