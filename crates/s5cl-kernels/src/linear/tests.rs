//! All passes against the definition in f64, and what the layer refuses.

use candle_core::{Device, Result, Tensor, Var};

use super::{CHUNK_ROWS, PART_OUTPUTS, PART_ROWS, linear};
use crate::checks::{drawn, gradient, refusal, values};
use crate::simd::with_each_instruction_set;

/// Sums of some hundred f32 products, against the largest value.
const TOLERANCE: f64 = 1e-6;

#[test]
fn linear_is_a_product_and_a_sum() -> Result<()> {
    let input = Tensor::new(&[[1_f32, 2.0], [3.0, 4.0], [0.0, -1.0]], &Device::Cpu)?;
    let weight = Tensor::new(&[[1_f32, 0.0], [10.0, 1.0]], &Device::Cpu)?;
    let bias = Tensor::new(&[0.5_f32, -0.5], &Device::Cpu)?;
    let out = linear(&input, &weight, Some(&bias))?;
    assert_eq!(out.to_vec2::<f32>()?, [[1.5, 11.5], [3.5, 33.5], [0.5, -1.5]]);
    let out = linear(&input.get(1)?, &weight, None)?;
    assert_eq!(out.to_vec1::<f32>()?, [3.0, 34.0]);
    assert_eq!(linear(&input.narrow(0, 0, 0)?, &weight, None)?.dims(), [0, 2]);
    Ok(())
}

#[test]
fn linear_takes_operands_of_any_strides() -> Result<()> {
    // Whole numbers, so that sums are exact in any order.
    let whole = |seed, shape: &[usize]| drawn(seed, shape)?.affine(8.0, 0.0)?.round();
    let (input, weight) = (whole(1, &[4, 3, 5])?, whole(2, &[6, 5])?);
    let plain = values(&linear(&input, &weight, None)?)?;
    let (input, weight) = (input.transpose(0, 2)?.contiguous()?, weight.t()?.contiguous()?);
    let strided = linear(&input.transpose(0, 2)?, &weight.t()?, None)?;
    assert_eq!(strided.dims(), [4, 3, 6]);
    assert_eq!(values(&strided)?, plain);
    Ok(())
}

#[test]
fn linear_is_the_definition_with_each_instruction_set() -> Result<()> {
    // More than one part of each product, the last one not full; panels that are not full.
    let shape @ [n_rows, n_inputs, n_outputs] =
        [CHUNK_ROWS + PART_ROWS + 9, 37, 2 * PART_OUTPUTS + 11];
    let input = Var::from_tensor(&drawn(3, &[n_rows, n_inputs])?)?;
    let weight = Var::from_tensor(&drawn(4, &[n_outputs, n_inputs])?)?;
    let bias = Var::from_tensor(&drawn(5, &[n_outputs])?)?;
    let pull = drawn(6, &[n_rows, n_outputs])?;
    let operands = [values(&input)?, values(&weight)?, values(&bias)?, values(&pull)?];
    let expected = definition(shape, operands.each_ref().map(Vec::as_slice));
    let mut told: Vec<Result<_>> = Vec::new();
    with_each_instruction_set(|| {
        let passes = || {
            let out = linear(&input, &weight, Some(&bias))?;
            let gradients = (&out * &pull)?.sum_all()?.backward()?;
            let of = |variable: &Tensor| gradient(&gradients, variable);
            Ok([values(&out)?, of(&input)?, of(&weight)?, of(&bias)?])
        };
        told.push(passes());
    });
    for told in told {
        for (told, expected) in told?.iter().zip(&expected) {
            assert_eq!(told.len(), expected.len());
            let largest = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
            for (&value, expected) in told.iter().zip(expected) {
                let error = (f64::from(value) - expected).abs();
                assert!(error <= TOLERANCE * largest, "{value} for {expected}");
            }
        }
    }
    Ok(())
}

/// The result and the gradients of input, weight and bias, in f64.
fn definition(
    [n_rows, n_inputs, n_outputs]: [usize; 3],
    [input, weight, bias, pull]: [&[f32]; 4],
) -> [Vec<f64>; 4] {
    let mut out: Vec<f64> = bias.repeat(n_rows).into_iter().map(f64::from).collect();
    let (mut for_input, mut for_weight) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
    let mut for_bias = vec![0.0; n_outputs];
    for row in 0..n_rows {
        for o in 0..n_outputs {
            let g = f64::from(pull[row * n_outputs + o]);
            for_bias[o] += g;
            for i in 0..n_inputs {
                let (x, w) = (row * n_inputs + i, o * n_inputs + i);
                out[row * n_outputs + o] += f64::from(input[x]) * f64::from(weight[w]);
                for_input[x] += g * f64::from(weight[w]);
                for_weight[w] += g * f64::from(input[x]);
            }
        }
    }
    [out, for_input, for_weight, for_bias]
}

#[test]
fn linear_of_constant_input_makes_no_gradient_for_it() -> Result<()> {
    let (input, weight) = (drawn(6, &[3, 4])?, Var::from_tensor(&drawn(7, &[2, 4])?)?);
    let gradients = linear(&input, &weight, None)?.sum_all()?.backward()?;
    assert!(gradients.get(&input).is_none() && gradients.get(&weight).is_some());
    Ok(())
}

#[test]
fn linear_refuses_what_does_not_fit() -> Result<()> {
    let (input, weight) = (drawn(8, &[3, 4])?, drawn(9, &[2, 5])?);
    let message = refusal(linear(&input, &weight, None));
    assert!(message.contains("linear: input [3, 4] does not fit weight [2, 5]"), "{message}");
    let message = refusal(linear(&drawn(8, &[3, 5])?, &weight, Some(&drawn(9, &[3])?)));
    assert!(message.contains("linear: bias [3] does not fit weight [2, 5]"), "{message}");
    Ok(())
}
