//! The linear maps of Winograd's F(4x4, 3x3) along one axis.
//!
//! A convolution with three taps is a product of polynomials, and a product of polynomials is a
//! product of their values: at 0, at the points +-a and +-b, and at infinity. Six multiplications
//! give four outputs where the plain form needs twelve.
//!
//! The usual points are +-1 and +-2. With +-3/4 and +-3/2 the rounding error is half of theirs on
//! average and less than a third at worst (256 channels), as the powers stay close to one, and
//! every constant but the weights' is exact in f32.

use pulp::Simd;

/// Points, and products and powers of them.
pub(super) const A: f32 = 0.75;
pub(super) const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
const A3: f32 = A * A * A;
const B3: f32 = B * B * B;
const A2_B2: f32 = A2 * B2;
const A2_PLUS_B2: f32 = A2 + B2;

/// Values of the weights' polynomials are divided by these: at 0, +-a, +-b.
pub(super) const SCALE_ZERO: f32 = 1.0 / A2_B2;
pub(super) const SCALE_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
pub(super) const SCALE_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// Six inputs to their values at the six points.
#[inline(always)]
pub(super) fn input<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let even_a = fma(simd, -B2, d[2], d[4]);
    let odd_a = fma(simd, -B2, d[1], d[3]);
    let even_b = fma(simd, -A2, d[2], d[4]);
    let odd_b = fma(simd, -A2, d[1], d[3]);
    [
        fma(simd, A2_B2, d[0], fma(simd, -A2_PLUS_B2, d[2], d[4])),
        fma(simd, A, odd_a, even_a),
        fma(simd, -A, odd_a, even_a),
        fma(simd, B, odd_b, even_b),
        fma(simd, -B, odd_b, even_b),
        fma(simd, A2_B2, d[1], fma(simd, -A2_PLUS_B2, d[3], d[5])),
    ]
}

/// Six products to the four outputs.
#[inline(always)]
pub(super) fn output<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let (sum_a, difference_a) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (sum_b, difference_b) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(sum_a, sum_b)),
        fma(simd, A, difference_a, scale(simd, B, difference_b)),
        fma(simd, A2, sum_a, scale(simd, B2, sum_b)),
        fma(simd, A3, difference_a, fma(simd, B3, difference_b, m[5])),
    ]
}

/// The transpose of [`output`]: the gradients of four outputs to those of the six products.
#[inline(always)]
pub(super) fn output_gradient<S: Simd>(simd: S, y: [S::f32s; 4]) -> [S::f32s; 6] {
    let (even_a, odd_a) = (fma(simd, A2, y[2], y[0]), fma(simd, A3, y[3], scale(simd, A, y[1])));
    let (even_b, odd_b) = (fma(simd, B2, y[2], y[0]), fma(simd, B3, y[3], scale(simd, B, y[1])));
    [
        y[0],
        simd.add_f32s(even_a, odd_a),
        simd.sub_f32s(even_a, odd_a),
        simd.add_f32s(even_b, odd_b),
        simd.sub_f32s(even_b, odd_b),
        y[3],
    ]
}

/// Three weights to their values at the six points.
#[inline(always)]
pub(super) fn weight<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let (even_a, odd_a) = (fma(simd, A2, g[2], g[0]), scale(simd, A, g[1]));
    let (even_b, odd_b) = (fma(simd, B2, g[2], g[0]), scale(simd, B, g[1]));
    [
        scale(simd, SCALE_ZERO, g[0]),
        scale(simd, SCALE_A, simd.add_f32s(even_a, odd_a)),
        scale(simd, SCALE_A, simd.sub_f32s(even_a, odd_a)),
        scale(simd, SCALE_B, simd.add_f32s(even_b, odd_b)),
        scale(simd, SCALE_B, simd.sub_f32s(even_b, odd_b)),
        g[2],
    ]
}

/// The transpose of [`weight`]: the gradients of six values to those of the three weights.
#[inline(always)]
pub(super) fn weight_gradient<S: Simd>(simd: S, u: [S::f32s; 6]) -> [S::f32s; 3] {
    let sum_a = scale(simd, SCALE_A, simd.add_f32s(u[1], u[2]));
    let difference_a = scale(simd, SCALE_A, simd.sub_f32s(u[1], u[2]));
    let sum_b = scale(simd, SCALE_B, simd.add_f32s(u[3], u[4]));
    let difference_b = scale(simd, SCALE_B, simd.sub_f32s(u[3], u[4]));
    [
        fma(simd, SCALE_ZERO, u[0], simd.add_f32s(sum_a, sum_b)),
        fma(simd, A, difference_a, scale(simd, B, difference_b)),
        fma(simd, A2, sum_a, fma(simd, B2, sum_b, u[5])),
    ]
}

/// `factor * values + added`.
#[inline(always)]
fn fma<S: Simd>(simd: S, factor: f32, values: S::f32s, added: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), values, added)
}

#[inline(always)]
fn scale<S: Simd>(simd: S, factor: f32, values: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), values)
}

/// Applies a map along both axes of a patch.
#[inline(always)]
pub(super) fn both_axes<V: Copy, const FROM: usize, const TO: usize>(
    patch: [[V; FROM]; FROM],
    zero: V,
    map: impl Fn([V; FROM]) -> [V; TO],
) -> [[V; TO]; TO] {
    // Plain loops: a closure handed to the standard library would not be compiled for the
    // processor's vector instructions.
    let mut columns = [[zero; TO]; FROM];
    for x in 0..FROM {
        let mut column = [zero; FROM];
        for y in 0..FROM {
            column[y] = patch[y][x];
        }
        columns[x] = map(column);
    }
    let mut out = [[zero; TO]; TO];
    for y in 0..TO {
        let mut row = [zero; FROM];
        for x in 0..FROM {
            row[x] = columns[x][y];
        }
        out[y] = map(row);
    }
    out
}
