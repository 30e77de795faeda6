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
static LOG2: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| (byte as f64 / 255.0).max(DARKEST).log2() as f32)
});

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
            for row in [&mut block.red, &mut block.green, &mut block.blue] {
                for value in row {
                    *value = (255.0 * exp2(*value)).clamp(0.0, 255.0);
                }
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
    let to_stains = DensityMap::to_jittered_stains(alpha, beta);
    let to_density = DensityMap::from_stains();
    let table = &*LOG2;
    let read = |byte| table[usize::from(byte)];
    let intensities = |block: &mut Block| {
        to_stains.apply_clamped(block);
        for (row, (alpha, beta)) in
            [&mut block.red, &mut block.green, &mut block.blue].into_iter().zip(alpha.into_iter().zip(beta))
        {
            for stain in row {
                *stain = alpha * *stain + beta;
            }
        }
        to_density.apply(block);
        for row in [&mut block.red, &mut block.green, &mut block.blue] {
            for value in row {
                *value = exp2(*value).clamp(0.0, 1.0);
            }
        }
    };
    let (mut low, mut high) = (1.0_f32, 0.0_f32);
    for_each_block(image, read, |block| {
        intensities(block);
        for row in [&block.red, &block.green, &block.blue] {
            low = row.iter().copied().fold(low, f32::min);
            high = row.iter().copied().fold(high, f32::max);
        }
    });
    let (offset, scale) = if high > low { (low, 255.0 / (high - low)) } else { (0.0, 255.0) };
    map_blocks(image, read, |block| {
        intensities(block);
        for row in [&mut block.red, &mut block.green, &mut block.blue] {
            for value in row {
                *value = ((*value - offset) * scale).clamp(0.0, 255.0).floor();
            }
        }
    });
}
