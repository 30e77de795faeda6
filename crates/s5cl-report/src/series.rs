//! Curves: smoothing, thinning, the range that shows them.

use std::ops::Range;

/// `(x, y)`; a `y` that is not finite is a gap.
pub(crate) type Point = (f64, f64);

/// The mean over `2 * half_window + 1` neighbors; towards the start the window narrows, at the end
/// it loses its right half. Gaps stay gaps and are not averaged.
pub(crate) fn smooth(points: &[Point], half_window: usize) -> Vec<Point> {
    let sums: Vec<(f64, f64)> = std::iter::once((0.0, 0.0))
        .chain(points.iter().scan((0.0, 0.0), |(sum, n), &(_, y)| {
            if is_drawable(y) {
                *sum += y;
                *n += 1.0;
            }
            Some((*sum, *n))
        }))
        .collect();
    let mean_around = |index: usize| {
        let window = window(index, half_window, points.len());
        let ((sum_to, n_to), (sum_from, n_from)) = (sums[window.end], sums[window.start]);
        (sum_to - sum_from) / (n_to - n_from)
    };
    let smoothed = |(index, &(x, y)): (usize, &Point)| {
        (x, if is_drawable(y) { mean_around(index) } else { f64::NAN })
    };
    points.iter().enumerate().map(smoothed).collect()
}

/// At most about `2 * n_bins` points: of each bin its lowest and its highest, in order, so that
/// the outline of a noisy curve stays.
pub(crate) fn thin_to_extremes(points: &[Point], n_bins: usize) -> Vec<Point> {
    if points.len() <= 2 * n_bins {
        return points.to_vec();
    }
    let mut thinned = Vec::with_capacity(2 * n_bins);
    for bin in points.chunks(points.len().div_ceil(n_bins)) {
        let drawable = || bin.iter().enumerate().filter(|(_, point)| is_drawable(point.1));
        let lowest = drawable().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let highest = drawable().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        match (lowest, highest) {
            (Some(low), Some(high)) => {
                let (first, last) = if low.0 <= high.0 { (low, high) } else { (high, low) };
                thinned.push(*first.1);
                if first.0 != last.0 {
                    thinned.push(*last.1);
                }
            }
            // A bin of gaps only.
            _ => thinned.extend(bin.first().map(|&(x, _)| (x, f64::NAN))),
        }
    }
    thinned
}

/// About `n` points at equal distances, with both ends of every stretch between gaps.
pub(crate) fn thin_evenly(points: &[Point], n: usize) -> Vec<Point> {
    let stride = points.len().div_ceil(n.max(1)).max(1);
    let mut thinned = Vec::new();
    for stretch in points.chunk_by(|a, b| is_drawable(a.1) == is_drawable(b.1)) {
        thinned.extend(stretch.iter().step_by(stride));
        if !(stretch.len() - 1).is_multiple_of(stride) {
            thinned.extend(stretch.last());
        }
    }
    thinned
}

/// The range from the lowest to the highest drawable value; `None` without one.
pub(crate) fn range_of(points: &[Point]) -> Option<(f64, f64)> {
    points.iter().map(|point| point.1).filter(|&y| is_drawable(y)).fold(None, |range, y| {
        let (low, high) = range.unwrap_or((y, y));
        Some((low.min(y), high.max(y)))
    })
}

/// The range without the 0.5 % lowest and highest values, which single spikes would stretch.
pub(crate) fn range_without_spikes(points: &[Point]) -> Option<(f64, f64)> {
    let mut values: Vec<f64> =
        points.iter().map(|point| point.1).filter(|&y| is_drawable(y)).collect();
    values.sort_by(f64::total_cmp);
    let skipped = values.len() / 200;
    Some((*values.get(skipped)?, *values.get(values.len() - 1 - skipped)?))
}

/// Whether a value can be drawn: finite, and small enough that differences are finite as well.
pub(crate) fn is_drawable(value: f64) -> bool {
    value.abs() < 1e100
}

fn window(index: usize, half_window: usize, n: usize) -> Range<usize> {
    // At the start, where a loss falls fast, little wider to the right than to the left, so that
    // the mean belongs to its place; at the end wide to the left, so that the result is a mean.
    let reach = half_window.min(index.max(half_window / 6));
    index.saturating_sub(reach)..(index + reach + 1).min(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noisy(n: u32) -> Vec<Point> {
        (0..n).map(|i| (f64::from(i), f64::from(i * 7919 % 101))).collect()
    }

    #[test]
    fn smooth_keeps_a_straight_line_and_its_length() {
        let line: Vec<Point> = (0..50).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
        let smoothed = smooth(&line, 6);
        for (before, after) in line.iter().zip(&smoothed).take(44).skip(1) {
            assert!((before.1 - after.1).abs() < 1e-9);
        }
        // The mean of the last seven values.
        assert_eq!(smoothed.last(), Some(&(49.0, 92.0)));
        assert!(smooth(&[], 3).is_empty());
        assert_eq!(smooth(&[(0.0, 1.0)], 3), [(0.0, 1.0)]);
    }

    #[test]
    fn smooth_leaves_gaps_out_of_the_mean() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, f64::INFINITY), (4.0, 5.0)];
        let smoothed = smooth(&points, 2);
        assert!(smoothed[1].1.is_nan() && smoothed[3].1.is_nan());
        assert_eq!(smoothed[2].1, 3.0);
        assert_eq!(smoothed[4].1, 4.0);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let points = noisy(4000);
        let thinned = thin_to_extremes(&points, 250);
        assert!(thinned.len() <= 500);
        assert_eq!(range_of(&thinned), range_of(&points));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let points = noisy(4001);
        let thinned = thin_evenly(&points, 200);
        assert!(thinned.len() <= 201);
        assert_eq!((thinned.first(), thinned.last()), (points.first(), points.last()));
        assert_eq!(thin_evenly(&points[..5], 200), points[..5]);
        assert!(thin_evenly(&[], 200).is_empty());
        let mut with_gap = points;
        with_gap[1001].1 = f64::NAN;
        let n_gaps = thin_evenly(&with_gap, 200).iter().filter(|point| point.1.is_nan()).count();
        assert_eq!(n_gaps, 1);
    }

    #[test]
    fn range_without_spikes_ignores_one_in_two_hundred() {
        let mut points = noisy(1000);
        points[500].1 = 1e9;
        points[501].1 = f64::NAN;
        assert_eq!(range_without_spikes(&points), Some((0.0, 100.0)));
        assert_eq!(range_without_spikes(&[(0.0, f64::NAN)]), None);
        assert_eq!(range_of(&[]), None);
    }
}
