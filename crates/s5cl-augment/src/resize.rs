//! Bilinear scaling with antialiasing, in the fixed-point arithmetic of Pillow.

use crate::block::dispatch;

/// Bits behind the point of a weight: 8 bits of a color and 2 to spare fill a word.
const WEIGHT_BITS: u32 = 22;
const HALF: u32 = 1 << (WEIGHT_BITS - 1);

/// What each output place takes from the input along one axis: a window of `n_taps` neighbours.
struct Taps {
    n_taps: usize,
    /// The first input place of each window.
    first: Vec<usize>,
    /// `n_taps` weights for each output place, which add up to 1.
    weights: Vec<u32>,
}

impl Taps {
    /// Weights fall linearly from the centre of an output place to one input place away, or one
    /// output place where the image shrinks.
    fn new(n_in: usize, n_out: usize) -> Self {
        let scale = n_in as f64 / n_out as f64;
        let reach = scale.max(1.0);
        let bounds = |place: usize| {
            let centre = (place as f64 + 0.5) * scale;
            let low = (centre - reach + 0.5).max(0.0) as usize;
            let high = ((centre + reach + 0.5) as usize).min(n_in);
            (centre, low, high)
        };
        let n_taps = (0..n_out).map(bounds).map(|(_, low, high)| high - low).max().unwrap_or(1);
        let mut taps =
            Self { n_taps, first: Vec::with_capacity(n_out), weights: vec![0; n_out * n_taps] };
        for (place, window) in taps.weights.chunks_exact_mut(n_taps).enumerate() {
            let (centre, low, high) = bounds(place);
            let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - centre) / reach).abs()).max(0.0);
            let total: f64 = (low..high).map(weight).sum();
            // Windows all have one length, so those at the end start earlier, with weights of 0.
            let first = low.min(n_in - n_taps);
            for x in low..high {
                window[x - first] = (weight(x) / total * f64::from(1 << WEIGHT_BITS) + 0.5) as u32;
            }
            taps.first.push(first);
        }
        taps
    }
}

/// Scales rows of interleaved pixels to `size` (width, height).
///
/// # Source
///
/// Pillow's `resize` with `BILINEAR`: two passes, rounded to bytes in between, the first along the
/// rows, unless the rows grow while their number shrinks. Equal bit for bit, but for an image that
/// shrinks along both axes: there Pillow takes its first pass along the columns for some sizes,
/// and levels can differ by 1.
pub(crate) fn resize(rows: &[&[u8]], target: &mut [u8], size: (usize, usize)) {
    let from = (rows.first().map_or(0, |row| row.len() / 3), rows.len());
    let (along_x, along_y) = (Taps::new(from.0, size.0), Taps::new(from.1, size.1));
    let vertical_first = size.0 > from.0 && size.1 < from.1;
    let between = if vertical_first { (from.0, size.1) } else { (size.0, from.1) };
    let mut half_way = vec![0; 3 * between.0 * between.1];
    dispatch(
        #[inline(always)]
        || {
            if vertical_first {
                vertical(rows, &mut half_way, &along_y);
            } else {
                horizontal(rows, &mut half_way, &along_x);
            }
        },
    );
    let rows: Vec<&[u8]> = half_way.chunks_exact(3 * between.0).collect();
    dispatch(
        #[inline(always)]
        || {
            if vertical_first {
                horizontal(&rows, target, &along_x);
            } else {
                vertical(&rows, target, &along_y);
            }
        },
    );
}

#[inline(always)]
fn horizontal(rows: &[&[u8]], target: &mut [u8], taps: &Taps) {
    let width = 3 * taps.first.len();
    for (row, target) in rows.iter().zip(target.chunks_exact_mut(width)) {
        match taps.n_taps {
            2 => widen::<2>(row, target, taps),
            3 => widen::<3>(row, target, taps),
            _ => widen_any(row, target, taps),
        }
    }
}

