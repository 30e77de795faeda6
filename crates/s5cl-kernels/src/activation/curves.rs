//! Values and slopes of activations, a vector register at a time.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use pulp::Simd;

use crate::exp2::exp2;

/// A function of one variable.
pub(super) trait Curve: Copy {
    fn value<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
    fn slope<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
}

/// `x * Phi(x)`.
#[derive(Clone, Copy)]
pub(super) struct Gelu;

/// `x * sigmoid(x)`.
#[derive(Clone, Copy)]
pub(super) struct Silu;

/// Abramowitz and Stegun, formula 7.1.26: the error function's complement is a polynomial of
/// `1 / (1 + ERF_SCALE * x)` times `exp(-x^2)`, to 1.5e-7. Highest power first; the constant is 0.
const ERF_SCALE: f32 = 0.327_591_1;
const ERF: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];

/// `1 / sqrt(2 pi)`.
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// The normal distribution's `Phi(x)`, and `exp(-x^2 / 2)`.
#[inline(always)]
fn normal<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let (zero, half, one) = (simd.splat_f32s(0.0), simd.splat_f32s(0.5), simd.splat_f32s(1.0));
    let square = simd.mul_f32s(x, x);
    let power = exp2(simd, simd.mul_f32s(square, simd.splat_f32s(-0.5 * LOG2_E)));
    let scale = simd.splat_f32s(ERF_SCALE * FRAC_1_SQRT_2);
    let t = simd.div_f32s(one, simd.mul_add_e_f32s(simd.abs_f32s(x), scale, one));
    let [first, rest @ ..] = ERF;
    let mut polynomial = simd.splat_f32s(first);
    for coefficient in rest {
        polynomial = simd.mul_add_e_f32s(polynomial, t, simd.splat_f32s(coefficient));
    }
    // Of the smaller side, which loses nothing to a difference.
    let tail = simd.mul_f32s(simd.mul_f32s(half, power), simd.mul_f32s(polynomial, t));
    let is_below = simd.less_than_f32s(x, zero);
    (simd.select_f32s(is_below, tail, simd.sub_f32s(one, tail)), power)
}

/// `1 / (1 + exp(-x))`; 0 where that is below f32's normal numbers, and NaN of NaN.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let largest = simd.splat_f32s(126.0);
    let exponent = simd.mul_f32s(x, simd.splat_f32s(-LOG2_E));
    let power = exp2(simd, simd.min_f32s(exponent, largest));
    let one = simd.splat_f32s(1.0);
    let gate = simd.div_f32s(one, simd.add_f32s(one, power));
    let gate = simd.select_f32s(simd.less_than_f32s(largest, exponent), simd.splat_f32s(0.0), gate);
    simd.select_f32s(simd.equal_f32s(x, x), gate, x)
}

impl Curve for Gelu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        simd.mul_f32s(x, normal(simd, x).0)
    }

    #[inline(always)]
    fn slope<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let (below, power) = normal(simd, x);
        let density = simd.mul_f32s(power, simd.splat_f32s(DENSITY_AT_ZERO));
        simd.mul_add_e_f32s(x, density, below)
    }
}

impl Curve for Silu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        simd.mul_f32s(x, sigmoid(simd, x))
    }

    #[inline(always)]
    fn slope<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let gate = sigmoid(simd, x);
        let one = simd.splat_f32s(1.0);
        let rest = simd.mul_f32s(x, simd.sub_f32s(one, gate));
        simd.mul_f32s(gate, simd.add_f32s(one, rest))
    }
}
