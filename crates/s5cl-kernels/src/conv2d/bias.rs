//! The start of the kernel that sums rows to the gradient of a bias, and its values.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use crate::batch_norm::launch::{Rows, Scratch};
use crate::cuda::stored::{Stored, names};
use crate::cuda::{Gpu, Pointer};

/// Writes the sum of all rows.
///
/// # Safety
///
/// The pointers must reach as far as the shape says, and the scratch be for it.
pub(crate) unsafe fn bias_gradient<G: Gpu, T: Stored>(
    gpu: &G,
    gradient: Pointer<T>,
    shape: Rows,
    scratch: Scratch,
    out: Pointer<f32>,
) -> Result<()> {
    let names = names!("bias_gradient");
    let (kernel, width) = names.of::<T>(shape.channels, &[gradient.address()]);
    let launch = shape.summing("bias", kernel, width);
    let arguments = [
        gradient.into(),
        scratch.partials.into(),
        scratch.counters.into(),
        out.into(),
        (shape.rows as u64).into(),
        (shape.channels as u32).into(),
    ];
    // SAFETY: these are the kernel's parameters, and the caller's promise covers their reach.
    unsafe { gpu.launch(&launch, &arguments) }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::bias_gradient;
    use crate::batch_norm::launch::{OwnScratch, Rows};
    use crate::checks::{assert_close, draw};
    use crate::cuda::Gpu;
    use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
    use crate::cuda::stored::Stored;

    /// Some dozen values in f32, then f64.
    const TOLERANCE: f64 = 1e-6;

    fn check<T: Stored>(gpu: &EmulatedGpu, rows: usize, channels: usize) {
        let values: Vec<T> = draw(1, rows * channels).into_iter().map(T::nearest).collect();
        let mut expected = vec![0.0; channels];
        for (i, value) in values.iter().enumerate() {
            expected[i % channels] += f64::from(value.to_f32());
        }
        let shape = Rows { rows, channels };
        let scratch = OwnScratch::new(gpu, shape).unwrap();
        let (gradient, out) =
            (gpu.upload(&values).unwrap(), gpu.allocate::<f32>(channels).unwrap());
        let (from, to) = (gradient.pointer(), out.pointer());
        // SAFETY: everything was allocated for this shape. Twice, as the counters must be as before.
        unsafe {
            bias_gradient(gpu, from, shape, scratch.get(), to).unwrap();
            bias_gradient(gpu, from, shape, scratch.get(), to).unwrap();
        }
        let what = format!("{:?} {rows} x {channels}", T::TYPE);
        assert_close(&what, &gpu.download(&out), &expected, TOLERANCE);
    }

    #[test]
    fn bias_kernels_sum_rows() {
        with_emulated_gpu(|gpu| {
            for (rows, channels) in [(1, 1), (7, 5), (300, 64), (2000, 3), (40, 520), (513, 24)] {
                check::<f32>(gpu, rows, channels);
                check::<bf16>(gpu, rows, channels);
                check::<f16>(gpu, rows, channels);
            }
        });
    }
}
