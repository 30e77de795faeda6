//! Kernels against plain f64 formulas, and their gradients against central differences of these.

use candle_core::{Device, Result, Tensor, Var};
use s5cl_kernels::{Conv2dConfig, batch_norm_eval, batch_norm_train, conv2d, max_pool2d};
use s5cl_random::named_stream;

use crate::golden_files::{TestResult, assert_values_close, gradient, values};
use crate::reference_formulas::{
    EPSILON, Shape, batch_norm_formula, conv2d_formula, len, max_pool2d_formula,
};

/// f32 sums of up to about 100 products.
const SUMMED: f64 = 3e-6;
/// The same on the way back, and a difference in f64 over `STEP`: its error is about 1e-10.
const GRADIENT: f64 = 1e-5;
const STEP: f64 = 1e-5;

/// Normal values that depend on the name.
pub(crate) fn draw(name: &str, n: usize) -> Vec<f64> {
    let mut random = named_stream(0, name);
    (0..n).map(|_| f64::from(random.normal())).collect()
}

/// Compares an operation with its formula, and every gradient of the operation with differences
/// of the formula. Both are of all inputs, given with their shapes.
pub(crate) fn check(
    name: &str,
    inputs: &[(Vec<usize>, Vec<f64>)],
    formula: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    operation: impl Fn(&[Var]) -> Result<Tensor>,
) -> TestResult {
    let variable = |(shape, values): &(Vec<usize>, Vec<f64>)| {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        Var::from_vec(values, shape.as_slice(), &Device::Cpu)
    };
    let variables: Vec<Var> = inputs.iter().map(variable).collect::<Result<_>>()?;
    let output = operation(&variables)?;
    let mut plain: Vec<Vec<f64>> = inputs.iter().map(|(_, values)| values.clone()).collect();
    assert_values_close(name, &values(&output)?, &formula(&plain), SUMMED);

    let from_above = draw("from above", output.elem_count());
    let above: Vec<f32> = from_above.iter().map(|&value| value as f32).collect();
    let above = Tensor::from_vec(above, output.shape(), &Device::Cpu)?;
    let gradients = (output * above)?.sum_all()?.backward()?;
    let loss = |plain: &[Vec<f64>]| -> f64 {
        formula(plain).iter().zip(&from_above).map(|(value, above)| value * above).sum()
    };
    for (input, variable) in variables.iter().enumerate() {
        let mut expected = Vec::new();
        for i in 0..plain[input].len() {
            let value = plain[input][i];
            let mut moved = |to: f64| {
                plain[input][i] = to;
                loss(&plain)
            };
            expected.push((moved(value + STEP) - moved(value - STEP)) / (2.0 * STEP));
            plain[input][i] = value;
        }
        let what = format!("{name}, gradient of input {input}");
        assert_values_close(&what, &values(gradient(&gradients, variable)?)?, &expected, GRADIENT);
    }
    Ok(())
}

#[test]
fn conv2d_of_odd_shapes_is_its_formula() -> TestResult {
    let cases: [(Shape, [usize; 3], usize, usize); 12] = [
        // maps, [out channels, kernel height, kernel width], stride, padding
        ([2, 5, 7, 3], [4, 3, 3], 1, 1),
        ([2, 5, 7, 3], [4, 3, 3], 2, 1),
        ([2, 6, 4, 3], [5, 3, 3], 2, 0),
        ([1, 7, 5, 2], [3, 1, 3], 1, 1),
        ([1, 7, 5, 2], [3, 3, 1], 2, 1),
        ([2, 4, 9, 1], [2, 1, 5], 3, 2),
        ([1, 9, 4, 1], [2, 5, 1], 3, 2),
        ([1, 4, 3, 3], [1, 1, 1], 2, 0),
        ([1, 3, 4, 2], [3, 1, 1], 1, 2),
        ([1, 6, 5, 2], [2, 2, 4], 2, 2),
        ([3, 1, 1, 4], [5, 3, 3], 1, 1),
        ([1, 3, 3, 2], [2, 7, 7], 2, 3),
    ];
    for (maps, [out_channels, kernel_height, kernel_width], stride, padding) in cases {
        let weight = [out_channels, maps[3], kernel_height, kernel_width];
        let config = Conv2dConfig { stride, padding, dilation: 1, groups: 1 };
        let inputs = [
            (maps.to_vec(), draw("maps", len(maps))),
            (weight.to_vec(), draw("weight", len(weight))),
        ];
        check(
            &format!("maps {maps:?}, weight {weight:?}, {config:?}"),
            &inputs,
            |plain| conv2d_formula((&plain[0], maps), (&plain[1], weight), config),
            |variables| conv2d(&variables[0], &variables[1], config),
        )?;
    }
    Ok(())
}

