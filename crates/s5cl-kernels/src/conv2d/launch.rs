//! The starts of the kernels that bring weights into a device's order and back.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use crate::cuda::stored::Stored;
use crate::cuda::{Argument, Gpu, Launch, Plain, Pointer};

/// Threads of a block, and weights of a launch, as the kernels have them.
const THREADS: usize = 128;
const MOST: usize = 80;

/// A weight, or its gradient, in both orders.
#[derive(Clone, Copy)]
pub(crate) struct Weight<T> {
    /// `[outputs, inputs, taps]`, in which it is trained.
    pub(crate) trained: Pointer<f32>,
    /// `[outputs, taps, padded_inputs]`, as the device's convolutions take it.
    pub(crate) stored: Pointer<T>,
    /// By which each output is multiplied on the way to the device; null for 1.
    pub(crate) scale: Pointer<f32>,
    pub(crate) outputs: usize,
    /// Of a group.
    pub(crate) inputs: usize,
    pub(crate) taps: usize,
    pub(crate) padded_inputs: usize,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct OnGpu {
    trained: u64,
    stored: u64,
    scale: u64,
    outputs: u32,
    inputs: u32,
    taps: u32,
    padded_inputs: u32,
    first_block: u32,
    unused: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Table {
    of: [OnGpu; MOST],
    n: u64,
}

// SAFETY: numbers, whose sizes leave no padding between them.
unsafe impl Plain for Table {}

impl Table {
    /// Of [`MOST`] weights at most, and the blocks that they take.
    fn new<T>(weights: &[Weight<T>]) -> (Self, u32) {
        let none = OnGpu {
            trained: 0,
            stored: 0,
            scale: 0,
            outputs: 0,
            inputs: 0,
            taps: 0,
            padded_inputs: 0,
            first_block: 0,
            unused: 0,
        };
        let mut table = Self { of: [none; MOST], n: weights.len() as u64 };
        let mut blocks = 0;
        for (entry, weight) in table.of.iter_mut().zip(weights) {
            *entry = OnGpu {
                trained: weight.trained.address(),
                stored: weight.stored.address(),
                scale: weight.scale.address(),
                outputs: weight.outputs as u32,
                inputs: weight.inputs as u32,
                taps: weight.taps as u32,
                padded_inputs: weight.padded_inputs as u32,
                first_block: blocks,
                unused: 0,
            };
            blocks += (weight.outputs * weight.padded_inputs.div_ceil(THREADS)) as u32;
        }
        (table, blocks)
    }
}

fn kernel<T: Stored>(names: [&'static str; 3], blocks: u32) -> Launch {
    Launch::new("weights", names[T::TYPE as usize], blocks, THREADS as u32)
}

/// From the order in which weights are trained to the device's.
///
/// # Safety
///
/// The pointers must reach as far as the sizes say.
pub(crate) unsafe fn pack<G: Gpu, T: Stored>(gpu: &G, weights: &[Weight<T>]) -> Result<()> {
    for weights in weights.chunks(MOST) {
        let (table, blocks) = Table::new(weights);
        let names = ["pack_weights_f32", "pack_weights_bf16", "pack_weights_f16"];
        // SAFETY: this is the kernel's parameter; the caller's promise covers the reach.
        unsafe { gpu.launch(&kernel::<T>(names, blocks), &[Argument::structure(&table)])? };
    }
    Ok(())
}

/// And back, for gradients.
///
/// # Safety
///
/// The pointers must reach as far as the sizes say.
pub(crate) unsafe fn unpack<G: Gpu, T: Stored>(gpu: &G, weights: &[Weight<T>]) -> Result<()> {
    for weights in weights.chunks(MOST) {
        let (table, blocks) = Table::new(weights);
        let names = ["unpack_weights_f32", "unpack_weights_bf16", "unpack_weights_f16"];
        // SAFETY: as above.
        unsafe { gpu.launch(&kernel::<T>(names, blocks), &[Argument::structure(&table)])? };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{MOST, Weight, pack, unpack};
    use crate::checks::draw;
    use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
    use crate::cuda::stored::Stored;
    use crate::cuda::{Gpu, Pointer};

    /// Outputs, inputs, taps and padded inputs.
    const SHAPES: [[usize; 4]; 5] =
        [[5, 3, 49, 8], [3, 130, 9, 130], [7, 1, 1, 1], [2, 128, 1, 128], [4, 3, 9, 4]];

    fn check<T: Stored>(gpu: &EmulatedGpu, n: usize) {
        let shapes: Vec<[usize; 4]> = (0..n).map(|i| SHAPES[i % SHAPES.len()]).collect();
        let mut kept = Vec::new();
        let mut tables = [Vec::new(), Vec::new()];
        for (i, [outputs, inputs, taps, padded_inputs]) in shapes.into_iter().enumerate() {
            let values = draw(i as u64, outputs * inputs * taps);
            // Every other one has factors, which are powers of two.
            let factors: Vec<f32> =
                (0..outputs).map(|o| if i % 2 == 0 { 1.0 } else { [0.5, 2.0][o % 2] }).collect();
            let scale = gpu.upload(&factors).unwrap();
            let trained = gpu.upload(&values).unwrap();
            let back = gpu.allocate::<f32>(values.len()).unwrap();
            let stored = gpu.allocate::<T>(outputs * taps * padded_inputs).unwrap();
            let weight = |trained: Pointer<f32>| Weight {
                trained,
                stored: stored.pointer(),
                scale: if i % 2 == 0 { Pointer::NULL } else { scale.pointer() },
                outputs,
                inputs,
                taps,
                padded_inputs,
            };
            tables[0].push(weight(trained.pointer()));
            tables[1].push(weight(back.pointer()));
            let scaled = values.iter().enumerate();
            let scaled: Vec<f32> = scaled.map(|(i, v)| v * factors[i / taps / inputs]).collect();
            kept.push((scaled, [trained, back, scale], stored));
        }
        // SAFETY: everything was allocated for these shapes.
        unsafe {
            pack(gpu, &tables[0]).unwrap();
            unpack(gpu, &tables[1]).unwrap();
        }
        for (weight, (values, [_, back, _], stored)) in tables[0].iter().zip(&kept) {
            let Weight { outputs, inputs, taps, padded_inputs, .. } = *weight;
            let stored = gpu.download(stored);
            let mut expected = vec![0.0; stored.len()];
            for (i, &value) in values.iter().enumerate() {
                let (output, input, tap) = (i / taps / inputs, i / taps % inputs, i % taps);
                expected[(output * taps + tap) * padded_inputs + input] =
                    T::nearest(value).to_f32();
            }
            let stored: Vec<f32> = stored.into_iter().map(T::to_f32).collect();
            assert_eq!(stored, expected, "{:?} {outputs} x {inputs} x {taps}", T::TYPE);
            let rounded: Vec<f32> = values.iter().map(|&v| T::nearest(v).to_f32()).collect();
            assert_eq!(gpu.download(back), rounded, "{:?} and back", T::TYPE);
        }
    }

    #[test]
    fn weights_kernels_turn_and_round() {
        with_emulated_gpu(|gpu| {
            for n in [1, SHAPES.len(), MOST + 3] {
                check::<f32>(gpu, n);
                check::<bf16>(gpu, n);
                check::<f16>(gpu, n);
            }
        });
    }
}
