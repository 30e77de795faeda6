//! Jitter of the stains: hematoxylin, eosin and DAB by Beer and Lambert's law.
//!
//! A pixel's optical density is a sum of stains, `ln(rgb) = -c * (stains * RGB_FROM_HED)` with
//! `c = -ln(1e-6)` and rgb in `[1e-6, 1]`.

use image::RgbImage;
use s5cl_random::Stream;

use crate::block::{BLOCK, Block, for_each_block, map_blocks};
use crate::density::{DensityMap, LOG2, exp2};

/// How much of each stain a jitter leaves, and how much it adds: for hematoxylin, eosin and DAB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StainJitter {
    /// Scales the stains.
    pub alpha: [f32; 3],
    /// Is added to the scaled stains, in the units of [`jitter_stains`].
    pub beta: [f32; 3],
}

impl StainJitter {
    /// A random jitter; see [`crate::Transform::HedJitter`].
    pub(crate) fn draw(amount: f32, random: &mut Stream) -> Self {
        Self {
            alpha: [(); 3].map(|()| random.uniform_in(1.0 - amount, 1.0 + amount)),
            beta: [(); 3].map(|()| random.uniform_in(-amount, amount)),
        }
    }
}

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
/// mixture of the three even if nothing is jittered (pure red becomes black); here they stay as
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
    jitter_in_place(&mut image, &StainJitter { alpha, beta });
    image
}

/// [`jitter_stains`] on the image itself.
pub(crate) fn jitter_in_place(image: &mut RgbImage, jitter: &StainJitter) {
    let map = DensityMap::of_jitter(jitter);
    let table = &*LOG2;
    map_blocks(
        image,
        #[inline(always)]
        |byte| table[usize::from(byte)],
        #[inline(always)]
        |block| {
            map.apply(block);
            block.map(
                #[inline(always)]
                |value| (255.0 * exp2(value)).clamp(0.0, 255.0),
            );
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
    stretch_in_place(&mut image, &StainJitter { alpha, beta });
    image
}

/// [`jitter_stains_stretched`] on the image itself.
pub(crate) fn stretch_in_place(image: &mut RgbImage, jitter: &StainJitter) {
    let jitter = ClampedJitter {
        to_stains: DensityMap::to_stains(),
        to_densities: DensityMap::from_stains(),
        alpha: jitter.alpha,
        beta: jitter.beta,
    };
    let table = &*LOG2;
    // Eight of each, side by side, so that they are found eight at a time.
    let (mut lows, mut highs) = ([1.0_f32; 8], [0.0_f32; 8]);
    for_each_block(
        image,
        #[inline(always)]
        |byte| table[usize::from(byte)],
        #[inline(always)]
        |block| {
            jitter.apply(block);
            for i in 0..BLOCK {
                for value in [block.red[i], block.green[i], block.blue[i]] {
                    lows[i % 8] = if value < lows[i % 8] { value } else { lows[i % 8] };
                    highs[i % 8] = if value > highs[i % 8] { value } else { highs[i % 8] };
                }
            }
        },
    );
    let low = lows.into_iter().fold(1.0, f32::min);
    let high = highs.into_iter().fold(0.0, f32::max);
    let (from, scale) = if high > low { (low, 255.0 / (high - low)) } else { (0.0, 255.0) };
    map_blocks(
        image,
        #[inline(always)]
        |byte| table[usize::from(byte)],
        #[inline(always)]
        |block| {
            jitter.apply(block);
            block.map(
                #[inline(always)]
                |value| ((value - from) * scale).clamp(0.0, 255.0).floor(),
            );
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
        let rows = [&mut block.red, &mut block.green, &mut block.blue];
        for (row, (alpha, beta)) in rows.into_iter().zip(self.alpha.into_iter().zip(self.beta)) {
            for value in row {
                let stain = if *value > 0.0 { *value } else { 0.0 };
                *value = alpha * stain + beta;
            }
        }
        self.to_densities.apply(block);
        block.map(
            #[inline(always)]
            |value| exp2(value).clamp(0.0, 1.0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many_colors() -> RgbImage {
        RgbImage::from_fn(52 * 52, 52, |x, y| {
            image::Rgb([x % 52 * 5, x / 52 * 5, y * 5].map(|value| value as u8))
        })
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
