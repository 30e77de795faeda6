//! The rules against plain formulas in f64 over several steps, and what they refuse.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::update::BLOCK;
use super::{
    GradientScale, Slot, StepConfig, StepItem, StepRule, clip_scale, gradient_norm, optimizer_step,
};
use crate::checks::{draw, drawn, refusal, same_everywhere, values};

/// Five steps of a few roundings to f32 each, of values around 1.
const ROUNDED: f64 = 3e-6;
/// Several blocks, the last one not full.
const LEN: usize = 2 * BLOCK + 77;
const N_STEPS: u64 = 5;
const BETAS: [f64; 2] = [0.9, 0.99];
const EPSILON: f64 = 1e-8;
const HALVED: GradientScale<'_> = GradientScale::Given(0.5);

fn config(steps: u64) -> StepConfig {
    StepConfig { learning_rate: 0.02, weight_decay: 0.01, steps }
}

/// What stands for a rule in f64: value, gradient, two values of state, step.
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

const DESCENT: StepRule = StepRule::Sgd { momentum: 0.0, nesterov: false };
const ADAMAX: StepRule = StepRule::Adamax { betas: BETAS, epsilon: EPSILON };
const RULES: [(StepRule, Plain); 5] = [
    (ADAMAX, plain_adamax),
    (StepRule::AdamW { betas: BETAS, epsilon: EPSILON }, plain_adamw),
    (StepRule::Sgd { momentum: 0.9, nesterov: true }, plain_nesterov),
    (StepRule::Sgd { momentum: 0.9, nesterov: false }, plain_momentum),
    (DESCENT, plain_descent),
];

/// As many slots of zeros as a rule has.
fn zeros(rule: StepRule, len: usize) -> Result<Vec<Slot>> {
    rule.slots().iter().map(|_| Slot::zeros(len, &Device::Cpu)).collect()
}

/// One step of one parameter.
fn step(
    rule: StepRule,
    config: StepConfig,
    scale: GradientScale<'_>,
    parameter: &Tensor,
    gradient: &Tensor,
    slots: &mut [Slot],
) -> Result<()> {
    optimizer_step(rule, config, scale, &mut [StepItem { parameter, gradient, slots }])
}

/// The values after all steps, and those of two slots, which are zero where a rule has fewer.
fn path(rule: StepRule, len: usize) -> Result<[Vec<f32>; 3]> {
    let parameter = Var::from_tensor(&drawn(0, &[len])?)?;
    let mut slots = zeros(rule, len)?;
    for steps in 1..=N_STEPS {
        let gradient = drawn(steps, &[len])?;
        step(rule, config(steps), HALVED, &parameter, &gradient, &mut slots)?;
    }
    let of_slot = |k: usize| match slots.get(k) {
        Some(slot) => values(&slot.to_tensor(len)?),
        None => Ok(vec![0.0; len]),
    };
    Ok([values(&parameter)?, of_slot(0)?, of_slot(1)?])
}

