//! Values, statistics and every gradient of networks against the reference.

use candle_core::{Device, Result, Tensor, Var, backprop::GradStore};

use super::cases::{Case, WIDE, residual, small, wide};
use super::reference::{Moments, Plain, Step, len};
use crate::checks::{assert_close, assert_within, draw, values};
use crate::conv2d::geometry::Geometry;
use crate::{Conv2dConfig, winograd};

/// A dozen layers in f32, each normalized: three times what is measured, as all of these.
pub(super) const VALUE: f64 = 3e-6;
/// Sums over thousands of values, in f32 within a block; means are measured against deviations.
pub(super) const STATISTIC: f64 = 1.5e-5;
/// Distance of the reference's finite differences: no ReLU and no maximum changes sides in it.
const DISTANCE: f64 = 1e-7;
/// Their error, against the size of the terms that are added.
const DIFFERENCE: f64 = 1e-6;

/// Images, then parameters: drawn, in a size that keeps maps alive.
pub(super) fn drawn(plain: &Plain) -> (Vec<f64>, Vec<Vec<f64>>) {
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let parameter = |(index, shape): (usize, &Vec<usize>)| {
        let values = wide(draw(10 + index as u64, shape.iter().product()));
        // What is drawn must be an f32 after scaling too, or the inputs would differ already.
        let (scale, shift) = match shape[..] {
            [_, inputs, height, width] => ((6.0 / (inputs * height * width) as f64).sqrt(), 0.0),
            _ => (0.5, if index % 2 == 0 { 0.0 } else { 1.0 }),
        };
        let scaled = |value: f64| f64::from((value * scale + shift) as f32);
        values.into_iter().map(scaled).collect()
    };
    let parameters = plain.parameters().iter().enumerate().map(parameter).collect();
    (wide(draw(1, len(plain.images))), parameters)
}

/// How the tensors of a pass are made.
#[derive(Clone, Copy, Default)]
struct Given {
    /// Not in the order of their values.
    are_strided: bool,
    are_images_constant: bool,
    /// Every parameter whose index leaves this remainder by 3.
    constants: Option<usize>,
}

impl Given {
    /// A variable, and the view of it that has the shape.
    fn variable(self, values: &[f64], shape: &[usize]) -> Result<(Var, Tensor)> {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
        let stored = match (self.are_strided, shape.len()) {
            (false, _) => tensor,
            (true, 4) => tensor.permute((3, 2, 1, 0))?.contiguous()?,
            (true, _) => Tensor::stack(&[&tensor, &tensor], 1)?,
        };
        let variable = Var::from_tensor(&stored)?;
        let view = self.view(&variable)?;
        assert_eq!((view.dims(), view.is_contiguous()), (shape, !self.are_strided));
        Ok((variable, view))
    }

    fn view(self, stored: &Tensor) -> Result<Tensor> {
        match (self.are_strided, stored.rank()) {
            (false, _) => Ok(stored.clone()),
            (true, 4) => stored.permute((3, 2, 1, 0)),
            (true, _) => stored.narrow(1, 0, 1)?.squeeze(1),
        }
    }

    fn gradient(self, gradients: &GradStore, of: &Var) -> Result<Option<Vec<f32>>> {
        gradients.get(of).map(|gradient| values(&self.view(gradient)?)).transpose()
    }
}

