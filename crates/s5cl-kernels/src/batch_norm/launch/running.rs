//! How running statistics move.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use super::THREADS;
use crate::cuda::{Argument, Gpu, Launch, Plain, Pointer};

/// Statistics of a launch, as the kernel has them.
const MOST: usize = 160;

/// Running statistics, those of a batch, and how many they are.
pub(crate) type Running = (Pointer<f32>, Pointer<f32>, usize);

#[derive(Clone, Copy)]
#[repr(C)]
struct Table {
    of: [[u64; 3]; MOST],
}

// SAFETY: numbers of 8 bytes each.
unsafe impl Plain for Table {}

/// `running = kept * running + share * of_batch`, for all of them.
///
/// # Safety
///
/// The pointers must reach as many values as stand beside them.
pub(crate) unsafe fn running<G: Gpu>(
    gpu: &G,
    all: &[Running],
    kept: f32,
    share: f32,
) -> Result<()> {
    for some in all.chunks(MOST) {
        let mut table = Table { of: [[0; 3]; MOST] };
        for (entry, &(running, of_batch, n)) in table.of.iter_mut().zip(some) {
            *entry = [running.address(), of_batch.address(), n as u64];
        }
        let blocks = some.len() as u32;
        let launch = Launch::new("statistics", "batch_norm_running", blocks, THREADS as u32);
        let arguments = [Argument::structure(&table), kept.into(), share.into()];
        // SAFETY: these are the kernel's parameters; the caller's promise covers the reach.
        unsafe { gpu.launch(&launch, &arguments)? };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{MOST, running};
    use crate::batch_norm::running::moved;
    use crate::checks::draw;
    use crate::cuda::Gpu;
    use crate::cuda::emulated::with_emulated_gpu;

    #[test]
    fn running_statistics_move_on_a_gpu_as_on_the_cpu() {
        with_emulated_gpu(|gpu| {
            let values: Vec<[Vec<f32>; 2]> = (0..MOST + 3)
                .map(|i| [0, 1].map(|seed| draw(seed + i as u64, 1 + i * 29 % 600)))
                .collect();
            let memory: Vec<_> =
                values.iter().map(|of| of.each_ref().map(|v| gpu.upload(v).unwrap())).collect();
            let all: Vec<_> =
                memory.iter().map(|[a, b]| (a.pointer(), b.pointer(), a.len())).collect();
            // SAFETY: each pair has so many values.
            unsafe { running(gpu, &all, 0.9, 0.1) }.unwrap();
            for ([running, of_batch], [got, _]) in values.iter().zip(&memory) {
                let pairs = running.iter().zip(of_batch);
                let expected: Vec<f32> = pairs.map(|(&r, &b)| moved(r, b, [0.9, 0.1])).collect();
                assert_eq!(gpu.download(got), expected);
            }
        });
    }
}
