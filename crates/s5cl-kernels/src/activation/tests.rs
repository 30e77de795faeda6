//! Activations and gates against their formulas in f64.

use super::{Activation, gate_backward, gate_forward, gated_unit_backward, gated_unit_forward};
use crate::checks::{assert_within, draw};
use crate::simd::with_each_instruction_set;

/// The formula of the error function, some roundings, and values up to 20.
const ERROR: f64 = 2e-6;

/// An error function in f64, by its series and its continued fraction.
fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let mut fraction = 0.0;
    for n in (1..200).rev() {
        fraction = f64::from(n) / 2.0 / (x.abs() + fraction);
    }
    let complement = (-x * x).exp() / std::f64::consts::PI.sqrt() / (x.abs() + fraction);
    x.signum() * (1.0 - complement)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => x * 0.5 * (1.0 + erf(x / 2_f64.sqrt())),
        Activation::Silu => x * sigmoid(x),
    }
}

fn slope(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => {
            let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            0.5 * (1.0 + erf(x / 2_f64.sqrt())) + x * density
        }
        Activation::Silu => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

#[test]
fn activation_values_and_slopes_are_the_formulas() {
    let maps: Vec<f32> = (0..4001).map(|i| -20.0 + 0.01 * i as f32).collect();
    with_each_instruction_set(|| {
        for activation in [Activation::Gelu, Activation::Silu] {
            let mut out = vec![f32::NAN; maps.len()];
            activation.forward(&maps, &mut out);
            let expected: Vec<f64> = wide(&maps).iter().map(|&x| value(activation, x)).collect();
            assert_within(&format!("{activation:?}"), &out, &expected, ERROR);
            let mut in_place = maps.clone();
            activation.apply(&mut in_place);
            assert_eq!(in_place, out, "{activation:?}");
            let mut gradient = vec![-2.0; maps.len()];
            activation.backward(&maps, &mut gradient);
            let slopes = wide(&maps).into_iter().map(|x| -2.0 * slope(activation, x));
            let expected: Vec<f64> = slopes.collect();
            assert_within(&format!("{activation:?} slope"), &gradient, &expected, ERROR);
        }
    });
}

#[test]
fn activation_of_what_is_no_number_is_none() {
    for activation in [Activation::Gelu, Activation::Silu] {
        let mut out = [0.0; 3];
        activation.forward(&[f32::NAN, f32::INFINITY, 1e30], &mut out);
        assert!(out[0].is_nan(), "{activation:?}: {out:?}");
        assert_eq!(out[1..], [f32::INFINITY, 1e30], "{activation:?}");
        activation.forward(&[-1e30, -200.0, -f32::MAX], &mut out);
        assert_eq!(out, [0.0; 3], "{activation:?}");
    }
}

#[test]
fn gate_of_what_is_no_number_is_none() {
    with_each_instruction_set(|| {
        let mut out = [0.0; 4];
        let logits = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0];
        gate_forward(&[2.0; 4], &logits, &mut out, 4);
        assert!(out[0].is_nan(), "{out:?}");
        assert_eq!(out[1..], [0.0, 2.0, 1.0]);
    });
}

#[test]
fn gated_unit_is_the_formula() {
    let (rows, channels) = (5, 19);
    let maps: Vec<f32> = draw(1, rows * 2 * channels).into_iter().map(|x| 4.0 * x).collect();
    let above = draw(2, rows * channels);
    let (mut expected, mut expected_gradient) = (Vec::new(), vec![0.0; maps.len()]);
    for row in 0..rows {
        for c in 0..channels {
            let at = row * 2 * channels + c;
            let (a, b) = (f64::from(maps[at]), f64::from(maps[at + channels]));
            let above = f64::from(above[row * channels + c]);
            expected.push(value(Activation::Silu, a) * b);
            expected_gradient[at] = above * b * slope(Activation::Silu, a);
            expected_gradient[at + channels] = above * value(Activation::Silu, a);
        }
    }
    with_each_instruction_set(|| {
        let mut out = vec![f32::NAN; rows * channels];
        gated_unit_forward(&maps, &mut out, channels);
        assert_within("gated unit", &out, &expected, ERROR);
        let mut gradient = vec![f32::NAN; maps.len()];
        gated_unit_backward(&maps, &above, &mut gradient, channels);
        assert_within("gated unit's gradient", &gradient, &expected_gradient, ERROR);
    });
}

#[test]
fn gate_is_the_formula() {
    let (batch, pixels, channels) = (3, 7, 18);
    let (maps, above) = (draw(1, batch * pixels * channels), draw(2, batch * pixels * channels));
    let logits: Vec<f32> = draw(3, batch * channels).into_iter().map(|x| 5.0 * x).collect();
    let (mut expected, mut of_maps) = (Vec::new(), Vec::new());
    let mut of_logits = vec![0.0; logits.len()];
    for (i, (&x, &g)) in maps.iter().zip(&above).enumerate() {
        let at = i / (pixels * channels) * channels + i % channels;
        let gate = sigmoid(f64::from(logits[at]));
        let (x, g) = (f64::from(x), f64::from(g));
        expected.push(x * gate);
        of_maps.push(g * gate);
        of_logits[at] += g * x * gate * (1.0 - gate);
    }
    with_each_instruction_set(|| {
        let mut out = vec![f32::NAN; maps.len()];
        gate_forward(&maps, &logits, &mut out, channels);
        assert_within("gate", &out, &expected, ERROR);
        let (mut gradient, mut got) = (above.clone(), vec![f32::NAN; logits.len()]);
        gate_backward(&maps, &logits, &mut gradient, &mut got, channels);
        assert_within("gate's gradient", &gradient, &of_maps, ERROR);
        assert_within("gate's logits", &got, &of_logits, ERROR);
    });
}
