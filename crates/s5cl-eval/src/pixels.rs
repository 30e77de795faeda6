//! Features that need no training: the color of an image and its thumbnail.

use crate::EvalError;
use crate::features::Features;

/// Red, green, blue.
const N_CHANNELS: usize = 3;
/// Side of the thumbnail, in cells.
const THUMBNAIL_SIDE: usize = 8;
/// Largest pixel value; features are in `[0, 1]`.
const WHITE: f64 = 255.0;

/// Mean and standard deviation of every color channel.
///
/// What a nearest-neighbor classifier reaches on these six numbers, a trained encoder has to
/// beat: it knows the staining and nothing of the shape.
///
/// # Shapes
///
/// `pixels`: `[n, height, width, 3]`, `u8`, RGB. Returns `[n, 6]`: mean of R, G, B, then
/// population standard deviation of R, G, B, all in `[0, 1]` (255 is 1).
///
/// # Errors
///
/// When an image has no pixel or `pixels` is not `n` images of that size.
pub fn color_features(
    pixels: &[u8],
    n: usize,
    height: usize,
    width: usize,
) -> Result<Features, EvalError> {
    let image_len = checked_image_len(pixels, n, height, width)?;
    let n_pixels = (height * width) as f64;
    let mut values = Vec::with_capacity(n * 2 * N_CHANNELS);
    for image in pixels.chunks_exact(image_len) {
        // Integer sums are exact, so that a flat image has a spread of exactly zero.
        let mut sums = [0_u64; N_CHANNELS];
        let mut squares = [0_u64; N_CHANNELS];
        for pixel in image.chunks_exact(N_CHANNELS) {
            for (channel, &value) in pixel.iter().enumerate() {
                sums[channel] += u64::from(value);
                squares[channel] += u64::from(value).pow(2);
            }
        }
        let means = sums.map(|sum| sum as f64 / n_pixels);
        values.extend(means.map(|mean| (mean / WHITE) as f32));
        for (&sum, &square) in sums.iter().zip(&squares) {
            let scaled = square as f64 * n_pixels - (sum as f64).powi(2);
            values.push((scaled.max(0.0).sqrt() / n_pixels / WHITE) as f32);
        }
    }
    Features::new(values, 2 * N_CHANNELS)
}

/// The image at 8 by 8, each cell the mean over its area.
///
/// # Shapes
///
/// `pixels`: `[n, height, width, 3]`, `u8`, RGB. Returns `[n, 192]` (row, column, channel), in
/// `[0, 1]` (255 is 1). A side need not be a multiple of 8: a pixel on the edge of two cells
/// counts for both by the part that lies in each.
///
/// # Errors
///
/// When an image has no pixel or `pixels` is not `n` images of that size.
pub fn thumbnail_features(
    pixels: &[u8],
    n: usize,
    height: usize,
    width: usize,
) -> Result<Features, EvalError> {
    let image_len = checked_image_len(pixels, n, height, width)?;
    let (rows, columns) = (area_weights(height), area_weights(width));
    let mut values = Vec::with_capacity(n * THUMBNAIL_SIDE * THUMBNAIL_SIDE * N_CHANNELS);
    for image in pixels.chunks_exact(image_len) {
        for row in &rows {
            for column in &columns {
                let mut cell = [0.0; N_CHANNELS];
                for &(y, y_weight) in row {
                    for &(x, x_weight) in column {
                        let at = (y * width + x) * N_CHANNELS;
                        for (sum, &value) in cell.iter_mut().zip(&image[at..at + N_CHANNELS]) {
                            *sum += y_weight * x_weight * f64::from(value);
                        }
                    }
                }
                values.extend(cell.map(|sum| (sum / WHITE) as f32));
            }
        }
    }
    Features::new(values, THUMBNAIL_SIDE * THUMBNAIL_SIDE * N_CHANNELS)
}

