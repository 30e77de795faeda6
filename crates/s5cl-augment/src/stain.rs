//! Jitter of the stains: hematoxylin, eosin and DAB by Beer and Lambert's law.
//!
//! A pixel's optical density is a sum of stains, `ln(rgb) = -c * (stains * RGB_FROM_HED)` with
//! `c = -ln(1e-6)`, rgb in `[1e-6, 1]`. A jitter `stains * alpha + beta` is linear in the density,
//! so the way there and back is one 3x3 matrix and an offset.

use std::sync::LazyLock;

use image::RgbImage;

use crate::block::{BLOCK, Block, for_each_block, map_blocks};

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
static LOG2: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| (byte as f64 / 255.0).max(DARKEST).log2() as f32));

/// Scales the stains of every pixel by `alpha` and adds `beta`, for hematoxylin, eosin and DAB.
///
/// `beta` is in scikit-image's units: a stain of 1 darkens by a factor of a million, and a dark
/// nucleus has about 0.1. Intensities are clipped to `[0, 1]` and rounded to the nearest level;
/// `alpha = 1`, `beta = 0` gives back every image bit for bit.
///
/// # Source
///
/// scikit-image's `rgb2hed`, the jitter of Tellez et al. 2018 (arXiv 1808.05883, section III-A),
/// `hed2rgb`. Deviation: `rgb2hed` sets negative stains to 0, which changes a color that is no
/// mixture of the three even if nothing is jittered (a pure red by 100 levels); here they stay as
/// they are. Colors that are mixtures agree within 1 grey level (`golden_stains_*`).
///
/// # Example
///
/// ```
/// use image::{Rgb, RgbImage};
/// use s5cl_augment::jitter_stains;
///
/// let tile = RgbImage::from_pixel(8, 8, Rgb([170, 90, 150]));
/// let more_eosin = jitter_stains(&tile, [1.0, 1.2, 1.0], [0.0; 3]);
/// assert!(more_eosin.get_pixel(0, 0)[1] < 90);
/// ```
#[must_use]
pub fn jitter_stains(image: &RgbImage, alpha: [f32; 3], beta: [f32; 3]) -> RgbImage {
    let mut image = image.clone();
    jitter_in_place(&mut image, alpha, beta);
    image
}

/// [`jitter_stains`] on the image itself.
pub(crate) fn jitter_in_place(image: &mut RgbImage, alpha: [f32; 3], beta: [f32; 3]) {
    let map = DensityMap::of_jitter(alpha, beta);
    let table = &*LOG2;
    map_blocks(
        image,
        #[inline(always)]
        |byte| table[usize::from(byte)],
        #[inline(always)]
        |block| {
            map.apply(block);
            for value in block.rows().into_iter().flatten() {
                *value = (255.0 * exp2(*value)).clamp(0.0, 255.0);
            }
        },
    );
}

/// The jitter of the published S5CL code: negative stains are set to 0, and the result is
/// stretched so that its smallest intensity becomes 0 and its largest 255, rounded down.
///
/// # Source
///
/// The authors' `HEDJitter`, with scikit-image's `rgb2hed` and `hed2rgb`. Deviation: an image of
/// one single intensity, for which theirs divides zero by zero, is not stretched.
#[must_use]
pub fn jitter_stains_stretched(image: &RgbImage, alpha: [f32; 3], beta: [f32; 3]) -> RgbImage {
    let mut image = image.clone();
    stretch_in_place(&mut image, alpha, beta);
    image
}

/// [`jitter_stains_stretched`] on the image itself.
pub(crate) fn stretch_in_place(image: &mut RgbImage, alpha: [f32; 3], beta: [f32; 3]) {
    let jitter = ClampedJitter {
        to_stains: DensityMap::to_stains(),
        to_densities: DensityMap::from_stains(),
        alpha,
        beta,
    };
    let table = &*LOG2;
    let (mut low, mut high) = (1.0_f32, 0.0_f32);
    for_each_block(
        image,
        #[inline(always)]
        |byte| table[usize::from(byte)],
        #[inline(always)]
        |block| {
            jitter.apply(block);
            for value in block.rows().into_iter().flatten() {
                low = low.min(*value);
                high = high.max(*value);
            }
        },
    );
    let (from, scale) = if high > low { (low, 255.0 / (high - low)) } else { (0.0, 255.0) };
    map_blocks(
        image,
        #[inline(always)]
        |byte| table[usize::from(byte)],
        #[inline(always)]
        |block| {
            jitter.apply(block);
            for value in block.rows().into_iter().flatten() {
                *value = ((*value - from) * scale).clamp(0.0, 255.0).floor();
            }
        },
    );
}

