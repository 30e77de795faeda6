//! The kernels against the passes on the CPU.

use half::{bf16, f16};

use super::Normalizing;
use crate::batch_norm::launch::{OwnScratch, Parameters, Rows};
use crate::checks::{assert_close, draw};
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::stored::{Stored, StoredType};
use crate::cuda::{Gpu, Pointer};
use crate::layer_norm::{KEPT, LayerNorm};

const EPSILON: f64 = 1e-5;

/// Sums in another order, on both sides: twice what is measured. Or the last bit of the type.
fn tolerance<T: Stored>() -> f64 {
    match T::TYPE {
        StoredType::F32 => 1.2e-6,
        StoredType::Bf16 => 4.1e-3,
        StoredType::F16 => 5.1e-4,
    }
}

fn check<T: Stored>(gpu: &EmulatedGpu, rows: usize, channels: usize) {
    let stored = |values: Vec<f32>| values.into_iter().map(T::nearest).collect::<Vec<T>>();
    let wide = |values: &[T]| values.iter().map(|v| v.to_f32()).collect::<Vec<f32>>();
    let maps = stored(draw(1, rows * channels).into_iter().map(|x| 3.0 + x).collect());
    let above = stored(draw(2, rows * channels));
    let (weight, bias) = (draw(3, channels), draw(4, channels));
    let norm = LayerNorm { weight: &weight, bias: &bias, epsilon: EPSILON };
    let mut expected = vec![0.0; rows * channels];
    let kept = norm.forward(&wide(&maps), &mut expected);
    let mut of_maps = wide(&above);
    let of_parameters = norm.backward(&wide(&maps), &kept, &mut of_maps);

    let shape = Rows { rows, channels };
    let scratch = OwnScratch::new(gpu, shape).unwrap();
    let [weight, bias] = [&weight, &bias].map(|values| gpu.upload(values).unwrap());
    let [maps, gradient] = [&maps, &above].map(|values| gpu.upload(values).unwrap());
    let out = gpu.allocate::<T>(rows * channels).unwrap();
    let left = gpu.allocate::<f32>(rows * KEPT).unwrap();
    let [of_weight, of_bias] = [(); 2].map(|()| gpu.allocate::<f32>(channels).unwrap());
    let parameters = Parameters { weight: weight.pointer(), bias: bias.pointer() };
    let normalizing = Normalizing { shape, parameters, epsilon: EPSILON };
    let (from, above) = ((maps.pointer(), left.pointer()), gradient.pointer());
    let into = Parameters { weight: of_weight.pointer(), bias: of_bias.pointer() };
    let of_weight_alone = Parameters { bias: Pointer::NULL, ..into };
    // SAFETY: everything was allocated for this shape.
    unsafe {
        normalizing.forward(gpu, from.0, Pointer::NULL, out.pointer()).unwrap();
        normalizing.forward(gpu, from.0, from.1, out.pointer()).unwrap();
        let scratch = scratch.get();
        normalizing.parameter_gradients(gpu, from, above, scratch, into).unwrap();
        normalizing.parameter_gradients(gpu, from, above, scratch, of_weight_alone).unwrap();
        normalizing.map_gradient(gpu, from, above).unwrap();
    }
    let close = |part: &str, got: Vec<f32>, expected: Vec<f32>, tolerance: f64| {
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        let what = format!("{:?} {part} of {rows} x {channels}", T::TYPE);
        assert_close(&what, &got, &expected, tolerance);
    };
    let single = tolerance::<f32>();
    close("kept", gpu.download(&left), kept, single);
    close("values", wide(&gpu.download(&out)), expected, tolerance::<T>());
    close("bias's gradient", gpu.download(&of_bias), of_parameters.bias, single);
    // A row of one value is its own mean: nothing is left but the rounding.
    if channels > 1 {
        close("weight's gradient", gpu.download(&of_weight), of_parameters.weight, single);
        close("maps' gradient", wide(&gpu.download(&gradient)), of_maps, tolerance::<T>());
    }
}

#[test]
fn layer_norm_kernels_are_the_passes_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        for (rows, channels) in [(1, 5), (3, 1), (300, 24), (70, 96), (9, 133), (5, 1032), (40, 8)]
        {
            check::<f32>(gpu, rows, channels);
            check::<bf16>(gpu, rows, channels);
            check::<f16>(gpu, rows, channels);
        }
    });
}
