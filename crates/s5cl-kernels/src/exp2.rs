//! Powers of two of a whole vector register.

use pulp::Simd;

/// Below this exponent a power is 0: there are no normal f32 numbers left.
pub(crate) const SMALLEST_EXPONENT: f32 = -127.0;
/// `1.5 * 2^23`: added to a number of moderate size, it leaves the nearest integer in the lowest
/// bits.
const ROUND: f32 = 12_582_912.0;
/// Minimax polynomial of `2^f` for `f` in `[-0.5, 0.5]`, highest power first. The last one is
/// exactly 1, which makes the result at [`SMALLEST_EXPONENT`] exactly 0.
const COEFFICIENTS: [f32; 7] = [
    1.535_336e-4,
    1.339_887_5e-3,
    9.618_437e-3,
    5.550_332_4e-2,
    2.402_264_8e-1,
    std::f32::consts::LN_2,
    1.0,
];

/// `2^x` for each `x` up to 127, with a relative error of about 1e-7.
///
/// At and below [`SMALLEST_EXPONENT`] the result is exactly 0; between there and -126 it is
/// below f32's normal numbers and not exact. The result for NaN is unspecified.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let round = simd.splat_f32s(ROUND);
    let x = simd.max_f32s(x, simd.splat_f32s(SMALLEST_EXPONENT));
    let shifted = simd.add_f32s(x, round);
    let fraction = simd.sub_f32s(x, simd.sub_f32s(shifted, round));
    let [first, rest @ ..] = COEFFICIENTS;
    let mut power = simd.splat_f32s(first);
    for coefficient in rest {
        power = simd.mul_add_e_f32s(power, fraction, simd.splat_f32s(coefficient));
    }
    // The integer part moves into the exponent bits; what lies above it falls off.
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(power), exponent))
}

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::{SMALLEST_EXPONENT, exp2};
    use crate::simd::{dispatch, with_each_instruction_set};

    /// One rounding of the polynomial and one of each of its last steps.
    const RELATIVE: f64 = 1.5e-7;

    struct Exp2(Vec<f32>);

    impl WithSimd for Exp2 {
        type Output = Vec<f32>;

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, simd: S) -> Vec<f32> {
            let (vectors, _) = S::as_mut_simd_f32s(&mut self.0);
            vectors.iter_mut().for_each(|x| *x = exp2(simd, *x));
            self.0
        }
    }

    #[test]
    fn exp2_is_the_power_to_f32_precision() {
        let exponents: Vec<f32> =
            (0..1 << 16).map(|i| -126.0 + i as f32 * (253.0 / 65536.0)).collect();
        with_each_instruction_set(|| {
            let powers = dispatch(Exp2(exponents.clone()));
            for (&x, &power) in exponents.iter().zip(&powers) {
                let expected = f64::from(x).exp2();
                let error = (f64::from(power) / expected - 1.0).abs();
                assert!(error < RELATIVE, "2^{x}: {power} is off by {error}");
            }
        });
    }

    #[test]
    fn exp2_far_below_is_exactly_zero_and_whole_powers_are_exact() {
        with_each_instruction_set(|| {
            let far = [SMALLEST_EXPONENT, -128.0, -1e4, -1e30, f32::NEG_INFINITY];
            let powers = dispatch(Exp2([far.as_slice(), &[0.0; 11]].concat()));
            assert_eq!(powers, [[0.0; 5].as_slice(), &[1.0; 11]].concat());
            let whole: Vec<f32> = (-8..8).map(|n| n as f32).collect();
            let expected: Vec<f32> = whole.iter().map(|n| n.exp2()).collect();
            assert_eq!(dispatch(Exp2(whole)), expected);
        });
    }
}
