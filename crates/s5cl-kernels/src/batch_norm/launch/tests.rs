//! The kernels against the passes on the CPU.

use half::{bf16, f16};

use super::{Affine, Backward, Coefficients, Mask, OwnScratch, Parameters, Rows, Statistics};
use super::{apply, moments};
use crate::batch_norm::affine::Affine as CpuAffine;
use crate::batch_norm::affine::Mask as CpuMask;
use crate::batch_norm::passes::{Backward as CpuBackward, Moments};
use crate::checks::{assert_close, assert_within, draw};
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::stored::{Stored, StoredType};
use crate::cuda::{Gpu, Memory, Pointer};

const EPSILON: f64 = 1e-5;

/// Sums of a dozen values in f32, which are added in f64.
const SUM: f64 = 1e-6;

/// The same on the CPU, of thousands of values in f32.
const SUM_ON_CPU: f64 = 6e-6;

/// One rounding to the type, against the largest value; f32 has a few operations behind it.
fn rounding<T: Stored>() -> f64 {
    match T::TYPE {
        StoredType::F32 => 1e-6,
        StoredType::Bf16 => 1.0 / 256.0,
        StoredType::F16 => 1.0 / 2048.0,
    }
}

/// Single channels, channels that fill vectors, more than a tile of them, a tile that is not full;
/// one row, fewer rows than lanes, and more than one block has.
const SHAPES: [[usize; 2]; 9] =
    [[1, 1], [1, 8], [6, 5], [33, 3], [70, 64], [300, 40], [9, 301], [40, 1032], [9000, 8]];

/// Drawn values that the type has, behind an offset.
fn drawn<T: Stored>(seed: u64, n: usize, offset: f32) -> Vec<T> {
    draw(seed, n).into_iter().map(|value| T::nearest(value + offset)).collect()
}

