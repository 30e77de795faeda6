//! Networks on an emulated GPU against the reference.

use candle_core::Result;
use half::{bf16, f16};

use super::cases::{Case, residual, small, wide};
use super::on_gpu::{OnGpu, assert_near};
use super::reference::{Moments, len};
use super::values::{STATISTIC, VALUE, drawn, moments_of, other_statistics};
use crate::checks::{assert_close, assert_within, draw};
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::stored::{Stored, StoredType};
use crate::network::backward::Wanted;

/// Distances from the reference that are allowed, against the reference's own length: twice what is
/// measured. 16 bits round every map of a dozen layers.
struct Distances {
    values: f64,
    gradients: f64,
    /// In [`residual`], where a few pixels of a few channels are left in the last layers, and a
    /// ReLU that changes sides changes a good part of the gradient; a missing one would be at 1.
    gradients_of_few: f64,
}

impl Distances {
    /// Those of f32 are bounds on every value, not these.
    fn of<T: Stored>() -> Self {
        match T::TYPE {
            StoredType::F32 => Self { values: 0.0, gradients: 0.0, gradients_of_few: 0.0 },
            StoredType::Bf16 => Self { values: 1.2e-2, gradients: 0.2, gradients_of_few: 0.9 },
            StoredType::F16 => Self { values: 1.4e-3, gradients: 0.03, gradients_of_few: 0.3 },
        }
    }
}

fn of_case<'a>(gpu: &'a EmulatedGpu, case: &Case) -> Result<OnGpu<'a>> {
    let (images, parameters) = drawn(&case.plain);
    let singles =
        |values: &Vec<f64>| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
    let shapes = case.plain.parameters();
    let parameters: Vec<(Vec<usize>, Vec<f32>)> =
        shapes.into_iter().zip(parameters.iter().map(singles)).collect();
    let images = (case.plain.images, singles(&images));
    OnGpu::new(gpu, &case.plain.network(), &images, &parameters)
}

fn check<T: Stored>(gpu: &EmulatedGpu, case: &Case) -> Result<()> {
    let Case { name, plain, unread, gradient_error } = case;
    let Distances { values: value, gradients, gradients_of_few } = Distances::of::<T>();
    let of_gradient = if *name == "residual" { gradients_of_few } else { gradients };
    let (images, parameters) = drawn(plain);
    let pass = plain.forward(&images, &parameters, None);
    let expected = pass.maps.last().unwrap();
    let mut on_gpu = of_case(gpu, case)?;
    let wanted = Wanted { images: true, parameters: vec![true; parameters.len()] };
    let above = draw(2, expected.len());
    let wide: Vec<f64> = above.iter().map(|&value| f64::from(value)).collect();
    let (of_images, of_parameters) = plain.backward(&pass, &parameters, &wide);
    // The second time in memory that was used before, which is the same for any type.
    let n_times = if T::TYPE == StoredType::F32 { 2 } else { 1 };
    for _ in 0..n_times {
        let trained = on_gpu.train::<T>();
        let result = gpu.download(&trained.result);
        assert_near::<T>(&format!("{name}: result"), &result, expected, VALUE, value);
        let statistics = gpu.download(&trained.statistics);
        for (index, Moments { mean, variance }) in pass.moments.iter().enumerate() {
            let channels = mean.len();
            let rows = rows_of_norm(case, index) as f64;
            let got = &statistics[trained.starts[index]..][..2 * channels];
            let unbiased: Vec<f64> = variance.iter().map(|v| v * rows / (rows - 1.0)).collect();
            let deviation = unbiased.iter().fold(0.0_f64, |largest, v| largest.max(v.sqrt()));
            let share = if T::TYPE == StoredType::F32 { STATISTIC } else { 3.0 * value };
            let what = format!("{:?} {name}: mean {index}", T::TYPE);
            assert_within(&what, &got[..channels], mean, share * deviation);
            let what = format!("{:?} {name}: variance {index}", T::TYPE);
            assert_close(&what, &got[channels..], &unbiased, share);
        }
        let gradients = on_gpu.backward::<T>(trained, &above, &wanted);
        let all = gpu.download(&gradients.parameters);
        for (index, start) in gradients.starts.iter().enumerate() {
            assert_eq!(start.is_none(), unread.contains(&index), "{name}: parameter {index}");
            let Some(start) = *start else { continue };
            let expected = &of_parameters[index];
            let what = format!("{name}: gradient of parameter {index}");
            let got = &all[start..][..expected.len()];
            assert_near::<T>(&what, got, expected, *gradient_error, of_gradient);
        }
        let got = gpu.download(&gradients.images.unwrap());
        let what = format!("{name}: images' gradient");
        assert_near::<T>(&what, &got, &of_images, *gradient_error, of_gradient);
        check_evaluation::<T>(case, &mut on_gpu, value);
    }
    Ok(())
}

/// Values of a channel that a normalization sees.
fn rows_of_norm(case: &Case, norm: usize) -> usize {
    use super::reference::Step;
    let shapes = case.plain.shapes();
    let norms = case.plain.steps.iter().zip(&shapes[1..]);
    let mut norms = norms.filter(|(step, _)| matches!(step, Step::Norm { .. }));
    let shape = *norms.nth(norm).unwrap().1;
    len(shape) / shape[3]
}

/// With statistics that are not the batch's.
fn check_evaluation<T: Stored>(case: &Case, on_gpu: &mut OnGpu<'_>, distance: f64) {
    let (images, parameters) = drawn(&case.plain);
    let other = other_statistics(&case.plain.forward(&images, &parameters, None).moments);
    let known: Vec<Moments> = other.iter().map(moments_of).collect();
    let got = on_gpu.evaluate::<T>(&other);
    let expected = case.plain.forward(&images, &parameters, Some(&known));
    let what = format!("{}: evaluation", case.name);
    assert_near::<T>(&what, &got, expected.maps.last().unwrap(), VALUE, distance);
}

#[test]
fn network_on_a_gpu_is_the_reference() {
    with_emulated_gpu(|gpu| {
        for case in small() {
            check::<f32>(gpu, &case).unwrap();
        }
    });
}

#[test]
fn network_on_a_gpu_with_wide_layers_is_the_reference_in_every_type() {
    with_emulated_gpu(|gpu| {
        check::<f32>(gpu, &wide()).unwrap();
        check::<bf16>(gpu, &wide()).unwrap();
        check::<f16>(gpu, &wide()).unwrap();
    });
}

#[test]
fn network_on_a_gpu_is_near_the_reference_in_16_bits() {
    with_emulated_gpu(|gpu| {
        for case in small() {
            check::<bf16>(gpu, &case).unwrap();
            check::<f16>(gpu, &case).unwrap();
        }
    });
}

#[test]
fn network_on_a_gpu_computes_the_gradients_that_are_wanted() {
    with_emulated_gpu(|gpu| {
        let case = residual([2, 33, 26, 3]);
        let mut on_gpu = of_case(gpu, &case).unwrap();
        let wanted: Vec<bool> = (0..on_gpu.n_parameters()).map(|i| i % 3 == 1).collect();
        let trained = on_gpu.train::<f32>();
        let above = draw(2, trained.result.len());
        let wanted = Wanted { images: false, parameters: wanted };
        let gradients = on_gpu.backward::<f32>(trained, &above, &wanted);
        assert!(gradients.images.is_none());
        for (index, start) in gradients.starts.iter().enumerate() {
            let is_there = wanted.parameters[index] && !case.unread.contains(&index);
            assert_eq!(start.is_some(), is_there, "parameter {index}");
        }
    });
}
