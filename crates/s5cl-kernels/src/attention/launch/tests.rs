//! The kernels against the passes on the CPU.

use half::{bf16, f16};

use super::Attending;
use crate::attention::Attention;
use crate::checks::{assert_close, draw};
use crate::cuda::Gpu;
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::stored::{Stored, StoredType};

/// Sums over tokens and softmax in f32, in another order; or weights and gradients of scores that
/// are rounded to the type on their way through the matrix instructions: twice what is measured.
fn tolerance<T: Stored>() -> f64 {
    match T::TYPE {
        StoredType::F32 => 1.4e-6,
        StoredType::Bf16 => 1.2e-2,
        StoredType::F16 => 1.2e-3,
    }
}

/// With scores of up to some dozen, so that weights are far from equal.
const SCALE: f32 = 2.0;

fn check<T: Stored>(gpu: &EmulatedGpu, batch: usize, of: Attention) {
    let Attention { n_tokens, dim, .. } = of;
    let stored = |seed, n, scale: f32| -> Vec<T> {
        draw(seed, n).into_iter().map(|x| T::nearest(scale * x)).collect()
    };
    let wide = |values: &[T]| values.iter().map(|v| v.to_f32()).collect::<Vec<f32>>();
    let maps = stored(1, batch * n_tokens * 3 * dim, SCALE);
    let above = stored(2, batch * n_tokens * dim, 1.0);
    let (mut expected, mut of_maps) = (vec![0.0; above.len()], vec![0.0; maps.len()]);
    of.forward(&wide(&maps), &mut expected);
    of.backward(&wide(&maps), &wide(&above), &mut of_maps);

    let attending = Attending { batch, of };
    let [given, gradient] = [&maps, &above].map(|values| gpu.upload(values).unwrap());
    let [out, to] = [above.len(), maps.len()].map(|n| gpu.allocate::<T>(n).unwrap());
    let [logarithms, deltas] = [(); 2].map(|()| gpu.allocate::<f32>(attending.n_rows()).unwrap());
    let operands = [given.pointer(), out.pointer(), gradient.pointer(), to.pointer()];
    let (kept, room) = (logarithms.pointer(), deltas.pointer());
    // SAFETY: everything was allocated for these shapes.
    unsafe {
        attending.forward(gpu, given.pointer(), out.pointer(), kept).unwrap();
        attending.backward(gpu, operands, kept, room).unwrap();
    }
    let close = |part: &str, got: Vec<T>, expected: &[f32]| {
        let expected: Vec<f64> = expected.iter().map(|&v| f64::from(v)).collect();
        let what = format!("{:?} {batch} x {of:?}: {part}", T::TYPE);
        assert_close(&what, &wide(&got), &expected, tolerance::<T>());
    };
    close("result", gpu.download(&out), &expected);
    close("gradient", gpu.download(&to), &of_maps);
}

#[test]
fn attention_kernels_are_the_passes_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        for (batch, n_tokens, n_heads, dim) in
            [(1, 1, 1, 4), (2, 5, 3, 24), (1, 17, 2, 10), (1, 70, 2, 128), (1, 133, 1, 48)]
        {
            let of = Attention { n_tokens, n_heads, dim };
            check::<f32>(gpu, batch, of);
            check::<bf16>(gpu, batch, of);
            check::<f16>(gpu, batch, of);
        }
    });
}

#[test]
fn attention_kernels_take_wide_heads() {
    with_emulated_gpu(|gpu| {
        for (n_tokens, n_heads, dim) in [(66, 1, 128), (9, 2, 154)] {
            let of = Attention { n_tokens, n_heads, dim };
            check::<f32>(gpu, 1, of);
            check::<bf16>(gpu, 1, of);
            check::<f16>(gpu, 1, of);
        }
        let of = Attention { n_tokens: 2, n_heads: 1, dim: 129 };
        assert!(Attending { batch: 1, of }.width_idx().is_err());
    });
}

#[test]
fn attention_kernels_of_large_scores_are_finite() {
    with_emulated_gpu(|gpu| {
        let of = Attention { n_tokens: 67, n_heads: 1, dim: 8 };
        let attending = Attending { batch: 1, of };
        let drawn: Vec<f32> = draw(1, 67 * 24).into_iter().map(|x| 1e4 * x).collect();
        // All scores far below zero, which a key that is not there would be above.
        let negative = (0..67 * 24).map(|i| [100.0, -100.0, 1.0][i / 8 % 3]).collect();
        for maps in [drawn, negative] {
            let (given, above) =
                (gpu.upload(&maps).unwrap(), gpu.upload(&draw(2, 67 * 8)).unwrap());
            let [out, to] = [67 * 8, 67 * 24].map(|n| gpu.allocate::<f32>(n).unwrap());
            let [logarithms, deltas] =
                [(); 2].map(|()| gpu.allocate::<f32>(attending.n_rows()).unwrap());
            let operands = [given.pointer(), out.pointer(), above.pointer(), to.pointer()];
            let (kept, room) = (logarithms.pointer(), deltas.pointer());
            // SAFETY: everything was allocated for these shapes.
            unsafe {
                attending.forward(gpu, given.pointer(), out.pointer(), kept).unwrap();
                attending.backward(gpu, operands, kept, room).unwrap();
            }
            for got in [gpu.download(&out), gpu.download(&to)] {
                assert!(got.iter().all(|value| value.is_finite()), "{got:?}");
            }
        }
    });
}