fn wide<T: Stored>(values: &[T]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// In f64, by the definition.
fn exact_moments(maps: &[f32], channels: usize) -> Moments {
    let rows = maps.len() / channels;
    let of = |c: usize| maps.iter().skip(c).step_by(channels).map(|&value| f64::from(value));
    let mean: Vec<f64> = (0..channels).map(|c| of(c).sum::<f64>() / rows as f64).collect();
    let square = |c: usize| of(c).map(|value| (value - mean[c]).powi(2)).sum::<f64>();
    let variance = (0..channels).map(|c| square(c) / rows as f64).collect();
    Moments { mean, variance, rows }
}

/// Maps, parameters and what the kernel makes of them.
struct Normalized<T> {
    shape: Rows,
    maps: Memory<EmulatedGpu, T>,
    weight: Memory<EmulatedGpu, f32>,
    scratch: OwnScratch<EmulatedGpu>,
    coefficients: Memory<EmulatedGpu, f32>,
    moments: Moments,
    affine: CpuAffine,
}

impl<T: Stored> Normalized<T> {
    fn affine(&self) -> Affine {
        let all = self.coefficients.pointer();
        Coefficients { all, channels: self.shape.channels }.affine()
    }
}

fn normalized<T: Stored>(gpu: &EmulatedGpu, rows: usize, channels: usize) -> Normalized<T> {
    let shape = Rows { rows, channels };
    let maps: Vec<T> = drawn(1, rows * channels, 2.0);
    let (weight, bias) = (draw(2, channels), draw(3, channels));
    let parts = Coefficients::PARTS;
    let memory = gpu.upload(&maps).unwrap();
    let [on_gpu, bias_on_gpu] = [&weight, &bias].map(|values| gpu.upload(values).unwrap());
    let scratch = OwnScratch::new(gpu, shape).unwrap();
    let coefficients = gpu.allocate(parts * channels).unwrap();
    let [mean, variance] = [(); 2].map(|()| gpu.allocate(channels).unwrap());
    let parameters = Parameters { weight: on_gpu.pointer(), bias: bias_on_gpu.pointer() };
    let statistics = Statistics { mean: mean.pointer(), variance: variance.pointer() };
    let into = Coefficients { all: coefficients.pointer(), channels };
    // SAFETY: everything was allocated for this shape.
    let started = unsafe {
        let maps = memory.pointer();
        moments(gpu, maps, shape, parameters, EPSILON, scratch.get(), into, statistics)
    };
    started.unwrap();

    let of_maps = exact_moments(&wide(&maps), channels);
    let what = format!("{rows} x {channels}");
    let unbiased: Vec<f64> = of_maps.unbiased_variance().collect();
    assert_close(&format!("{what}: mean"), &gpu.download(&mean), &of_maps.mean, SUM);
    let most = SUM * unbiased.iter().fold(EPSILON, |most, value| most.max(*value));
    let variance = gpu.download(&variance);
    assert_within(&format!("{what}: variance"), &variance, &unbiased, most);
    let expected = CpuAffine::new(&weight, &bias, &of_maps.mean, &of_maps.variance, EPSILON);
    let got = gpu.download(&coefficients);
    let [scale, shift] = [2, 3].map(|part| got[part * channels..][..channels].to_vec());
    if rows > 1 {
        // A variance of nearly nothing is all rounding.
        assert_close(&format!("{what}: scale"), &scale, &doubles(&expected.scale), SUM);
        assert_close(&format!("{what}: shift"), &shift, &doubles(&expected.shift), SUM);
    }
    // Its own numbers from here on, so that both sides mask the same values.
    let affine = CpuAffine { scale, shift };
    Normalized {
        shape,
        maps: memory,
        weight: on_gpu,
        scratch,
        coefficients,
        moments: of_maps,
        affine,
    }
}

fn check<T: Stored>(gpu: &EmulatedGpu, [rows, channels]: [usize; 2], relu: bool, adds: bool) {
    let what = format!("{:?} {rows} x {channels}, relu {relu}, residual {adds}", T::TYPE);
    let on = normalized::<T>(gpu, rows, channels);
    let maps = gpu.download(&on.maps);
    let residual: Vec<T> = drawn(4, maps.len(), 0.0);
    let on_gpu = gpu.upload(&residual).unwrap();
    let out = gpu.allocate::<T>(maps.len()).unwrap();
    let other = if adds { on_gpu.pointer() } else { Pointer::NULL };
    // SAFETY: everything was allocated for this shape.
    let started = unsafe {
        apply(gpu, [on.maps.pointer(), other, out.pointer()], on.shape, on.affine(), relu)
    };
    started.unwrap();
    let result = wide(&gpu.download(&out));
    let mut expected = vec![0.0; maps.len()];
    let (maps, residual) = (wide(&maps), wide(&residual));
    on.affine.apply(&maps, adds.then_some(&residual), relu, &mut expected);
    let largest = expected.iter().fold(1.0_f64, |most, value| most.max(f64::from(value.abs())));
    assert_within(&what, &result, &doubles(&expected), rounding::<T>() * largest);

    let gradient: Vec<T> = drawn(5, maps.len(), 0.1);
    let above = gpu.upload(&gradient).unwrap();
    let backward = Backward {
        maps: on.maps.pointer(),
        shape: on.shape,
        weight: on.weight.pointer(),
        coefficients: on.coefficients.pointer(),
        is_from_batch: true,
        mask: match (relu, adds) {
            (false, _) => Mask::Open,
            (true, false) => Mask::Affine(on.affine()),
            (true, true) => Mask::Result(out.pointer()),
        },
    };
    let [of_weight, of_bias] = [(); 2].map(|()| gpu.allocate::<f32>(channels).unwrap());
    let into = Parameters { weight: of_weight.pointer(), bias: of_bias.pointer() };
    let line = gpu.allocate::<f32>(Backward::<T>::line_len(on.shape)).unwrap();
    let of_maps = gpu.allocate::<T>(maps.len()).unwrap();
    // SAFETY: everything was allocated for this shape.
    let started = unsafe {
        let (scratch, line) = (on.scratch.get(), line.pointer());
        let sums = backward.parameters(gpu, above.pointer(), scratch, into, line);
        sums.and_then(|()| backward.maps(gpu, above.pointer(), line, of_maps.pointer()))
    };
    started.unwrap();

    let weight = gpu.download(&on.weight);
    let on_cpu = CpuBackward {
        maps: &maps,
        weight: &weight,
        moments: &on.moments,
        epsilon: EPSILON,
        is_from_batch: true,
        mask: match (relu, adds) {
            (false, _) => CpuMask::Open,
            (true, false) => CpuMask::Affine(&on.affine),
            (true, true) => CpuMask::Result(&result),
        },
    };
    let mut masked = wide(&gradient);
    let sums = on_cpu.parameters(&mut masked);
    if rows == 1 {
        // The deviation is epsilon's alone.
        return;
    }
    // Each sum against what it would be without cancellation.
    let most = SUM_ON_CPU * rows as f64;
    assert_within(&format!("{what}: bias"), &gpu.download(&of_bias), &sums.bias, most);
    assert_within(&format!("{what}: weight"), &gpu.download(&of_weight), &sums.weight, 2.0 * most);
    let mut expected = vec![0.0; maps.len()];
    on_cpu.maps(&sums, &mut masked, Some(&mut expected));
    // What is left is smaller than the parts that it is the difference of.
    let factor = on.affine.scale.iter().fold(0.0_f64, |most, &f| most.max(f64::from(f.abs())));
    let most = 4.0 * rounding::<T>() * factor;
    let of_maps = wide(&gpu.download(&of_maps));
    assert_within(&format!("{what}: maps"), &of_maps, &doubles(&expected), most);
    if relu && adds {
        assert_eq!(wide(&gpu.download(&above)), masked, "{what}: masked in place");
    }
}

#[test]
fn batch_norm_kernels_are_the_passes_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        for shape in SHAPES {
            for (relu, adds) in [(false, false), (true, false), (true, true), (false, true)] {
                check::<f32>(gpu, shape, relu, adds);
                check::<bf16>(gpu, shape, relu, adds);
                check::<f16>(gpu, shape, relu, adds);
            }
        }
    });
}

