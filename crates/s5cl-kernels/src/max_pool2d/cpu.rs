//! The passes over memory of max pooling: one row of pixels at a time, all channels of a pixel
//! together.

use std::ops::Range;

use rayon::prelude::*;

use crate::simd;
use crate::window::Window;

/// Channels that are pooled together.
const LANES: usize = 16;

/// Writes the largest value of each window into `out`, and into `winners`, where given, which
/// place of the window holds it, counted in reading order. A NaN is larger than any number, and
/// the last of several wins.
///
/// `maps` and `out` are `[batch, height, width, channels]`, `winners` is of the length of `out`.
/// The window meets the map everywhere, and has 256 places at most where winners are wanted.
pub(crate) fn max_pool2d_forward(
    maps: &[f32],
    out: &mut [f32],
    winners: Option<&mut [u8]>,
    window: &Window,
    channels: usize,
) {
    let row = window.out_width() * channels;
    let image = |row_idx: usize| {
        let len = window.in_pixels() * channels;
        &maps[row_idx / window.out_height() * len..][..len]
    };
    match winners {
        None => out.par_chunks_mut(row).enumerate().for_each(|(i, out)| {
            let out_y = i % window.out_height();
            simd::dispatch(
                #[inline(always)]
                || pool_row::<false>(image(i), out, &mut [], window, out_y, channels),
            );
        }),
        Some(winners) => {
            out.par_chunks_mut(row).zip(winners.par_chunks_mut(row)).enumerate().for_each(
                |(i, (out, winners))| {
                    let out_y = i % window.out_height();
                    simd::dispatch(
                        #[inline(always)]
                        || pool_row::<true>(image(i), out, winners, window, out_y, channels),
                    );
                },
            )
        }
    }
}

#[inline(always)]
fn pool_row<const KEEPS_WINNERS: bool>(
    image: &[f32],
    out: &mut [f32],
    winners: &mut [u8],
    window: &Window,
    out_y: usize,
    channels: usize,
) {
    for (out_x, out) in out.chunks_exact_mut(channels).enumerate() {
        let winners: &mut [u8] =
            if KEEPS_WINNERS { &mut winners[out_x * channels..][..channels] } else { &mut [] };
        let (blocks, rest) = out.as_chunks_mut::<LANES>();
        let at_rest = blocks.len() * LANES;
        for (i, block) in blocks.iter_mut().enumerate() {
            let image = &image[i * LANES..];
            let places = pool_block(image, block, window, (out_y, out_x), channels);
            if KEEPS_WINNERS {
                winners[i * LANES..][..LANES].copy_from_slice(&places.map(|place| place as u8));
            }
        }
        for (c, value) in (at_rest..).zip(rest) {
            let value = std::array::from_mut(value);
            let [place] = pool_block(&image[c..], value, window, (out_y, out_x), channels);
            if KEEPS_WINNERS {
                winners[c] = place as u8;
            }
        }
    }
}

/// The window over neighboring channels, the first of which are the first values of `image`:
/// writes the largest values, and returns the places where they are. Both stay in registers
/// until the last pixel was seen; the places are as wide as the values for that.
#[inline(always)]
fn pool_block<const N: usize>(
    image: &[f32],
    best: &mut [f32; N],
    window: &Window,
    (out_y, out_x): (usize, usize),
    channels: usize,
) -> [u32; N] {
    let (taps_y, map_y) = window.rows(out_y);
    let (taps_x, map_x) = window.cols(out_x);
    let pixel = |y: usize, x: usize| &image[(y * window.width + x) * channels..][..N];
    let place = |tap_y: usize, tap_x: usize| (tap_y * window.kernel + tap_x) as u32;
    let mut largest = [0.0; N];
    largest.copy_from_slice(pixel(map_y, map_x));
    let mut winners = [place(taps_y.start, taps_x.start); N];
    for (y, tap_y) in (map_y..).zip(taps_y) {
        for (x, tap_x) in (map_x..).zip(taps_x.clone()) {
            let (values, place) = (pixel(y, x), place(tap_y, tap_x));
            for i in 0..N {
                let wins = (values[i] > largest[i]) | values[i].is_nan();
                largest[i] = if wins { values[i] } else { largest[i] };
                winners[i] = if wins { place } else { winners[i] };
            }
        }
    }
    *best = largest;
    winners
}

/// Writes into `out` the gradient of the maps: at each pixel the sum over the windows that it
/// won, in their reading order.
///
/// `winners` is what [`max_pool2d_forward`] gave, `gradient` of the same length, and `out` of that
/// of the maps; what it holds does not matter.
pub(crate) fn max_pool2d_backward(
    winners: &[u8],
    gradient: &[f32],
    out: &mut [f32],
    window: &Window,
    channels: usize,
) {
    let len = window.out_pixels() * channels;
    out.par_chunks_mut(window.width * channels).enumerate().for_each(|(i, out)| {
        let at = i / window.height * len;
        let (winners, gradient) = (&winners[at..][..len], &gradient[at..][..len]);
        let y = i % window.height;
        simd::dispatch(
            #[inline(always)]
            || gather_row(winners, gradient, out, window, y, channels),
        );
    });
}

#[inline(always)]
fn gather_row(
    winners: &[u8],
    gradient: &[f32],
    out: &mut [f32],
    window: &Window,
    y: usize,
    channels: usize,
) {
    let Window { kernel, stride, padding, .. } = *window;
    let windows_y = covering(y, window.out_height(), kernel, stride, padding);
    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
        out.fill(0.0);
        for out_y in windows_y.clone() {
            for out_x in covering(x, window.out_width(), kernel, stride, padding) {
                let (tap_y, tap_x) = (y + padding - out_y * stride, x + padding - out_x * stride);
                let place = (tap_y * kernel + tap_x) as u8;
                let at = (out_y * window.out_width() + out_x) * channels;
                let (winners, gradient) = (&winners[at..][..channels], &gradient[at..][..channels]);
                for ((out, &winner), &gradient) in out.iter_mut().zip(winners).zip(gradient) {
                    *out += if winner == place { gradient } else { 0.0 };
                }
            }
        }
    }
}

/// The windows along one side that cover a place of the map.
fn covering(
    place: usize,
    n_windows: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Range<usize> {
    let first = (place + padding + 1).saturating_sub(kernel).div_ceil(stride);
    first..((place + padding) / stride + 1).min(n_windows)
}