/// A training step and an evaluation of a network, against the reference.
fn check(case: &Case, given: Given) -> Result<()> {
    let Case { name, plain, unread, gradient_error } = case;
    let (images, parameters) = drawn(plain);
    let (image_variable, image_view) = given.variable(&images, &plain.images)?;
    let (mut variables, mut views) = (Vec::new(), Vec::new());
    for (index, (values, shape)) in parameters.iter().zip(plain.parameters()).enumerate() {
        let (variable, view) = given.variable(values, &shape)?;
        let is_constant = given.constants == Some(index % 3);
        views.push(if is_constant { view.detach() } else { view });
        variables.push((variable, is_constant));
    }
    let image_view = if given.are_images_constant { image_view.detach() } else { image_view };
    let views: Vec<&Tensor> = views.iter().collect();
    let network = plain.network();

    let output = network.train(&image_view, &views)?;
    let pass = plain.forward(&images, &parameters, None);
    let result = pass.maps.last().unwrap();
    assert_close(&format!("{name}: result"), &values(&output.maps)?, result, VALUE);
    assert_eq!(output.statistics.len(), pass.moments.len(), "{name}");
    let shapes = plain.shapes();
    let norms = plain.steps.iter().zip(&shapes[1..]);
    let norms = norms.filter(|(step, _)| matches!(step, Step::Norm { .. }));
    for (index, (got, (_, &shape))) in output.statistics.iter().zip(norms).enumerate() {
        let Moments { mean, variance } = &pass.moments[index];
        let rows = (len(shape) / shape[3]) as f64;
        let unbiased: Vec<f64> = variance.iter().map(|v| v * rows / (rows - 1.0)).collect();
        let deviation = unbiased.iter().fold(0.0_f64, |largest, v| largest.max(v.sqrt()));
        let what = format!("{name}: mean {index}");
        assert_within(&what, &values(&got.mean)?, mean, STATISTIC * deviation);
        let what = format!("{name}: variance {index}");
        assert_close(&what, &values(&got.variance)?, &unbiased, STATISTIC);
        assert!(!got.mean.track_op() && !got.variance.track_op(), "{name}: without gradient");
    }

    let above = draw(2, result.len());
    let above_plain: Vec<f64> = above.iter().map(|&value| f64::from(value)).collect();
    let above = Tensor::from_vec(above, output.maps.shape(), &Device::Cpu)?;
    let (of_images, of_parameters) = plain.backward(&pass, &parameters, &above_plain);
    if output.maps.track_op() {
        let gradients = (&output.maps * above)?.sum_all()?.backward()?;
        let got = given.gradient(&gradients, &image_variable)?;
        assert_eq!(got.is_none(), given.are_images_constant, "{name}: images");
        if let Some(got) = got {
            assert_close(&format!("{name}: images' gradient"), &got, &of_images, *gradient_error);
        }
        for (index, (variable, is_constant)) in variables.iter().enumerate() {
            let got = given.gradient(&gradients, variable)?;
            assert!(got.is_none() || !is_constant, "{name}: constant {index}");
            if unread.contains(&index) {
                // candle wants one for what was computed from a variable.
                let is_none =
                    got.is_none_or(|got| given.are_strided && got == vec![0.0; got.len()]);
                assert!(is_none, "{name}: parameter {index} is not read");
                continue;
            }
            assert_eq!(got.is_none(), *is_constant, "{name}: parameter {index}");
            if let Some(got) = got {
                let what = format!("{name}: gradient of parameter {index}");
                assert_close(&what, &got, &of_parameters[index], *gradient_error);
            }
        }
    } else {
        assert!(given.are_images_constant && variables.iter().all(|(_, constant)| *constant));
    }
    check_evaluation(name, plain, &image_view, &views)
}

/// Means and variances near those of a batch, and not the same.
pub(super) fn other_statistics(of_batch: &[Moments]) -> Vec<[Vec<f32>; 2]> {
    let other = |(index, Moments { mean, variance }): (usize, &Moments)| {
        let drawn = draw(100 + index as u64, 2 * mean.len());
        let (first, second) = drawn.split_at(mean.len());
        let mean = mean.iter().zip(first).map(|(m, d)| *m as f32 + 0.3 * d);
        let variance = variance.iter().zip(second).map(|(v, d)| *v as f32 * (1.0 + 0.5 * d));
        [mean.collect(), variance.collect()]
    };
    of_batch.iter().enumerate().map(other).collect()
}

