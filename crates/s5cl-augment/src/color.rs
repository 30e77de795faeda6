//! Brightness, contrast, saturation and hue, with the results of Pillow on 8-bit images.
//!
//! Every step ends in whole grey levels, as it does in torchvision on a Pillow image; the steps
//! of one jitter still share a pass over the pixels, and only the contrast, which needs the mean
//! of what came before it, starts a second one.

use image::RgbImage;

use crate::block::{BLOCK, Block, for_each_block, map_blocks};
use crate::plan::Adjustment;

/// Scales every value by a factor of at least 0, rounded down and clipped: 0 is black, 1 the image.
///
/// # Source
///
/// torchvision's `adjust_brightness` on a Pillow image, equal bit for bit.
#[must_use]
pub fn adjust_brightness(image: &RgbImage, factor: f32) -> RgbImage {
    adjusted(image, Adjustment::Brightness(factor))
}

/// Moves every value away from the image's mean grey level by a factor of at least 0: 0 is flat
/// grey, 1 the image.
///
/// # Source
///
/// torchvision's `adjust_contrast` on a Pillow image, equal bit for bit.
#[must_use]
pub fn adjust_contrast(image: &RgbImage, factor: f32) -> RgbImage {
    adjusted(image, Adjustment::Contrast(factor))
}

/// Moves every pixel away from its own grey level by a factor of at least 0: 0 is grey, 1 the
/// image.
///
/// # Source
///
/// torchvision's `adjust_saturation` on a Pillow image, equal bit for bit.
#[must_use]
pub fn adjust_saturation(image: &RgbImage, factor: f32) -> RgbImage {
    adjusted(image, Adjustment::Saturation(factor))
}

/// Turns the hue by a share of the circle in `[-0.5, 0.5]`, in whole steps of 1/255 (towards 0).
///
/// # Source
///
/// torchvision's `adjust_hue` on a Pillow image, whose hue and saturation are whole bytes, so
/// that a turn also rounds the colors by a few grey levels. Deviation: a turn of less than a step
/// gives the image back, where torchvision still rounds (`adjust_hue_by_less_than_a_step_is_the_
/// identity`).
#[must_use]
pub fn adjust_hue(image: &RgbImage, turn: f32) -> RgbImage {
    adjusted(image, Adjustment::Hue(turn))
}

/// The pixel-wise part of an adjustment.
#[derive(Clone, Copy)]
enum Step {
    /// Away from one grey level: black for brightness, the mean for contrast.
    Blend {
        from: f32,
        factor: f32,
    },
    Saturate(f32),
    /// In bytes, 1 to 255.
    TurnHue(f32),
}

fn adjusted(image: &RgbImage, adjustment: Adjustment) -> RgbImage {
    let mut image = image.clone();
    adjust(&mut image, &[adjustment]);
    image
}

/// Applies the adjustments one after another.
pub(crate) fn adjust(image: &mut RgbImage, adjustments: &[Adjustment]) {
    let mut steps = Vec::with_capacity(adjustments.len());
    for adjustment in adjustments {
        match *adjustment {
            Adjustment::Brightness(factor) => steps.push(Step::Blend { from: 0.0, factor }),
            Adjustment::Saturation(factor) => steps.push(Step::Saturate(factor)),
            Adjustment::Hue(turn) => {
                // Negative turns wrap around in the byte, as they do in torchvision.
                let shift = (turn * 255.0) as i32 as u8;
                if shift != 0 {
                    steps.push(Step::TurnHue(f32::from(shift)));
                }
            }
            Adjustment::Contrast(factor) => {
                run(image, &steps);
                steps.clear();
                steps.push(Step::Blend { from: mean_gray(image), factor });
            }
        }
    }
    run(image, &steps);
}

fn run(image: &mut RgbImage, steps: &[Step]) {
    if steps.is_empty() {
        return;
    }
    map_blocks(
        image,
        f32::from,
        #[inline(always)]
        |block| {
            for step in steps {
                match *step {
                    Step::Blend { from, factor } => blend(block, from, factor),
                    Step::Saturate(factor) => saturate(block, factor),
                    Step::TurnHue(shift) => turn_hue(block, shift),
                }
            }
        },
    );
}

/// The mean of the pixels' grey levels, to the nearest whole level.
fn mean_gray(image: &RgbImage) -> f32 {
    let n_pixels = u64::from(image.width()) * u64::from(image.height());
    let mut sum = 0.0_f64;
    let mut last = 0.0_f32;
    let mut n_visited = 0_u64;
    for_each_block(
        image,
        f32::from,
        #[inline(always)]
        |block| {
            let mut grays = [0.0_f32; BLOCK];
            let colors = block.red.iter().zip(&block.green).zip(&block.blue);
            for (gray, ((red, green), blue)) in grays.iter_mut().zip(colors) {
                *gray = gray_level(*red, *green, *blue);
            }
            let mut partial = [0.0_f32; 8];
            for eight in grays.as_chunks::<8>().0 {
                for (partial, gray) in partial.iter_mut().zip(eight) {
                    *partial += gray;
                }
            }
            sum += f64::from(partial.iter().sum::<f32>());
            last = grays[BLOCK - 1];
            n_visited += BLOCK as u64;
        },
    );
    // The last block was filled up with copies of the last pixel. All sums are whole numbers.
    let sum = sum - (n_visited - n_pixels) as f64 * f64::from(last);
    (sum / n_pixels as f64 + 0.5).floor() as f32
}

/// Pillow's grey level: ITU-R 601 weights in units of 2^-16, rounded.
#[inline(always)]
fn gray_level(red: f32, green: f32, blue: f32) -> f32 {
    // Whole numbers below 2^24: exact in f32.
    let sum = red * 19_595.0 + green * 38_470.0 + blue * 7_471.0 + 32_768.0;
    (sum * (1.0 / 65_536.0)).floor()
}