#[test]
fn batch_norm_kernels_keep_small_variances_beside_large_means() {
    with_emulated_gpu(|gpu| {
        let shape = Rows { rows: 2000, channels: 4 };
        let maps: Vec<f32> = draw(1, 8000).into_iter().map(|v| 3000.0 + v).collect();
        let expected = exact_moments(&maps, 4);
        let [weight, bias] = [(); 2].map(|()| gpu.upload(&[1.0_f32; 4]).unwrap());
        let maps = gpu.upload(&maps).unwrap();
        let scratch = OwnScratch::new(gpu, shape).unwrap();
        let [coefficients, mean, variance] = [16, 4, 4].map(|n| gpu.allocate(n).unwrap());
        let parameters = Parameters { weight: weight.pointer(), bias: bias.pointer() };
        let into = Coefficients { all: coefficients.pointer(), channels: 4 };
        let statistics = Statistics { mean: mean.pointer(), variance: variance.pointer() };
        // SAFETY: everything was allocated for this shape.
        let started = unsafe {
            let (maps, scratch) = (maps.pointer(), scratch.get());
            moments(gpu, maps, shape, parameters, EPSILON, scratch, into, statistics)
        };
        started.unwrap();
        let unbiased: Vec<f64> = expected.unbiased_variance().collect();
        assert_close("variance", &gpu.download(&variance), &unbiased, SUM);
        assert_close("mean", &gpu.download(&mean), &expected.mean, SUM);
    });
}

#[test]
fn batch_norm_kernels_hide_no_nan() {
    with_emulated_gpu(|gpu| {
        let on = normalized::<bf16>(gpu, 20, 8);
        let mut maps = gpu.download(&on.maps);
        maps[83] = bf16::NAN;
        let broken = gpu.upload(&maps).unwrap();
        let out = gpu.allocate::<bf16>(maps.len()).unwrap();
        let pointers = [broken.pointer(), Pointer::NULL, out.pointer()];
        // SAFETY: everything was allocated for this shape.
        unsafe { apply(gpu, pointers, on.shape, on.affine(), true) }.unwrap();
        let got = gpu.download(&out);
        let are_nan: Vec<usize> = (0..got.len()).filter(|&i| got[i].is_nan()).collect();
        assert_eq!(are_nan, [83]);
    });
}
