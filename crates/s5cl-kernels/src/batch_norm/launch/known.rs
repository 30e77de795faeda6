//! What normalizes by known statistics.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use super::{Parameters, Statistics, THREADS};
use crate::cuda::{Argument, Gpu, Launch, Plain, Pointer};

/// Normalizations of a launch, as the kernel has them.
const MOST: usize = 64;

/// A normalization by known statistics, and where its scale and shift go, `[2, channels]`.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) parameters: Parameters,
    pub(crate) statistics: Statistics,
    pub(crate) affine: Pointer<f32>,
    pub(crate) epsilon: f64,
    pub(crate) channels: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct OnGpu {
    pointers: [u64; 5],
    epsilon: f64,
    channels: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Table {
    of: [OnGpu; MOST],
}

// SAFETY: numbers of 8 bytes each.
unsafe impl Plain for Table {}

/// The scale and shift of each normalization.
///
/// # Safety
///
/// The pointers must reach as far as the channels say.
pub(crate) unsafe fn known<G: Gpu>(gpu: &G, all: &[Known]) -> Result<()> {
    for some in all.chunks(MOST) {
        let none = OnGpu { pointers: [0; 5], epsilon: 0.0, channels: 0 };
        let mut table = Table { of: [none; MOST] };
        for (entry, by) in table.of.iter_mut().zip(some) {
            let Parameters { weight, bias } = by.parameters;
            let Statistics { mean, variance } = by.statistics;
            let pointers = [weight, bias, mean, variance, by.affine].map(Pointer::address);
            *entry = OnGpu { pointers, epsilon: by.epsilon, channels: by.channels as u64 };
        }
        let blocks = some.len() as u32;
        let launch = Launch::new("statistics", "batch_norm_known", blocks, THREADS as u32);
        // SAFETY: this is the kernel's parameter; the caller's promise covers the reach.
        unsafe { gpu.launch(&launch, &[Argument::structure(&table)])? };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Known, MOST, Parameters, Statistics, known};
    use crate::batch_norm::affine::Affine;
    use crate::checks::draw;
    use crate::cuda::Gpu;
    use crate::cuda::emulated::with_emulated_gpu;

    #[test]
    fn batch_norm_by_known_statistics_has_the_affine_maps_of_the_cpu() {
        const EPSILON: f64 = 1e-3;
        with_emulated_gpu(|gpu| {
            let n = MOST + 2;
            let channels = |i: usize| 1 + i * 37 % 300;
            let values: Vec<[Vec<f32>; 4]> = (0..n)
                .map(|i| [0, 1, 2, 3].map(|seed| draw(seed + i as u64, channels(i))))
                .map(|[w, b, m, v]| [w, b, m, v.into_iter().map(|v| v + 1.0).collect()])
                .collect();
            let memory: Vec<_> = values
                .iter()
                .map(|of| (of.each_ref().map(|v| gpu.upload(v).unwrap()), of[0].len()))
                .map(|(memory, n)| (memory, gpu.allocate::<f32>(2 * n).unwrap()))
                .collect();
            let all: Vec<Known> = memory
                .iter()
                .map(|(of, affine)| {
                    let [weight, bias, mean, variance] = of.each_ref().map(|of| of.pointer());
                    Known {
                        parameters: Parameters { weight, bias },
                        statistics: Statistics { mean, variance },
                        affine: affine.pointer(),
                        epsilon: EPSILON,
                        channels: of[0].len(),
                    }
                })
                .collect();
            // SAFETY: everything was allocated for these channels.
            unsafe { known(gpu, &all) }.unwrap();
            for ([weight, bias, mean, variance], (_, affine)) in values.iter().zip(&memory) {
                let wide =
                    |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
                let Affine { scale, shift } =
                    Affine::new(weight, bias, &wide(mean), &wide(variance), EPSILON);
                assert_eq!(gpu.download(affine), [scale, shift].concat());
            }
        });
    }
}
