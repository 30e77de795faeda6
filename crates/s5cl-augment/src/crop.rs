//! A part of the image, scaled to a size.

use std::f32::consts::LN_2;

use image::RgbImage;
use s5cl_random::Stream;

use crate::resize::resize;

/// Smallest and largest aspect ratio (width / height) of a random part.
const RATIOS: [f32; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// The logarithm of 4/3, as `2 * ln(2) - ln(3)`.
const LOG_RATIO: f32 = 2.0 * LN_2 - 1.098_612_3;
const N_CANDIDATES: usize = 10;

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Column of the first pixel.
    pub left: u32,
    /// Row of the first pixel.
    pub top: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Region {
    /// A random part of an image; see [`crate::Transform::RandomResizedCrop`].
    pub(crate) fn draw(size: (u32, u32), areas: [f32; 2], random: &mut Stream) -> Self {
        let (width, height) = size;
        let area = width as f32 * height as f32;
        let mut chosen = None;
        for _ in 0..N_CANDIDATES {
            let target = area * random.uniform_in(areas[0], areas[1]);
            let ratio = random.uniform_in(-LOG_RATIO, LOG_RATIO).exp();
            let candidate =
                ((target * ratio).sqrt().round() as u32, (target / ratio).sqrt().round() as u32);
            let fits = (1..=width).contains(&candidate.0) && (1..=height).contains(&candidate.1);
            if fits && chosen.is_none() {
                chosen = Some(candidate);
            }
        }
        let (part_width, part_height) = chosen.unwrap_or_else(|| largest_in_ratio(width, height));
        let (free_width, free_height) = (width - part_width, height - part_height);
        let top = random.below(free_height as usize + 1) as u32;
        let left = random.below(free_width as usize + 1) as u32;
        let (left, top) =
            if chosen.is_some() { (left, top) } else { (free_width / 2, free_height / 2) };
        Self { left, top, width: part_width, height: part_height }
    }
}

/// The size of the largest part whose aspect ratio is in range.
fn largest_in_ratio(width: u32, height: u32) -> (u32, u32) {
    let ratio = width as f32 / height as f32;
    if ratio < RATIOS[0] {
        (width, ((width as f32 / RATIOS[0]).round() as u32).min(height))
    } else if ratio > RATIOS[1] {
        (((height as f32 * RATIOS[1]).round() as u32).min(width), height)
    } else {
        (width, height)
    }
}

/// A part of an image scaled to `width` times `height` pixels: bilinear, and antialiased where it
/// shrinks. No pixel outside the part has any influence.
///
/// # Panics
///
/// If the region is empty or not inside the image, or the size is not above 0.
///
/// # Source
///
/// torchvision's `resized_crop` on a Pillow image, equal bit for bit
/// (`golden_crop_equals_torchvision`); within 1 level where a part shrinks along both axes.
///
/// # Example
///
/// ```
/// use image::{Rgb, RgbImage};
/// use s5cl_augment::{Region, resized_crop};
///
/// let tile = RgbImage::from_pixel(8, 8, Rgb([170, 90, 150]));
/// let part = Region { left: 2, top: 1, width: 4, height: 5 };
/// assert_eq!(resized_crop(&tile, part, (8, 8)), tile);
/// ```
#[must_use]
pub fn resized_crop(image: &RgbImage, region: Region, size: (u32, u32)) -> RgbImage {
    let Region { left, top, width, height } = region;
    let fits =
        |start: u32, length: u32, all: u32| length > 0 && start < all && length <= all - start;
    assert!(
        fits(left, width, image.width()) && fits(top, height, image.height()),
        "{region:?} is empty or not inside {:?}",
        image.dimensions()
    );
    assert!(size.0 > 0 && size.1 > 0, "a crop of {region:?} scaled to {size:?}");
    let mut output = RgbImage::new(size.0, size.1);
    let [left, width, height] = [left, width, height].map(|value| value as usize);
    let rows = image.chunks_exact(3 * image.width() as usize).skip(top as usize).take(height);
    let rows: Vec<&[u8]> = rows.map(|row| &row[3 * left..3 * (left + width)]).collect();
    resize(&rows, &mut output, (size.0 as usize, size.1 as usize));
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use s5cl_random::stream;

    fn regions(size: (u32, u32), areas: [f32; 2]) -> impl Iterator<Item = Region> {
        (0..2000).map(move |sample| Region::draw(size, areas, &mut stream(0, 0, sample, 1)))
    }

    #[test]
    fn region_stays_inside_and_in_range() {
        let mut mean_area = 0.0;
        for region in regions((224, 224), [0.08, 1.0]) {
            assert!(region.left + region.width <= 224 && region.top + region.height <= 224);
            let ratio = region.width as f32 / region.height as f32;
            // Sides are whole: a ratio is off by at most a pixel in the smallest side, about 55.
            assert!((0.73..1.37).contains(&ratio), "{region:?}");
            mean_area += (region.width * region.height) as f32 / (224.0 * 224.0 * 2000.0);
        }
        // Uniform in [0.08, 1] has mean 0.54; large parts that do not fit are drawn again.
        assert!((0.47..0.55).contains(&mean_area), "{mean_area}");
    }

    #[test]
    fn region_of_a_whole_image_is_the_image() {
        for region in regions((32, 32), [1.0, 1.0]) {
            // A ratio within a pixel of 1 fits, any other falls back to the whole image.
            assert!(region.width >= 31 && region.height >= 31, "{region:?}");
        }
    }

    #[test]
    fn region_of_a_strip_falls_back_to_its_middle() {
        let strip = Region::draw((100, 8), [1.0, 1.0], &mut stream(0, 0, 0, 1));
        assert_eq!(strip, Region { left: 44, top: 0, width: 11, height: 8 });
        let strip = Region::draw((6, 100), [1.0, 1.0], &mut stream(0, 0, 0, 1));
        assert_eq!(strip, Region { left: 0, top: 46, width: 6, height: 8 });
        assert!(
            regions((1, 1), [0.08, 1.0])
                .all(|r| r == Region { left: 0, top: 0, width: 1, height: 1 })
        );
    }

    #[test]
    fn region_takes_the_same_number_of_draws() {
        let mut fits = stream(0, 0, 0, 1);
        let mut falls_back = fits.clone();
        let _ = Region::draw((64, 64), [0.08, 0.2], &mut fits);
        let _ = Region::draw((64, 4), [1.0, 1.0], &mut falls_back);
        assert_eq!(fits.next_u64(), falls_back.next_u64());
    }

    #[test]
    fn resized_crop_of_everything_is_the_identity() {
        let image = RgbImage::from_fn(17, 9, |x, y| image::Rgb([x as u8 * 15, y as u8 * 28, 7]));
        let whole = Region { left: 0, top: 0, width: 17, height: 9 };
        assert_eq!(resized_crop(&image, whole, (17, 9)), image);
    }

    #[test]
    #[should_panic(expected = "not inside (17, 9)")]
    fn resized_crop_refuses_a_region_outside() {
        let region = Region { left: 10, top: 0, width: u32::MAX, height: 9 };
        let _ = resized_crop(&RgbImage::new(17, 9), region, (17, 9));
    }

    #[test]
    fn resized_crop_sees_nothing_outside() {
        let mut image = RgbImage::from_pixel(20, 20, image::Rgb([255; 3]));
        for pixel in (5..15).flat_map(|x| (5..15).map(move |y| (x, y))) {
            image.put_pixel(pixel.0, pixel.1, image::Rgb([10, 20, 30]));
        }
        let part = Region { left: 5, top: 5, width: 10, height: 10 };
        for size in [(20, 20), (3, 4), (33, 7)] {
            assert!(resized_crop(&image, part, size).pixels().all(|pixel| pixel.0 == [10, 20, 30]));
        }
    }
}