#[test]
fn optimizer_steps_follow_their_formulas() -> Result<()> {
    for (rule, plain) in RULES {
        for len in [1, 77, LEN] {
            let [got, first, second] = path(rule, len)?;
            let gradients: Vec<Vec<f32>> = (1..=N_STEPS).map(|steps| draw(steps, len)).collect();
            for (i, initial) in draw(0, len).into_iter().enumerate() {
                let (mut value, mut state) = (f64::from(initial), [0.0; 2]);
                for (gradient, steps) in gradients.iter().zip(1..) {
                    value = plain(value, f64::from(gradient[i]), &mut state, steps);
                }
                for (what, got, expected) in [
                    ("value", got[i], value),
                    ("first slot", first[i], state[0]),
                    ("second slot", second[i], state[1]),
                ] {
                    let difference = (f64::from(got) - expected).abs();
                    assert!(difference < ROUNDED, "{rule:?}: {what} {i} is {got}, not {expected}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn optimizer_steps_have_the_same_bits_everywhere() {
    for (rule, _) in RULES {
        same_everywhere(|| Ok(path(rule, LEN)?.concat()));
    }
}

#[test]
fn optimizer_step_of_many_is_that_of_each() -> Result<()> {
    let lengths = [3, LEN, 1];
    for (rule, _) in RULES {
        let drawn = |seed: u64| lengths.iter().map(move |len| drawn(seed, &[*len]));
        let (together, alone): (Vec<Tensor>, Vec<Tensor>) =
            (drawn(0).collect::<Result<_>>()?, drawn(0).collect::<Result<_>>()?);
        let gradients: Vec<Tensor> = drawn(1).collect::<Result<_>>()?;
        let slots = || lengths.iter().map(|&len| zeros(rule, len)).collect::<Result<Vec<_>>>();
        let mut of_all = slots()?;
        let each = together.iter().zip(&gradients).zip(&mut of_all);
        let mut items: Vec<StepItem<'_>> = each
            .map(|((parameter, gradient), slots)| StepItem { parameter, gradient, slots })
            .collect();
        optimizer_step(rule, config(1), HALVED, &mut items)?;
        for (((parameter, gradient), slots), together) in
            alone.iter().zip(&gradients).zip(&mut slots()?).zip(&together)
        {
            step(rule, config(1), HALVED, parameter, gradient, slots)?;
            assert_eq!(values(parameter)?, values(together)?, "{rule:?}");
        }
    }
    optimizer_step(ADAMAX, config(1), HALVED, &mut [])
}

#[test]
fn optimizer_step_scales_the_gradient_as_if_it_came_so() -> Result<()> {
    for (rule, _) in RULES {
        let moved = |gradient: &Tensor, scale: GradientScale<'_>| -> Result<Vec<f32>> {
            let parameter = Var::from_tensor(&drawn(0, &[3, 5])?)?;
            step(rule, config(1), scale, &parameter, gradient, &mut zeros(rule, 15)?)?;
            values(&parameter)
        };
        let (given, gradient) = (GradientScale::Given, drawn(1, &[3, 5])?);
        let expected = moved(&(&gradient * 0.3)?, given(1.0))?;
        assert_eq!(moved(&gradient, given(0.3))?, expected, "{rule:?}");
        let strided = gradient.t()?.contiguous()?.t()?;
        assert_eq!(moved(&strided, given(0.3))?, expected, "{rule:?}, strided gradient");

        // A norm that is twice the largest, and then a loss that was four times as large.
        let norm = gradient_norm([&gradient])?;
        let largest = norm.to_scalar::<f64>()? / 2.0;
        let by_norm = GradientScale::ByNorm { norm: &norm, largest, loss_scale: None };
        let clip = clip_scale(2.0 * largest, largest);
        let expected = moved(&gradient, given(clip))?;
        assert_eq!(moved(&gradient, by_norm)?, expected, "{rule:?}");
        let (scaled, loss_scale) = ((&gradient * 4.0)?, Tensor::new(4_f32, &Device::Cpu)?);
        let norm = gradient_norm([&scaled])?;
        let loss_scale = Some(&loss_scale);
        let by_norm = GradientScale::ByNorm { norm: &norm, largest, loss_scale };
        assert_eq!(moved(&scaled, by_norm)?, expected, "{rule:?}, with a scale of the loss");
    }
    Ok(())
}

#[test]
fn optimizer_step_changes_nothing_where_the_norm_is_not_finite() -> Result<()> {
    for (rule, _) in RULES {
        for infinite in [f32::INFINITY, f32::NAN] {
            let (parameter, mut slots) = (drawn(0, &[3])?, zeros(rule, 3)?);
            let gradient = Tensor::new(&[1.0, infinite, 2.0], &Device::Cpu)?;
            let norm = gradient_norm([&gradient])?;
            let by_norm = GradientScale::ByNorm { norm: &norm, largest: 1.0, loss_scale: None };
            step(rule, config(1), by_norm, &parameter, &gradient, &mut slots)?;
            assert_eq!(values(&parameter)?, draw(0, 3), "{rule:?}");
            for slot in slots {
                assert_eq!(values(&slot.to_tensor(3)?)?, [0.0; 3], "{rule:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn optimizer_step_moves_all_that_share_the_parameter() -> Result<()> {
    let parameter = Var::new(&[1_f32, -1.0], &Device::Cpu)?;
    let (shared, copied) = (parameter.as_detached_tensor(), parameter.copy()?);
    let gradient = Tensor::new(&[4_f32, 8.0], &Device::Cpu)?;
    let config = StepConfig { learning_rate: 0.25, weight_decay: 0.0, ..config(1) };
    step(DESCENT, config, HALVED, &parameter, &gradient, &mut [])?;
    assert_eq!(values(&shared)?, [0.5, -2.0]);
    assert_eq!(values(&copied)?, [1.0, -1.0]);
    Ok(())
}

#[test]
fn optimizer_step_refuses_what_does_not_fit_and_changes_nothing() -> Result<()> {
    let (first, parameter) = (drawn(0, &[2, 3])?, Var::from_tensor(&drawn(0, &[2, 3])?)?);
    let gradient = drawn(1, &[2, 3])?;
    // The first of two parameters fits.
    let told = |parameter: &Tensor, gradient: &Tensor, len: usize, expected: &str| -> Result<()> {
        let (mut of_first, mut of_second) = (zeros(ADAMAX, 6)?, zeros(ADAMAX, len)?);
        let mut items = [
            StepItem { parameter: &first, gradient: &drawn(1, &[2, 3])?, slots: &mut of_first },
            StepItem { parameter, gradient, slots: &mut of_second },
        ];
        let message = refusal(optimizer_step(ADAMAX, config(1), HALVED, &mut items));
        assert!(message.contains("optimizer_step: ") && message.contains(expected), "{message}");
        Ok(())
    };
    let wrong_shape = "gradient [3, 2] is not of the parameter's shape [2, 3]";
    told(&parameter, &gradient.t()?, 6, wrong_shape)?;
    told(&parameter, &gradient, 5, "a slot of 5 values does not fit [2, 3]")?;
    told(&parameter, &gradient.to_dtype(DType::F64)?, 6, "expected f32, got F64")?;
    told(&parameter, &parameter.as_detached_tensor(), 6, "shares storage")?;
    told(&drawn(2, &[3, 2])?.t()?, &gradient, 6, "expected a contiguous parameter")?;
    let message = refusal(step(ADAMAX, config(1), HALVED, &parameter, &gradient, &mut []));
    assert!(message.contains("[\"mean\", \"largest\"], got 0 slots"), "{message}");
    assert_eq!(values(&first)?, draw(0, 6));
    assert_eq!(values(&parameter)?, draw(0, 6));
    Ok(())
}

#[test]
fn optimizer_steps_refuse_numbers_out_of_their_range() -> Result<()> {
    let (parameter, gradient) = (drawn(0, &[6])?, drawn(1, &[6])?);
    let told = |rule, config, scale: GradientScale<'_>, expected: &str| -> Result<()> {
        let mut slots = zeros(rule, 6)?;
        let message = refusal(step(rule, config, scale, &parameter, &gradient, &mut slots));
        let is_told = message.contains("optimizer_step: ") && message.contains(expected);
        assert!(is_told, "{rule:?}: {message}");
        Ok(())
    };
    let valid = config(1);
    for (rule, _) in RULES {
        told(rule, StepConfig { steps: 0, ..valid }, HALVED, "steps count from 1")?;
        for wrong in [f64::NAN, f64::INFINITY, -0.1] {
            let of = |what: &str| format!("{what} {wrong} is not a number of 0 or above");
            let (rate, decay) = (of("learning_rate"), of("weight_decay"));
            told(rule, StepConfig { learning_rate: wrong, ..valid }, HALVED, &rate)?;
            told(rule, StepConfig { weight_decay: wrong, ..valid }, HALVED, &decay)?;
            let norm = Tensor::new(1_f64, &Device::Cpu)?;
            let scale = GradientScale::ByNorm { norm: &norm, largest: wrong, loss_scale: None };
            told(rule, valid, scale, &of("largest norm"))?;
        }
        told(rule, valid, GradientScale::Given(f64::NAN), "gradient_scale NaN is not finite")?;
        let norm = Tensor::new(1_f32, &Device::Cpu)?;
        let scale = GradientScale::ByNorm { norm: &norm, largest: 0.0, loss_scale: None };
        told(rule, valid, scale, "expected one F64 on the device of the parameters, got F32")?;
    }
    for (betas, epsilon, expected) in [
        ([1.0, 0.99], EPSILON, "beta 1 is not from 0 to below 1"),
        ([0.9, 1.5], EPSILON, "beta 1.5 is not from 0 to below 1"),
        ([-0.1, 0.99], EPSILON, "beta -0.1 is not from 0 to below 1"),
        ([0.9, f64::NAN], EPSILON, "beta NaN is not from 0 to below 1"),
        (BETAS, 0.0, "epsilon 0 is not above 0"),
        (BETAS, f64::NAN, "epsilon NaN is not above 0"),
    ] {
        told(StepRule::Adamax { betas, epsilon }, valid, HALVED, expected)?;
        told(StepRule::AdamW { betas, epsilon }, valid, HALVED, expected)?;
    }
    for momentum in [-0.5, 1.0, f64::NAN] {
        let expected = format!("momentum {momentum} is not from 0 to below 1");
        told(StepRule::Sgd { momentum, nesterov: false }, valid, HALVED, &expected)?;
    }
    assert_eq!(values(&parameter)?, draw(0, 6));
    Ok(())
}