/// The same for the reference.
pub(super) fn moments_of([mean, variance]: &[Vec<f32>; 2]) -> Moments {
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
    Moments { mean: wide(mean), variance: wide(variance) }
}

/// An evaluation with statistics that are not the batch's.
fn check_evaluation(name: &str, plain: &Plain, image: &Tensor, views: &[&Tensor]) -> Result<()> {
    let (images, parameters) = drawn(plain);
    let other = other_statistics(&plain.forward(&images, &parameters, None).moments);
    let known: Vec<Moments> = other.iter().map(moments_of).collect();
    let tensor = |values: &Vec<f32>| Tensor::new(values.as_slice(), &Device::Cpu);
    let statistics: Vec<[Tensor; 2]> = other
        .iter()
        .map(|[mean, variance]| Ok([tensor(mean)?, tensor(variance)?]))
        .collect::<Result<_>>()?;
    let statistics: Vec<_> = statistics.iter().map(|[mean, variance]| (mean, variance)).collect();
    let got = plain.network().evaluate(image, views, &statistics)?;
    let expected = plain.forward(&images, &parameters, Some(&known));
    let expected = expected.maps.last().unwrap();
    assert!(!got.track_op(), "{name}: an evaluation is detached");
    assert_close(&format!("{name}: evaluation"), &values(&got)?, expected, VALUE);
    Ok(())
}

#[test]
fn reference_gradients_are_its_finite_differences() {
    for Case { name, plain, .. } in small() {
        let (images, parameters) = drawn(&plain);
        let pass = plain.forward(&images, &parameters, None);
        let above: Vec<f64> =
            draw(2, pass.maps.last().unwrap().len()).into_iter().map(f64::from).collect();
        let (of_images, mut gradients) = plain.backward(&pass, &parameters, &above);
        gradients.insert(0, of_images);
        let mut inputs = parameters;
        inputs.insert(0, images);
        for (index, gradient) in gradients.iter().enumerate() {
            // Along a line that moves every value of the input.
            let line = draw(50 + index as u64, gradient.len());
            let loss = |distance: f64| -> f64 {
                let mut moved = inputs.clone();
                for (value, &along) in moved[index].iter_mut().zip(&line) {
                    *value += distance * f64::from(along);
                }
                let pass = plain.forward(&moved[0], &moved[1..], None);
                pass.maps.last().unwrap().iter().zip(&above).map(|(value, a)| value * a).sum()
            };
            let slope = (loss(DISTANCE) - loss(-DISTANCE)) / (2.0 * DISTANCE);
            let terms = || gradient.iter().zip(&line).map(|(g, &along)| g * f64::from(along));
            let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
            let error = (slope - sum).abs();
            assert!(error <= DIFFERENCE * size, "{name}: input {index} has {slope}, told {sum}");
        }
    }
}

#[test]
fn network_values_and_gradients_are_the_reference() -> Result<()> {
    small().iter().try_for_each(|case| check(case, Given::default()))
}

#[test]
fn network_with_winograds_layers_is_the_reference() -> Result<()> {
    let case = wide();
    let maps = case.plain.shapes()[2];
    let geometry = Geometry::new(&maps, &WIDE, Conv2dConfig::same(3))?;
    assert!(winograd::pays(&geometry), "{geometry:?} is not of Winograd's kind");
    check(&case, Given::default())
}

#[test]
fn network_takes_tensors_of_any_strides() -> Result<()> {
    let given = Given { are_strided: true, ..Given::default() };
    small().iter().try_for_each(|case| check(case, given))
}

#[test]
fn network_gives_constants_no_gradient() -> Result<()> {
    let case = residual([3, 33, 26, 3]);
    for are_images_constant in [false, true] {
        for constants in [None, Some(0), Some(1), Some(2)] {
            check(&case, Given { are_images_constant, constants, ..Given::default() })?;
        }
    }
    Ok(())
}