#[inline(always)]
fn mix(from: f32, value: f32, factor: f32) -> f32 {
    (from + factor * (value - from)).clamp(0.0, 255.0).floor()
}

#[inline(always)]
fn blend(block: &mut Block, from: f32, factor: f32) {
    block.map(
        #[inline(always)]
        |value| mix(from, value, factor),
    );
}

#[inline(always)]
fn saturate(block: &mut Block, factor: f32) {
    for i in 0..BLOCK {
        let (red, green, blue) = (block.red[i], block.green[i], block.blue[i]);
        let gray = gray_level(red, green, blue);
        block.red[i] = mix(gray, red, factor);
        block.green[i] = mix(gray, green, factor);
        block.blue[i] = mix(gray, blue, factor);
    }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// To bytes of hue and saturation, the hue turned, and back.
#[inline(always)]
fn turn_hue(block: &mut Block, shift: f32) {
    for i in 0..BLOCK {
        let (red, green, blue) = (block.red[i], block.green[i], block.blue[i]);
        let value = larger(red, larger(green, blue));
        let range = value - smaller(red, smaller(green, blue));
        let (hue, saturation) = hue_and_saturation(red, green, blue, value, range);

        let turned = hue + shift;
        let turned = if turned >= 256.0 { turned - 256.0 } else { turned };
        // The circle has six parts; in each, one color is full, one empty and one on its way.
        let sixths = turned * (6.0 / 255.0);
        let depth = value * saturation * (1.0 / 255.0);
        let channel = |missing: f32| (value - depth * missing.clamp(0.0, 1.0) + 0.5).floor();
        block.red[i] = channel(2.0 - (sixths - 3.0).abs());
        block.green[i] = channel((sixths - 2.0).abs() - 1.0);
        block.blue[i] = channel((sixths - 4.0).abs() - 1.0);
    }
}

/// Hue and saturation as whole numbers in `[0, 255]`, rounded down; grey has neither.
///
/// Double precision where Pillow has it: a hue that falls to the wrong side of a whole number is
/// off by up to 6 grey levels.
#[inline(always)]
fn hue_and_saturation(red: f32, green: f32, blue: f32, value: f32, range: f32) -> (f32, f32) {
    let divisor = if range > 0.0 { range } else { 1.0 };
    let (r, g, b) = ((value - red) / divisor, (value - green) / divisor, (value - blue) / divisor);
    let (r64, g64, b64) = (f64::from(r), f64::from(g), f64::from(b));
    let from_green = (2.0 + r64 - b64) as f32;
    let from_blue = (4.0 + g64 - r64) as f32;
    let other = if green == value { from_green } else { from_blue };
    let sixths = if red == value { b - g } else { other };
    let turn = f64::from(sixths) / 6.0 + 1.0;
    let turn = (turn - turn.floor()) as f32;
    let saturation = range / if value > 0.0 { value } else { 1.0 };
    let hue = (f64::from(turn) * 255.0).floor() as f32;
    let saturation = (f64::from(saturation) * 255.0).floor() as f32;
    // Grey: Pillow's hue is 0, and so is the saturation, which makes any hue the same.
    (hue, saturation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_third_color() -> RgbImage {
        RgbImage::from_fn(86 * 86, 86, |x, y| {
            image::Rgb([x % 86 * 3, x / 86 * 3, y * 3].map(|value| value.min(255) as u8))
        })
    }

    #[test]
    fn adjust_by_nothing_is_the_identity() {
        let colors = every_third_color();
        assert_eq!(adjust_brightness(&colors, 1.0), colors);
        assert_eq!(adjust_contrast(&colors, 1.0), colors);
        assert_eq!(adjust_saturation(&colors, 1.0), colors);
        assert_eq!(adjust_hue(&colors, 0.0), colors);
    }

    #[test]
    fn adjust_hue_by_less_than_a_step_is_the_identity() {
        let colors = every_third_color();
        assert_eq!(adjust_hue(&colors, 0.0039), colors);
        assert_eq!(adjust_hue(&colors, -0.0039), colors);
        assert_ne!(adjust_hue(&colors, 0.004), colors);
    }

    #[test]
    fn adjust_to_nothing_is_flat() {
        let image = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, 3]));
        assert!(adjust_brightness(&image, 0.0).iter().all(|&value| value == 0));
        let gray = adjust_saturation(&image, 0.0);
        assert!(gray.pixels().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
        let flat = adjust_contrast(&image, 0.0);
        assert!(flat.iter().all(|&value| f32::from(value) == mean_gray(&image)));
    }

    #[test]
    fn gray_pixels_have_no_hue_to_turn() {
        let grays = RgbImage::from_fn(256, 1, |x, _| image::Rgb([x as u8; 3]));
        assert_eq!(adjust_hue(&grays, 0.3), grays);
    }

    #[test]
    fn adjustments_in_one_pass_equal_single_ones() {
        let image = RgbImage::from_fn(37, 11, |x, y| image::Rgb([200 - y as u8, x as u8 * 6, 90]));
        let mut together = image.clone();
        adjust(
            &mut together,
            &[
                Adjustment::Hue(-0.07),
                Adjustment::Brightness(1.1),
                Adjustment::Contrast(0.8),
                Adjustment::Saturation(1.2),
            ],
        );
        let single = adjust_brightness(&adjust_hue(&image, -0.07), 1.1);
        let single = adjust_saturation(&adjust_contrast(&single, 0.8), 1.2);
        assert_eq!(together, single);
    }
}
