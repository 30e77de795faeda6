//! The passes over memory of max pooling: one row of pixels at a time, all channels of a pixel
//! together.

use std::ops::Range;

use rayon::prelude::*;

use crate::simd;
use crate::window::Window;

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
    let (taps_y, map_y) = window.rows(out_y);
    for (out_x, best) in out.chunks_exact_mut(channels).enumerate() {
        let (taps_x, map_x) = window.cols(out_x);
        let winners =
            if KEEPS_WINNERS { &mut winners[out_x * channels..][..channels] } else { &mut [] };
        for (y, tap_y) in (map_y..).zip(taps_y.clone()) {
            for (x, tap_x) in (map_x..).zip(taps_x.clone()) {
                let values = &image[(y * window.width + x) * channels..][..channels];
                let place = (tap_y * window.kernel.1 + tap_x) as u8;
                if (y, x) == (map_y, map_x) {
                    best.copy_from_slice(values);
                    winners.fill(place);
                } else if KEEPS_WINNERS {
                    for ((best, winner), &value) in best.iter_mut().zip(&mut *winners).zip(values) {
                        let wins = (value > *best) | value.is_nan();
                        *best = if wins { value } else { *best };
                        *winner = if wins { place } else { *winner };
                    }
                } else {
                    for (best, &value) in best.iter_mut().zip(values) {
                        let wins = (value > *best) | value.is_nan();
                        *best = if wins { value } else { *best };
                    }
                }
            }
        }
    }
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
    let windows_y = covering(y, window.out_height(), kernel.0, stride, padding);
    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
        out.fill(0.0);
        for out_y in windows_y.clone() {
            for out_x in covering(x, window.out_width(), kernel.1, stride, padding) {
                let (tap_y, tap_x) = (y + padding - out_y * stride, x + padding - out_x * stride);
                let place = (tap_y * kernel.1 + tap_x) as u8;
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
