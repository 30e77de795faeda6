//! The rules against plain formulas in f64 over several steps, and what they refuse.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{BLOCK, StepConfig, adamax_step, adamw_step, average_step, gradient_norm, sgd_step};
use crate::checks::{draw, drawn, refusal, same_everywhere, values};

/// Five steps of a few roundings to f32 each, of values around 1.
const ROUNDED: f64 = 3e-6;
/// The sum is in f64, and so is its root.
const EXACT: f64 = 1e-12;
/// Several blocks, the last one not full.
const LEN: usize = 2 * BLOCK + 77;
const N_STEPS: u64 = 5;
/// A decay whose distance from 1 is no number of f32, and steps in which its error would add up.
const LONG_DECAY: f64 = 0.9999;
const LONG_STEPS: usize = 20_000;
/// Each step rounds the average once, by half of f32's spacing below 2 (6e-8), and forgets it at
/// the rate of the decay: at most 6e-4, were all roundings on one side. They are on both, and so
/// add up like a walk, the root of 5000 steps long: 4e-6, of which this is the triple.
const AVERAGED: f64 = 1.3e-5;
const BETAS: [f64; 2] = [0.9, 0.99];
const EPSILON: f64 = 1e-8;

fn config(steps: u64) -> StepConfig {
    StepConfig { learning_rate: 0.02, gradient_scale: 0.5, weight_decay: 0.01, steps }
}

/// Which rule, and what stands for it in f64: value, gradient, two values of state, step.
type Plain = fn(f64, f64, &mut [f64; 2], u64) -> f64;

fn plain_adamax(value: f64, gradient: f64, [mean, largest]: &mut [f64; 2], steps: u64) -> f64 {
    let gradient = 0.5 * gradient + 0.01 * value;
    *mean = BETAS[0] * *mean + (1.0 - BETAS[0]) * gradient;
    *largest = (BETAS[1] * *largest).max(gradient.abs() + EPSILON);
    value - 0.02 / (1.0 - BETAS[0].powi(steps as i32)) * *mean / *largest
}

fn plain_adamw(value: f64, gradient: f64, [mean, square]: &mut [f64; 2], steps: u64) -> f64 {
    let gradient = 0.5 * gradient;
    *mean = BETAS[0] * *mean + (1.0 - BETAS[0]) * gradient;
    *square = BETAS[1] * *square + (1.0 - BETAS[1]) * gradient * gradient;
    let mean = *mean / (1.0 - BETAS[0].powi(steps as i32));
    let square = *square / (1.0 - BETAS[1].powi(steps as i32));
    value * (1.0 - 0.02 * 0.01) - 0.02 * mean / (square.sqrt() + EPSILON)
}

fn plain_nesterov(value: f64, gradient: f64, [sum, _]: &mut [f64; 2], _steps: u64) -> f64 {
    let gradient = 0.5 * gradient + 0.01 * value;
    *sum = 0.9 * *sum + gradient;
    value - 0.02 * (gradient + 0.9 * *sum)
}

fn plain_momentum(value: f64, gradient: f64, [sum, _]: &mut [f64; 2], _steps: u64) -> f64 {
    *sum = 0.9 * *sum + 0.5 * gradient + 0.01 * value;
    value - 0.02 * *sum
}

fn plain_descent(value: f64, gradient: f64, _: &mut [f64; 2], _steps: u64) -> f64 {
    value - 0.02 * (0.5 * gradient + 0.01 * value)
}

/// Takes one step by the name of its plain formula.
fn step(
    name: &str,
    parameter: &Tensor,
    gradient: &Tensor,
    [first, second]: &mut [Vec<f32>; 2],
    config: StepConfig,
) -> Result<()> {
    match name {
        "adamax" => adamax_step(parameter, gradient, [first, second], BETAS, EPSILON, config),
        "adamw" => adamw_step(parameter, gradient, [first, second], BETAS, EPSILON, config),
        "nesterov" => sgd_step(parameter, gradient, Some(first), 0.9, true, config),
        "momentum" => sgd_step(parameter, gradient, Some(first), 0.9, false, config),
        _ => sgd_step(parameter, gradient, None, 0.0, false, config),
    }
}

const RULES: [(&str, Plain); 5] = [
    ("adamax", plain_adamax),
    ("adamw", plain_adamw),
    ("nesterov", plain_nesterov),
    ("momentum", plain_momentum),
    ("descent", plain_descent),
];

/// The parameter after all steps, and its state.
fn path(name: &str, len: usize) -> Result<Vec<f32>> {
    let parameter = Var::from_tensor(&drawn(0, &[len])?)?;
    let mut state = [vec![0.0; len], vec![0.0; len]];
    for steps in 1..=N_STEPS {
        step(name, &parameter, &drawn(steps, &[len])?, &mut state, config(steps))?;
    }
    Ok([values(&parameter)?, state.concat()].concat())
}