/// For every cell along one side the pixels that it covers, with weights that sum to 1.
fn area_weights(side: usize) -> Vec<Vec<(usize, f64)>> {
    // In units of 1/8 pixel, cell i covers [i * side, (i + 1) * side) and pixel p covers
    // [8 p, 8 p + 8): whole numbers, so the overlaps are exact.
    let overlap = |cell: usize, pixel: usize| {
        let end = ((cell + 1) * side).min((pixel + 1) * THUMBNAIL_SIDE);
        end.saturating_sub((cell * side).max(pixel * THUMBNAIL_SIDE))
    };
    let weights_of = |cell: usize| {
        let first = cell * side / THUMBNAIL_SIDE;
        let last = ((cell + 1) * side).div_ceil(THUMBNAIL_SIDE);
        (first..last).map(|pixel| (pixel, overlap(cell, pixel) as f64 / side as f64)).collect()
    };
    (0..THUMBNAIL_SIDE).map(weights_of).collect()
}

/// Number of bytes of one image, once `pixels` is known to be `n` of them.
fn checked_image_len(
    pixels: &[u8],
    n: usize,
    height: usize,
    width: usize,
) -> Result<usize, EvalError> {
    let image_len = height.saturating_mul(width).saturating_mul(N_CHANNELS);
    if image_len == 0 {
        return Err(EvalError::Empty { what: "an image" });
    }
    crate::error::same_length(
        ("pixels", pixels.len()),
        ("n * height * width * 3", n.saturating_mul(image_len)),
    )?;
    Ok(image_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_features_are_mean_and_spread() {
        // Image 0: red 0 and 255, green 51 twice, blue 0 and 51. Image 1: flat gray.
        let pixels = [0, 51, 0, 255, 51, 51, 100, 100, 100, 100, 100, 100];
        let features = color_features(&pixels, 2, 1, 2).unwrap();
        let rows: Vec<&[f32]> = features.rows().collect();
        assert_eq!(rows[0], [0.5, 0.2, 0.1, 0.5, 0.0, 0.1]);
        assert_eq!(rows[1][3..], [0.0; 3]);
    }

    #[test]
    fn thumbnail_of_a_multiple_of_eight_is_the_block_mean() {
        let (height, width) = (16, 24);
        let value = |y: usize, x: usize, c: usize| ((y * 7 + x * 3 + c * 50) % 256) as u8;
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                pixels.extend((0..3).map(|c| value(y, x, c)));
            }
        }
        let features = thumbnail_features(&pixels, 1, height, width).unwrap();
        let cell = |row: usize, column: usize, c: usize| {
            let block = (0..2).flat_map(|dy| (0..3).map(move |dx| (dy, dx)));
            let sum: f64 =
                block.map(|(dy, dx)| f64::from(value(row * 2 + dy, column * 3 + dx, c))).sum();
            sum / 6.0 / 255.0
        };
        for (index, &found) in features.as_slice().iter().enumerate() {
            let expected = cell(index / 24, index / 3 % 8, index % 3);
            assert!((f64::from(found) - expected).abs() < 1e-6, "{index}: {found} {expected}");
        }
    }

    #[test]
    fn thumbnail_of_any_size_keeps_the_mean() {
        for (height, width) in [(1, 1), (5, 9), (13, 8), (96, 30)] {
            let pixels: Vec<u8> = (0..height * width * 3).map(|i| (i * 37 % 251) as u8).collect();
            let features = thumbnail_features(&pixels, 1, height, width).unwrap();
            let colors = color_features(&pixels, 1, height, width).unwrap();
            for channel in 0..3 {
                let cells = features.as_slice().iter().skip(channel).step_by(3);
                let mean = cells.sum::<f32>() / 64.0;
                assert!((mean - colors.as_slice()[channel]).abs() < 1e-5, "{height} {width}");
            }
        }
    }

    #[test]
    fn pixel_features_refuse_a_wrong_size() {
        let error = color_features(&[0; 10], 1, 2, 2).unwrap_err().to_string();
        assert!(error.contains("pixels has 10") && error.contains("has 12"), "{error}");
        assert!(thumbnail_features(&[], 1, 0, 2).is_err());
    }
}
