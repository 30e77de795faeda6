//! The arithmetic of optical densities: maps between logarithms of intensities and stains.
//!
//! Logarithms are to base 2. A jitter of stains is linear in the density, so the way to the stains
//! and back is one 3x3 matrix and an offset.

use std::sync::LazyLock;

use crate::block::{BLOCK, Block};
use crate::stain::StainJitter;

/// Rows hematoxylin, eosin, DAB; columns red, green, blue.
///
/// # Source
///
/// Ruifrok and Johnston, 2001; scikit-image's `rgb_from_hed`.
const RGB_FROM_HED: [[f64; 3]; 3] = [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]];
const HED_FROM_RGB: [[f64; 3]; 3] = inverse(RGB_FROM_HED);
/// The smallest intensity: black has a finite density, and a stain of 1 is this dark.
const DARKEST: f64 = 1e-6;

/// `log2` of a byte's intensity, not below that of [`DARKEST`].
pub(crate) static LOG2: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| (byte as f64 / 255.0).max(DARKEST).log2() as f32));

/// An affine map of three values: `output = matrix * input + offset`, for whoever computes stains
/// elsewhere.
///
/// Intensities are in `[1e-6, 1]`, a byte's is `byte / 255`, and their logarithms are to base 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DensityMap {
    /// Rows are for the output.
    pub matrix: [[f32; 3]; 3],
    /// Is added to the product.
    pub offset: [f32; 3],
}

impl DensityMap {
    /// From the base-2 logarithms of intensities to those after the jitter.
    #[must_use]
    pub fn of_jitter(jitter: &StainJitter) -> Self {
        let StainJitter { alpha, beta } = jitter;
        let entry = |to: usize, from: usize| -> f64 {
            let by_stain =
                |j: usize| HED_FROM_RGB[from][j] * f64::from(alpha[j]) * RGB_FROM_HED[j][to];
            (0..3).map(by_stain).sum()
        };
        let shift = |to: usize| -> f64 {
            (0..3).map(|j| DARKEST.log2() * f64::from(beta[j]) * RGB_FROM_HED[j][to]).sum()
        };
        Self::new(entry, shift)
    }

    /// From the base-2 logarithms of intensities to stains.
    #[must_use]
    pub fn to_stains() -> Self {
        Self::new(|to, from| HED_FROM_RGB[from][to] / DARKEST.log2(), |_| 0.0)
    }

    /// From stains to the base-2 logarithms of intensities.
    #[must_use]
    pub fn from_stains() -> Self {
        Self::new(|to, from| RGB_FROM_HED[from][to] * DARKEST.log2(), |_| 0.0)
    }

    fn new(entry: impl Fn(usize, usize) -> f64, shift: impl Fn(usize) -> f64) -> Self {
        Self {
            matrix: [0, 1, 2].map(|to| [0, 1, 2].map(|from| entry(to, from) as f32)),
            offset: [0, 1, 2].map(|to| shift(to) as f32),
        }
    }

    #[inline(always)]
    pub(crate) fn apply(&self, block: &mut Block) {
        for i in 0..BLOCK {
            let input = [block.red[i], block.green[i], block.blue[i]];
            let output = |to: usize| {
                let row = self.matrix[to];
                row[0] * input[0] + row[1] * input[1] + row[2] * input[2] + self.offset[to]
            };
            (block.red[i], block.green[i], block.blue[i]) = (output(0), output(1), output(2));
        }
    }
}

/// `2^x`, to a relative error of 4e-6, which is a thousandth of a grey level.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves a whole number in the low bits
    const COEFFICIENTS: [f32; 4] =
        [9.618_129e-3, 5.550_411e-2, 2.402_265e-1, std::f32::consts::LN_2];
    let x = x.clamp(-120.0, 120.0);
    let shifted = x + ROUND;
    let rest = x - (shifted - ROUND);
    let mut series = 1.333_355_8e-3;
    for coefficient in COEFFICIENTS {
        series = series * rest + coefficient;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    (series * rest + 1.0) * power
}

/// The inverse by cofactors.
const fn inverse(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let mut cofactors = [[0.0; 3]; 3];
    let mut row = 0;
    while row < 3 {
        let mut column = 0;
        while column < 3 {
            let (a, b) = ((row + 1) % 3, (row + 2) % 3);
            let (c, d) = ((column + 1) % 3, (column + 2) % 3);
            cofactors[row][column] = m[a][c] * m[b][d] - m[a][d] * m[b][c];
            column += 1;
        }
        row += 1;
    }
    let determinant =
        m[0][0] * cofactors[0][0] + m[0][1] * cofactors[0][1] + m[0][2] * cofactors[0][2];
    let mut inverse = [[0.0; 3]; 3];
    let mut row = 0;
    while row < 3 {
        let mut column = 0;
        while column < 3 {
            inverse[row][column] = cofactors[column][row] / determinant;
            column += 1;
        }
        row += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The series ends at the fifth power of a number up to ln(2) / 2.
    const EXP2_RELATIVE_ERROR: f64 = 4e-6;

    #[test]
    fn exp2_is_close_to_the_library() {
        for step in -30_000..=300 {
            let x = step as f32 / 1000.0;
            let exact = f64::from(x).exp2();
            let error = (f64::from(exp2(x)) / exact - 1.0).abs();
            assert!(error < EXP2_RELATIVE_ERROR, "{x}: {error}");
        }
    }

    #[test]
    fn matrix_times_inverse_is_one() {
        for (row, hed) in HED_FROM_RGB.iter().enumerate() {
            let product = [0, 1, 2].map(|column: usize| -> f64 {
                hed.iter().zip(RGB_FROM_HED).map(|(hed, rgb)| hed * rgb[column]).sum()
            });
            for (column, entry) in product.into_iter().enumerate() {
                assert!((entry - f64::from(row == column)).abs() < 1e-14);
            }
        }
    }
}