#[inline(always)]
fn vertical(rows: &[&[u8]], target: &mut [u8], taps: &Taps) {
    let width = target.len() / taps.first.len();
    let mut sums = vec![0; width];
    let windows = taps.weights.chunks_exact(taps.n_taps).zip(&taps.first);
    for (target, (weights, &first)) in target.chunks_exact_mut(width).zip(windows) {
        sums.fill(HALF);
        for (row, &weight) in rows[first..].iter().zip(weights) {
            add_row(&mut sums, row, weight);
        }
        for (byte, &sum) in target.iter_mut().zip(&sums) {
            *byte = to_byte(sum);
        }
    }
}

/// One row, each place from a window of `N` neighbours.
#[inline(always)]
fn widen<const N: usize>(row: &[u8], wide: &mut [u8], taps: &Taps) {
    let (row, _) = row.as_chunks::<3>();
    let (wide, _) = wide.as_chunks_mut::<3>();
    let (weights, _) = taps.weights.as_chunks::<N>();
    for ((pixel, weights), &first) in wide.iter_mut().zip(weights).zip(&taps.first) {
        if let Some(window) = row.get(first..first + N) {
            *pixel = weigh(window, weights);
        }
    }
}

#[inline(always)]
fn widen_any(row: &[u8], wide: &mut [u8], taps: &Taps) {
    let (row, _) = row.as_chunks::<3>();
    let (wide, _) = wide.as_chunks_mut::<3>();
    let windows = taps.weights.chunks_exact(taps.n_taps).zip(&taps.first);
    for (pixel, (weights, &first)) in wide.iter_mut().zip(windows) {
        *pixel = weigh(&row[first..first + taps.n_taps], weights);
    }
}

#[inline(always)]
fn weigh(window: &[[u8; 3]], weights: &[u32]) -> [u8; 3] {
    let mut sums = [HALF; 3];
    for (pixel, &weight) in window.iter().zip(weights) {
        for (sum, &color) in sums.iter_mut().zip(pixel) {
            *sum = sum.wrapping_add(weight.wrapping_mul(u32::from(color)));
        }
    }
    sums.map(to_byte)
}

#[inline(always)]
fn add_row(sums: &mut [u32], row: &[u8], weight: u32) {
    for (sum, &color) in sums.iter_mut().zip(row) {
        *sum = sum.wrapping_add(weight.wrapping_mul(u32::from(color)));
    }
}

/// Weights that were rounded up can add up to a little more than 1.
#[inline(always)]
fn to_byte(sum: u32) -> u8 {
    (sum >> WEIGHT_BITS).min(255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_add_up_to_one_and_stay_inside() {
        for n_in in 1..40 {
            for n_out in 1..40 {
                let taps = Taps::new(n_in, n_out);
                assert_eq!(taps.first.len(), n_out);
                for (window, &first) in taps.weights.chunks_exact(taps.n_taps).zip(&taps.first) {
                    assert!(first + taps.n_taps <= n_in, "{n_in} to {n_out}");
                    // Each weight is rounded on its own.
                    let error = window.iter().sum::<u32>().abs_diff(1 << WEIGHT_BITS);
                    assert!(error as usize <= taps.n_taps, "{n_in} to {n_out}: {window:?}");
                }
            }
        }
    }

    #[test]
    fn resize_of_one_color_is_that_color() {
        for (from, to) in
            [((5, 3), (17, 9)), ((40, 30), (7, 1)), ((1, 1), (4, 4)), ((9, 9), (9, 9))]
        {
            let source = [255, 128, 1].repeat(from.0 * from.1);
            let mut target = vec![0; 3 * to.0 * to.1];
            let rows: Vec<&[u8]> = source.chunks_exact(3 * from.0).collect();
            resize(&rows, &mut target, to);
            assert_eq!(target, [255, 128, 1].repeat(to.0 * to.1), "{from:?} to {to:?}");
        }
    }
}