/// A jitter of stains that are not below 0.
struct ClampedJitter {
    to_stains: DensityMap,
    to_densities: DensityMap,
    alpha: [f32; 3],
    beta: [f32; 3],
}

impl ClampedJitter {
    /// From the base-2 logarithms of intensities to intensities in `[0, 1]`.
    #[inline(always)]
    fn apply(&self, block: &mut Block) {
        self.to_stains.apply(block);
        for (stain, row) in block.rows().into_iter().enumerate() {
            for value in row {
                *value = self.alpha[stain] * value.max(0.0) + self.beta[stain];
            }
        }
        self.to_densities.apply(block);
        for value in block.rows().into_iter().flatten() {
            *value = exp2(*value).clamp(0.0, 1.0);
        }
    }
}

/// An affine map of three values: `output = matrix * input + offset`.
struct DensityMap {
    matrix: [[f32; 3]; 3],
    offset: [f32; 3],
}

impl DensityMap {
    /// From the base-2 logarithms of intensities to those after the jitter.
    fn of_jitter(alpha: [f32; 3], beta: [f32; 3]) -> Self {
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
    fn to_stains() -> Self {
        Self::new(|to, from| HED_FROM_RGB[from][to] / DARKEST.log2(), |_| 0.0)
    }

    /// From stains to the base-2 logarithms of intensities.
    fn from_stains() -> Self {
        Self::new(|to, from| RGB_FROM_HED[from][to] * DARKEST.log2(), |_| 0.0)
    }

    fn new(entry: impl Fn(usize, usize) -> f64, shift: impl Fn(usize) -> f64) -> Self {
        Self {
            matrix: [0, 1, 2].map(|to| [0, 1, 2].map(|from| entry(to, from) as f32)),
            offset: [0, 1, 2].map(|to| shift(to) as f32),
        }
    }

    #[inline(always)]
    fn apply(&self, block: &mut Block) {
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

/// `2^x`, to a relative error of 3e-6, which is a thousandth of a grey level.
#[inline(always)]
fn exp2(x: f32) -> f32 {
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
    const EXP2_RELATIVE_ERROR: f64 = 3e-6;

    fn many_colors() -> RgbImage {
        RgbImage::from_fn(52 * 52, 52, |x, y| {
            image::Rgb([x % 52 * 5, x / 52 * 5, y * 5].map(|value| value as u8))
        })
    }

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
            for column in 0..3 {
                let entry: f64 = (0..3).map(|j| hed[j] * RGB_FROM_HED[j][column]).sum();
                assert!((entry - f64::from(row == column)).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn jitter_by_nothing_is_the_identity() {
        let colors = many_colors();
        assert_eq!(jitter_stains(&colors, [1.0; 3], [0.0; 3]), colors);
    }

    #[test]
    fn jitter_and_its_inverse_give_the_image_back() {
        // Twice rounded to a byte, in colors that stay inside [0, 255].
        let tolerance = 2;
        let colors =
            RgbImage::from_fn(40, 40, |x, y| image::Rgb([120 + x as u8, 80 + y as u8, 130]));
        let (alpha, beta) = ([1.04_f32, 0.97, 1.02], [0.003_f32, -0.002, 0.001]);
        let inverse: [usize; 3] = [0, 1, 2];
        let there = jitter_stains(&colors, alpha, beta);
        assert_ne!(there, colors);
        let back = jitter_stains(
            &there,
            inverse.map(|j| 1.0 / alpha[j]),
            inverse.map(|j| -beta[j] / alpha[j]),
        );
        assert!(back.iter().zip(colors.iter()).all(|(a, b)| a.abs_diff(*b) <= tolerance));
    }

    #[test]
    fn stretch_fills_the_range_and_leaves_flat_images() {
        let colors =
            RgbImage::from_fn(40, 40, |x, y| image::Rgb([120 + x as u8, 80 + y as u8, 130]));
        let stretched = jitter_stains_stretched(&colors, [1.0; 3], [0.0; 3]);
        assert_eq!((stretched.iter().min(), stretched.iter().max()), (Some(&0), Some(&255)));
        let white = RgbImage::from_pixel(9, 9, image::Rgb([255; 3]));
        assert_eq!(jitter_stains_stretched(&white, [1.0; 3], [0.0; 3]), white);
    }
}
