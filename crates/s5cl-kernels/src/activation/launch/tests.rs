//! The kernels against the passes on the CPU.

use half::{bf16, f16};

use super::{Gate, gated_unit, gated_unit_gradient};
use crate::activation::{
    Activation, gate_backward, gate_forward, gated_unit_backward, gated_unit_forward,
};
use crate::batch_norm::launch::Rows;
use crate::checks::{assert_close, draw};
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::stored::{Stored, StoredType};
use crate::cuda::{Gpu, Memory};

/// Other exponentials, and sums in another order: twice what is measured. Or the last bit of the type.
fn tolerance<T: Stored>() -> f64 {
    match T::TYPE {
        StoredType::F32 => 5.5e-7,
        StoredType::Bf16 => 4.1e-3,
        StoredType::F16 => 5.1e-4,
    }
}

/// Values of the type, `scale` times what is drawn.
fn drawn<T: Stored>(seed: u64, n: usize, scale: f32) -> (Vec<T>, Vec<f32>) {
    let values: Vec<T> = draw(seed, n).into_iter().map(|x| T::nearest(scale * x)).collect();
    let wide = values.iter().map(|v| v.to_f32()).collect();
    (values, wide)
}

fn assert_near<T: Stored>(
    what: &str,
    gpu: &EmulatedGpu,
    got: &Memory<EmulatedGpu, T>,
    expected: &[f32],
) {
    let got: Vec<f32> = gpu.download(got).into_iter().map(T::to_f32).collect();
    let expected: Vec<f64> = expected.iter().map(|&v| f64::from(v)).collect();
    assert_close(&format!("{:?} {what}", T::TYPE), &got, &expected, tolerance::<T>());
}

fn check_activation<T: Stored>(gpu: &EmulatedGpu, activation: Activation, len: usize) {
    let ((maps, wide), (above, mut gradient)) = (drawn::<T>(1, len, 8.0), drawn::<T>(2, len, 1.0));
    let [maps, above] = [maps, above].map(|values| gpu.upload(&values).unwrap());
    let out = gpu.allocate::<T>(len).unwrap();
    // SAFETY: everything was allocated for so many values.
    unsafe {
        activation.launch(gpu, maps.pointer(), out.pointer(), len).unwrap();
        activation.launch_gradient(gpu, maps.pointer(), above.pointer(), len).unwrap();
    }
    let mut expected = vec![0.0; len];
    activation.forward(&wide, &mut expected);
    assert_near(&format!("{activation:?} {len}"), gpu, &out, &expected);
    activation.backward(&wide, &mut gradient);
    assert_near(&format!("{activation:?}'s gradient {len}"), gpu, &above, &gradient);
}

fn check_gated_unit<T: Stored>(gpu: &EmulatedGpu, rows: usize, channels: usize) {
    let len = rows * channels;
    let ((maps, wide), (above, gradient)) = (drawn::<T>(1, 2 * len, 4.0), drawn::<T>(2, len, 1.0));
    let [maps, above] = [maps, above].map(|values| gpu.upload(&values).unwrap());
    let [out, of_maps] = [len, 2 * len].map(|len| gpu.allocate::<T>(len).unwrap());
    let shape = Rows { rows, channels };
    // SAFETY: everything was allocated for these shapes.
    unsafe {
        gated_unit(gpu, maps.pointer(), out.pointer(), shape).unwrap();
        let operands = [maps.pointer(), above.pointer(), of_maps.pointer()];
        gated_unit_gradient(gpu, operands, shape).unwrap();
    }
    let mut expected = [vec![0.0; len], vec![0.0; 2 * len]];
    gated_unit_forward(&wide, &mut expected[0], channels);
    gated_unit_backward(&wide, &gradient, &mut expected[1], channels);
    assert_near(&format!("gated unit {rows} x {channels}"), gpu, &out, &expected[0]);
    assert_near(&format!("gated unit's gradient {rows} x {channels}"), gpu, &of_maps, &expected[1]);
}

fn check_gate<T: Stored>(gpu: &EmulatedGpu, [batch, pixels, channels]: [usize; 3]) {
    let gate = Gate { batch, pixels, channels };
    let len = batch * pixels * channels;
    let ((maps, wide), (above, mut gradient)) = (drawn::<T>(1, len, 1.0), drawn::<T>(2, len, 1.0));
    let (logits, wide_logits) = drawn::<T>(3, batch * channels, 5.0);
    let [maps, above, logits] = [maps, above, logits].map(|values| gpu.upload(&values).unwrap());
    let [out, of_logits] = [len, batch * channels].map(|len| gpu.allocate::<T>(len).unwrap());
    // SAFETY: everything was allocated for these shapes.
    unsafe {
        let (maps, logits, above) = (maps.pointer(), logits.pointer(), above.pointer());
        gate.forward(gpu, [maps, logits, out.pointer()]).unwrap();
        gate.backward(gpu, maps, logits, above, of_logits.pointer()).unwrap();
    }
    let mut expected = [vec![0.0; len], vec![0.0; batch * channels]];
    gate_forward(&wide, &wide_logits, &mut expected[0], channels);
    gate_backward(&wide, &wide_logits, &mut gradient, &mut expected[1], channels);
    assert_near(&format!("{gate:?}"), gpu, &out, &expected[0]);
    assert_near(&format!("{gate:?}'s gradient"), gpu, &above, &gradient);
    assert_near(&format!("{gate:?}'s logits' gradient"), gpu, &of_logits, &expected[1]);
}

fn check<T: Stored>(gpu: &EmulatedGpu) {
    for len in [1, 8, 301, 2056] {
        check_activation::<T>(gpu, Activation::Gelu, len);
        check_activation::<T>(gpu, Activation::Silu, len);
    }
    for (rows, channels) in [(1, 1), (5, 19), (70, 16), (3, 264)] {
        check_gated_unit::<T>(gpu, rows, channels);
    }
    for shape in [[1, 1, 1], [3, 7, 18], [2, 49, 16], [2, 30, 520], [5, 1, 40]] {
        check_gate::<T>(gpu, shape);
    }
}

#[test]
fn activation_kernels_are_the_passes_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        check::<f32>(gpu);
        check::<bf16>(gpu);
        check::<f16>(gpu);
    });
}