#[test]
fn conv2d_over_many_tiles_is_its_formula() -> TestResult {
    // 2,600 patches of 27 values make several tiles and weight parts, the last ones not full.
    let (maps, weight) = ([26, 10, 10, 3], [2, 3, 3, 3]);
    let config = Conv2dConfig::same(3);
    let (pixels, filter) = (draw("maps", len(maps)), draw("weight", len(weight)));
    let variable = |values: &[f64], shape: Shape| {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        Var::from_vec(values, &shape[..], &Device::Cpu)
    };
    let (maps_variable, weight_variable) = (variable(&pixels, maps)?, variable(&filter, weight)?);
    let output = conv2d(&maps_variable, &weight_variable, config)?;
    let expected = conv2d_formula((&pixels, maps), (&filter, weight), config);
    assert_values_close("output", &values(&output)?, &expected, SUMMED);

    // The convolution is linear in each operand: with itself from above, <dy, y> = <dx, x> = <dw, w>.
    let gradients = (&output * output.detach())?.sum_all()?.backward()?;
    let squared: f64 = expected.iter().map(|value| value * value).sum();
    for (variable, plain) in [(&maps_variable, &pixels), (&weight_variable, &filter)] {
        let gradient = values(gradient(&gradients, variable)?)?;
        let product: f64 = gradient.iter().zip(plain).map(|(g, x)| g * x).sum();
        assert_values_close("product", &[product], &[squared], GRADIENT);
    }
    Ok(())
}

#[test]
fn max_pool2d_is_its_formula() -> TestResult {
    let cases: [(Shape, [usize; 3]); 5] = [
        // maps, [kernel, stride, padding]
        ([2, 7, 5, 3], [3, 2, 1]),
        ([1, 8, 6, 2], [3, 2, 1]),
        ([2, 5, 5, 1], [2, 1, 1]),
        ([1, 6, 7, 2], [2, 3, 0]),
        ([1, 4, 9, 2], [4, 1, 2]),
    ];
    for (maps, window) in cases {
        // No two values are within a step of each other: the largest one stays the largest.
        let mut pixels: Vec<f64> = (0..len(maps)).map(|i| i as f64 / 64.0 - 1.0).collect();
        named_stream(0, "pixels").shuffle(&mut pixels);
        let [kernel, stride, padding] = window;
        check(
            &format!("maps {maps:?}, window {window:?}"),
            &[(maps.to_vec(), pixels)],
            |plain| max_pool2d_formula(&plain[0], maps, window),
            |variables| max_pool2d(&variables[0], kernel, stride, padding),
        )?;
    }
    Ok(())
}

/// Maps, weight, bias and residual.
fn batch_norm_inputs(shape: Shape) -> Vec<(Vec<usize>, Vec<f64>)> {
    let channels = shape[3];
    // A mean far from zero is where a careless variance is lost.
    let maps = draw("maps", len(shape)).into_iter().map(|value| 5.0 + 2.0 * value).collect();
    vec![
        (shape.to_vec(), maps),
        (vec![channels], draw("weight", channels)),
        (vec![channels], draw("bias", channels)),
        (shape.to_vec(), draw("residual", len(shape))),
    ]
}

#[test]
fn batch_norm_train_is_its_formula() -> TestResult {
    for (shape, has_residual, relu) in [
        ([3, 2, 5, 3], true, true),
        ([3, 2, 5, 3], true, false),
        ([4, 3, 3, 2], false, true),
        ([5, 1, 1, 7], false, false),
        ([2, 1, 3, 1], true, true),
    ] {
        let mut inputs = batch_norm_inputs(shape);
        inputs.truncate(if has_residual { 4 } else { 3 });
        check(
            &format!("maps {shape:?}, residual {has_residual}, relu {relu}"),
            &inputs,
            |plain| {
                let residual = plain.get(3).map(Vec::as_slice);
                batch_norm_formula([&plain[0], &plain[1], &plain[2]], residual, relu, None)
            },
            |variables| {
                let [maps, weight, bias, ..] = variables else { unreachable!("three or four") };
                let residual = variables.get(3).map(Var::as_tensor);
                Ok(batch_norm_train(maps, weight, bias, residual, relu, EPSILON)?.maps)
            },
        )?;
    }
    Ok(())
}

#[test]
fn batch_norm_eval_is_its_formula() -> TestResult {
    let (mean, variance) = ([4.5, 6.0, 5.0], [3.0, 0.5, 4.0]);
    for (has_residual, relu) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut inputs = batch_norm_inputs([2, 3, 2, 3]);
        inputs.truncate(if has_residual { 4 } else { 3 });
        let statistic = |values: [f64; 3]| Tensor::new(&values.map(|v| v as f32), &Device::Cpu);
        let (mean_tensor, variance_tensor) = (statistic(mean)?, statistic(variance)?);
        check(
            &format!("residual {has_residual}, relu {relu}"),
            &inputs,
            |plain| {
                let residual = plain.get(3).map(Vec::as_slice);
                let statistics = Some((&mean[..], &variance[..]));
                batch_norm_formula([&plain[0], &plain[1], &plain[2]], residual, relu, statistics)
            },
            |variables| {
                let [maps, weight, bias, ..] = variables else { unreachable!("three or four") };
                let residual = variables.get(3).map(Var::as_tensor);
                let (mean, variance) = (&mean_tensor, &variance_tensor);
                batch_norm_eval(maps, weight, bias, mean, variance, residual, relu, EPSILON)
            },
        )?;
    }
    Ok(())
}
