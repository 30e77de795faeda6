//! Position embeddings for another grid of patches.

/// Half the width of the cubic kernel, in pixels of the coarser grid.
const SUPPORT: f64 = 2.0;

/// Interpolates one vector a patch from one grid to another, as
/// `torch.nn.functional.interpolate` does it with `mode="bicubic"`, `antialias=True` and
/// `align_corners=False`: the kernel is that of Keys with a = -1/2, it is widened where the grid
/// becomes coarser, cut off at the border, and its weights sum to one.
///
/// # Shapes
///
/// - `values`: `[height, width, dim]`, the last fastest, with (height, width) = `old`
/// - result: the same with `new`
///
/// # Source
///
/// Keys, "Cubic convolution interpolation for digital image processing", IEEE Transactions on
/// Acoustics, Speech, and Signal Processing 29 (1981).
pub(super) fn resample(
    values: &[f32],
    old: (usize, usize),
    new: (usize, usize),
    dim: usize,
) -> Vec<f32> {
    let rows = weights(old.0, new.0);
    let columns = weights(old.1, new.1);
    let mut resampled = Vec::with_capacity(new.0 * new.1 * dim);
    for (first_row, row_weights) in &rows {
        for (first_column, column_weights) in &columns {
            let mut sums = vec![0.0_f64; dim];
            for (y, row_weight) in row_weights.iter().enumerate() {
                for (x, column_weight) in column_weights.iter().enumerate() {
                    let patch = (first_row + y) * old.1 + first_column + x;
                    let vector = &values[patch * dim..(patch + 1) * dim];
                    for (sum, &value) in sums.iter_mut().zip(vector) {
                        *sum += row_weight * column_weight * f64::from(value);
                    }
                }
            }
            resampled.extend(sums.into_iter().map(|sum| sum as f32));
        }
    }
    resampled
}

/// For each place of the new line, the first place of the old one that counts and the weights from
/// there on.
fn weights(old: usize, new: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = old as f64 / new as f64;
    let widening = scale.max(1.0);
    let support = SUPPORT * widening;
    (0..new)
        .map(|place| {
            let center = (place as f64 + 0.5) * scale;
            // Casts to whole numbers cut off towards zero, as in PyTorch.
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(old);
            let weight = |index| kernel((index as f64 + 0.5 - center) / widening);
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.into_iter().map(|weight| weight / sum).collect())
        })
        .collect()
}

/// Keys' cubic kernel with a = -1/2.
fn kernel(x: f64) -> f64 {
    let (x, a) = (x.abs(), -0.5);
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        a * (((x - 5.0) * x + 8.0) * x - 4.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::resample;

    /// Both sides are rounded to f32.
    const TOLERANCE: f32 = 1e-6;

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        old: (usize, usize),
        new: (usize, usize),
        before: Vec<f32>,
        after: Vec<f32>,
    }

    #[test]
    fn resample_is_torchs_bicubic_interpolation() {
        let golden = include_str!("../../tests/golden/resample.json");
        let golden: Golden = serde_json::from_str(golden).unwrap();
        assert!(golden.cases.len() >= 6);
        for Case { old, new, before, after } in golden.cases {
            let resampled = resample(&before, old, new, 3);
            assert_eq!(resampled.len(), after.len());
            for (got, expected) in resampled.iter().zip(&after) {
                assert!((got - expected).abs() < TOLERANCE, "{old:?} {new:?}: {got} {expected}");
            }
        }
    }

    #[test]
    fn resample_to_the_same_grid_changes_nothing() {
        let values: Vec<f32> = (0_u8..18).map(|value| f32::from(value).sin()).collect();
        let same = resample(&values, (3, 3), (3, 3), 2);
        for (value, resampled) in values.iter().zip(&same) {
            assert!((value - resampled).abs() < 1e-7, "{value} {resampled}");
        }
    }

    #[test]
    fn resample_keeps_what_is_the_same_everywhere() {
        for new in [(1, 1), (2, 7), (16, 3)] {
            let resampled = resample(&[0.3; 25], (5, 5), new, 1);
            assert_eq!(resampled.len(), new.0 * new.1);
            assert!(resampled.iter().all(|value| (value - 0.3).abs() < 1e-6), "{resampled:?}");
        }
    }

    #[test]
    fn resample_tells_rows_from_columns() {
        // Values grow along the columns alone.
        let values = [0.0, 1.0, 2.0, 3.0].repeat(2);
        let resampled = resample(&values, (2, 4), (4, 2), 1);
        for row in resampled.chunks(2) {
            assert!(row[0] < row[1] && (row[0] + row[1] - 3.0).abs() < 1e-6, "{row:?}");
        }
    }
}
