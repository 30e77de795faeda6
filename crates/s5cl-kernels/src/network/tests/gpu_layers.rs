//! Networks of newer layers on an emulated GPU against the same on the CPU.

use candle_core::{Device, Result, Tensor, Var};
use half::{bf16, f16};

use super::layer_cases::{Case, cases};
use super::on_gpu::{OnGpu, assert_near};
use crate::checks::{draw, gradient, values};
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::stored::{Stored, StoredType};
use crate::network::backward::Wanted;

/// Distances from the CPU that are allowed: against the largest value in f32, otherwise against the
/// length, twice what is measured.
struct Distances {
    values: f64,
    gradients: f64,
    /// Through a ReLU: one that changes sides in 16 bits changes a good part of the gradient; a
    /// missing one would be at 1.
    relu_gradients: f64,
}

impl Distances {
    fn of<T: Stored>() -> Self {
        match T::TYPE {
            StoredType::F32 => Self { values: 1e-6, gradients: 8e-6, relu_gradients: 2e-5 },
            StoredType::Bf16 => Self { values: 2.8e-2, gradients: 0.12, relu_gradients: 0.25 },
            StoredType::F16 => Self { values: 2.8e-3, gradients: 0.014, relu_gradients: 0.15 },
        }
    }
}

/// Around 1 for the weight of a normalization, which is followed by another parameter of its shape;
/// in a size that keeps maps alive.
fn drawn(shapes: &[Vec<usize>]) -> Vec<(Vec<usize>, Vec<f32>)> {
    let parameter = |(index, shape): (usize, &Vec<usize>)| {
        let is_scale = shape.len() == 1 && shapes.get(index + 1) == Some(shape);
        let inputs: usize = shape[1..].iter().product();
        let (scale, shift) = match (shape.len(), is_scale) {
            (1, true) => (0.3, 1.0),
            (1, false) => (0.3, 0.0),
            _ => ((3.0 / inputs as f32).sqrt(), 0.0),
        };
        let values = draw(10 + index as u64, shape.iter().product());
        (shape.clone(), values.into_iter().map(|x| scale * x + shift).collect())
    };
    shapes.iter().enumerate().map(parameter).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn check<T: Stored>(gpu: &EmulatedGpu, case: &Case) -> Result<()> {
    let Case { name, images: shape, network, shapes, .. } = case;
    let Distances { values: of_values, gradients, relu_gradients } = Distances::of::<T>();
    let of_gradients = if *name == "pre-activation" { relu_gradients } else { gradients };
    let images = draw(1, shape.iter().product());
    let parameters = drawn(shapes);
    let variable = |shape: &[usize], values: &[f32]| {
        Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu)?)
    };
    let image_variable = variable(shape, &images)?;
    let variables: Vec<Var> =
        parameters.iter().map(|(shape, of)| variable(shape, of)).collect::<Result<_>>()?;
    let tensors: Vec<&Tensor> = variables.iter().map(Var::as_tensor).collect();
    let output = network.train(&image_variable, &tensors)?;
    let above = draw(2, output.maps.elem_count());
    let weights = Tensor::from_slice(&above, output.maps.shape(), &Device::Cpu)?;
    let of_cpu = (&output.maps * weights)?.sum_all()?.backward()?;

    let mut on_gpu = OnGpu::new(gpu, network, &(*shape, images), &parameters)?;
    let wanted = Wanted { images: true, parameters: vec![true; parameters.len()] };
    let near = |what: &str, got: &[f32], expected: &[f32], distance: f64| {
        assert_near::<T>(&format!("{name}: {what}"), got, &wide(expected), distance, distance);
    };
    // The second time in memory that was used before.
    for _ in 0..2 {
        let trained = on_gpu.train::<T>();
        let result = gpu.download(&trained.result);
        near("result", &result, &values(&output.maps)?, of_values);
        let gradients = on_gpu.backward::<T>(trained, &above, &wanted);
        let all = gpu.download(&gradients.parameters);
        for (index, variable) in variables.iter().enumerate() {
            let expected = gradient(&of_cpu, variable)?;
            let start = gradients.starts[index].unwrap();
            let what = format!("gradient of parameter {index}, {:?}", variable.shape());
            near(&what, &all[start..][..expected.len()], &expected, of_gradients);
        }
        let got = gpu.download(&gradients.images.unwrap());
        near("images' gradient", &got, &gradient(&of_cpu, &image_variable)?, of_gradients);
        check_evaluation::<T>(case, &mut on_gpu, (&image_variable, &tensors), of_values)?;
    }
    Ok(())
}

/// With statistics that are not the batch's.
fn check_evaluation<T: Stored>(
    case: &Case,
    on_gpu: &mut OnGpu<'_>,
    (images, parameters): (&Tensor, &[&Tensor]),
    distance: f64,
) -> Result<()> {
    let known = case.norms.iter().enumerate().map(|(index, &of)| {
        let seed = 100 + 2 * index as u64;
        let variance = draw(seed + 1, of).into_iter().map(|v| 1.5 + v).collect();
        [draw(seed, of), variance]
    });
    let known: Vec<[Vec<f32>; 2]> = known.collect();
    let tensor = |values: &Vec<f32>| Tensor::new(&values[..], &Device::Cpu);
    let tensors: Vec<[Tensor; 2]> = known
        .iter()
        .map(|[mean, variance]| Ok([tensor(mean)?, tensor(variance)?]))
        .collect::<Result<_>>()?;
    let statistics: Vec<(&Tensor, &Tensor)> =
        tensors.iter().map(|[mean, variance]| (mean, variance)).collect();
    let expected = values(&case.network.evaluate(images, parameters, &statistics)?)?;
    let what = format!("{}: evaluation", case.name);
    assert_near::<T>(&what, &on_gpu.evaluate::<T>(&known), &wide(&expected), distance, distance);
    Ok(())
}

#[test]
fn newer_layers_on_a_gpu_are_those_on_the_cpu() {
    with_emulated_gpu(|gpu| {
        for case in cases() {
            check::<f32>(gpu, &case).unwrap();
        }
    });
}

#[test]
fn newer_layers_on_a_gpu_are_near_those_on_the_cpu_in_16_bits() {
    with_emulated_gpu(|gpu| {
        for case in cases() {
            check::<bf16>(gpu, &case).unwrap();
            check::<f16>(gpu, &case).unwrap();
        }
    });
}

#[test]
fn newer_layers_on_a_gpu_compute_the_gradients_that_are_wanted() {
    with_emulated_gpu(|gpu| {
        for case in cases() {
            let parameters = drawn(&case.shapes);
            let images = (case.images, draw(1, case.images.iter().product()));
            let mut on_gpu = OnGpu::new(gpu, &case.network, &images, &parameters).unwrap();
            let wanted: Vec<bool> = (0..parameters.len()).map(|i| i % 3 == 1).collect();
            let trained = on_gpu.train::<f32>();
            let above = draw(2, trained.result.len());
            let wanted = Wanted { images: false, parameters: wanted };
            let gradients = on_gpu.backward::<f32>(trained, &above, &wanted);
            assert!(gradients.images.is_none(), "{}", case.name);
            let are_there: Vec<bool> = gradients.starts.iter().map(Option::is_some).collect();
            assert_eq!(are_there, wanted.parameters, "{}", case.name);
        }
    });
}