#[test]
fn optimizer_steps_follow_their_formulas() -> Result<()> {
    for (name, plain) in RULES {
        for len in [1, 77, LEN] {
            let got = path(name, len)?;
            let gradients: Vec<Vec<f32>> = (1..=N_STEPS).map(|steps| draw(steps, len)).collect();
            for (i, initial) in draw(0, len).into_iter().enumerate() {
                let (mut value, mut state) = (f64::from(initial), [0.0; 2]);
                for (gradient, steps) in gradients.iter().zip(1..) {
                    value = plain(value, f64::from(gradient[i]), &mut state, steps);
                }
                for (what, got, expected) in [
                    ("value", got[i], value),
                    ("first state", got[len + i], state[0]),
                    ("second state", got[2 * len + i], state[1]),
                ] {
                    let difference = (f64::from(got) - expected).abs();
                    assert!(difference < ROUNDED, "{name}: {what} {i} is {got}, not {expected}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn optimizer_steps_have_the_same_bits_everywhere() {
    for (name, _) in RULES {
        same_everywhere(|| path(name, LEN));
    }
}

#[test]
fn optimizer_step_scales_the_gradient_as_if_it_came_so() -> Result<()> {
    for (name, _) in RULES {
        let moved = |gradient: Tensor, gradient_scale: f64| -> Result<Vec<f32>> {
            let parameter = Var::from_tensor(&drawn(0, &[3, 5])?)?;
            let mut state = [vec![0.0; 15], vec![0.0; 15]];
            let config = StepConfig { gradient_scale, ..config(1) };
            step(name, &parameter, &gradient, &mut state, config)?;
            values(&parameter)
        };
        let gradient = drawn(1, &[3, 5])?;
        assert_eq!(moved(gradient.clone(), 0.3)?, moved((&gradient * 0.3)?, 1.0)?, "{name}");
        let strided = gradient.t()?.contiguous()?.t()?;
        assert_eq!(moved(strided, 0.3)?, moved(gradient, 0.3)?, "{name}, strided gradient");
    }
    Ok(())
}

#[test]
fn optimizer_step_moves_all_that_share_the_parameter() -> Result<()> {
    let parameter = Var::new(&[1_f32, -1.0], &Device::Cpu)?;
    let (shared, copied) = (parameter.as_detached_tensor(), parameter.copy()?);
    let gradient = Tensor::new(&[4_f32, 8.0], &Device::Cpu)?;
    let config = StepConfig { learning_rate: 0.25, weight_decay: 0.0, ..config(1) };
    sgd_step(&parameter, &gradient, None, 0.0, false, config)?;
    assert_eq!(values(&shared)?, [0.5, -2.0]);
    assert_eq!(values(&copied)?, [1.0, -1.0]);
    Ok(())
}

#[test]
fn optimizer_step_refuses_what_does_not_fit_and_changes_nothing() -> Result<()> {
    let parameter = Var::from_tensor(&drawn(0, &[2, 3])?)?;
    let before = values(&parameter)?;
    let gradient = drawn(1, &[2, 3])?;
    let adamax = |parameter: &Tensor, gradient: &Tensor, len: usize| {
        let (mut mean, mut largest) = (vec![0.0; 6], vec![0.0; len]);
        let state = [mean.as_mut_slice(), largest.as_mut_slice()];
        refusal(adamax_step(parameter, gradient, state, BETAS, EPSILON, config(1)))
    };
    let message = adamax(&parameter, &gradient.t()?, 6);
    assert!(
        message.contains("adamax_step: gradient [3, 2] is not of the parameter's shape [2, 3]")
    );
    let message = adamax(&parameter, &gradient, 5);
    assert!(message.contains("adamax_step: a state of 5 values"), "{message}");
    assert!(adamax(&parameter, &gradient.to_dtype(DType::F64)?, 6).contains("expected f32"));
    assert!(adamax(&parameter, &parameter.as_detached_tensor(), 6).contains("shares storage"));
    let strided = drawn(2, &[3, 2])?.t()?;
    assert!(adamax(&strided, &gradient, 6).contains("expected a contiguous tensor"));
    let message = refusal(sgd_step(&parameter, &gradient, None, 0.9, true, config(1)));
    assert!(message.contains("momentum of 0.9"), "{message}");
    assert_eq!(values(&parameter)?, before);
    Ok(())
}

#[test]
fn gradient_norm_is_that_of_all_values_in_f64() -> Result<()> {
    let gradients = [drawn(1, &[LEN])?, drawn(2, &[3, 5])?.t()?, drawn(3, &[1])?];
    let mut sum = 0.0;
    for gradient in &gradients {
        sum += values(gradient)?.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    }
    let norm = gradient_norm(&gradients)?;
    assert!((norm / sum.sqrt() - 1.0).abs() < EXACT, "{norm}, expected {}", sum.sqrt());
    // Squares of f32 would overflow.
    let large = Tensor::new(&[3e30_f32, 4e30], &Device::Cpu)?;
    assert!((gradient_norm([&large])? / 5e30 - 1.0).abs() < f64::from(f32::EPSILON));
    assert_eq!(gradient_norm([])?, 0.0);
    assert!(gradient_norm([&Tensor::new(f32::NAN, &Device::Cpu)?])?.is_nan());
    same_everywhere(|| Ok(vec![gradient_norm(&gradients)? as f32]));
    let double = large.to_dtype(DType::F64)?;
    let message = refusal(gradient_norm([&double]));
    assert!(message.contains("gradient_norm: expected f32 on the CPU, got F64 [2]"), "{message}");
    Ok(())
}

#[test]
fn average_step_moves_the_average_alone() -> Result<()> {
    let value = drawn(1, &[LEN])?;
    let averaged = same_everywhere(|| {
        let mut average = draw(2, LEN);
        average_step(&mut average, &value, 0.75)?;
        Ok(average)
    });
    for ((got, value), average) in averaged.iter().zip(draw(1, LEN)).zip(draw(2, LEN)) {
        // Products with a quarter and three quarters; the sum is rounded.
        assert!((got - (0.75 * average + 0.25 * value)).abs() < f32::EPSILON);
    }
    let message = refusal(average_step(&mut [0.0; 2], &value, 0.5));
    assert!(message.contains("average_step: 2 values of average"), "{message}");
    let double = value.to_dtype(DType::F64)?;
    assert!(
        refusal(average_step(&mut [0.0; LEN], &double, 0.5)).contains("average_step: expected")
    );
    Ok(())
}

#[test]
fn average_step_follows_an_average_in_f64() -> Result<()> {
    // The last value does not change, and nor may an average that is there already.
    let value = Tensor::new(&[1.37_f32, -0.9, 0.7, 1.9], &Device::Cpu)?;
    let mut average = [0.25, 0.5, -1.1, 1.9];
    let mut expected = average.map(f64::from);
    for _ in 0..LONG_STEPS {
        average_step(&mut average, &value, LONG_DECAY)?;
        for (expected, value) in expected.iter_mut().zip(values(&value)?) {
            *expected = LONG_DECAY * *expected + (1.0 - LONG_DECAY) * f64::from(value);
        }
    }
    for (got, expected) in average.iter().zip(expected) {
        let difference = (f64::from(*got) - expected).abs();
        assert!(difference < AVERAGED, "{got}, not {expected}: off by {difference:e}");
    }
    assert_eq!(average[3], 1.9);
    Ok(())
}

#[test]
fn optimizer_steps_refuse_numbers_out_of_their_range() -> Result<()> {
    let parameter = Var::from_tensor(&drawn(0, &[6])?)?;
    let (before, gradient) = (values(&parameter)?, drawn(1, &[6])?);
    let valid = config(1);
    for (name, _) in RULES {
        let told = |config: StepConfig, expected: &str| {
            let mut state = [vec![0.0; 6], vec![0.0; 6]];
            let message = refusal(step(name, &parameter, &gradient, &mut state, config));
            assert!(message.contains("_step: ") && message.contains(expected), "{name}: {message}");
        };
        told(StepConfig { steps: 0, ..valid }, "steps count from 1");
        for wrong in [f64::NAN, f64::INFINITY, -0.1] {
            let of = |what: &str| format!("{what} {wrong} is not a number of 0 or above");
            told(StepConfig { learning_rate: wrong, ..valid }, &of("learning_rate"));
            told(StepConfig { weight_decay: wrong, ..valid }, &of("weight_decay"));
        }
        told(StepConfig { gradient_scale: f64::NAN, ..valid }, "gradient_scale NaN is not finite");
    }
    for (betas, epsilon, expected) in [
        ([1.0, 0.99], EPSILON, "beta 1 is not from 0 to below 1"),
        ([0.9, 1.5], EPSILON, "beta 1.5 is not from 0 to below 1"),
        ([-0.1, 0.99], EPSILON, "beta -0.1 is not from 0 to below 1"),
        ([0.9, f64::NAN], EPSILON, "beta NaN is not from 0 to below 1"),
        (BETAS, 0.0, "epsilon 0 is not above 0"),
        (BETAS, f64::NAN, "epsilon NaN is not above 0"),
    ] {
        for rule in [adamax_step, adamw_step] {
            let (mut first, mut second) = ([0.0; 6], [0.0; 6]);
            let state = [first.as_mut_slice(), second.as_mut_slice()];
            let message = refusal(rule(&parameter, &gradient, state, betas, epsilon, valid));
            assert!(message.contains(expected), "{message}");
        }
    }
    for momentum in [-0.5, 1.0, f64::NAN] {
        let mut sum = [0.0; 6];
        let stepped = sgd_step(&parameter, &gradient, Some(&mut sum), momentum, false, valid);
        let message = refusal(stepped);
        assert!(message.contains("sgd_step: momentum"), "{message}");
    }
    for decay in [-0.1, 1.1, f64::NAN] {
        let message = refusal(average_step(&mut [0.0; 6], &gradient, decay));
        assert!(message.contains(&format!("average_step: decay {decay} is not")), "{message}");
    }
    assert_eq!(values(&parameter)?, before);
    Ok(())
}
