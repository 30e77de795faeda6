//! Convolution, pooling and normalization in f64, pixel by pixel from their documentation, with
//! none of the kernels' code.

use s5cl_kernels::Conv2dConfig;

/// What normalization adds to a variance.
pub(crate) const EPSILON: f64 = 1e-5;

/// `[batch, height, width, channels]`.
pub(crate) type Shape = [usize; 4];

/// How many values it holds.
pub(crate) fn len(shape: Shape) -> usize {
    shape.iter().product()
}

/// Where the value at a place lies.
fn at(shape: Shape, place: Shape) -> usize {
    place.iter().zip(shape).fold(0, |index, (place, size)| index * size + place)
}

/// Output pixels of a window along one side.
fn out_size(size: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (size + 2 * padding - kernel) / stride + 1
}

/// Where tap `tap` of the window at `out` falls, if that is on the map.
fn source(out: usize, tap: usize, stride: usize, padding: usize, size: usize) -> Option<usize> {
    (out * stride + tap).checked_sub(padding).filter(|place| *place < size)
}

/// The places of a window in reading order.
fn taps(height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |u| (0..width).map(move |v| (u, v)))
}

/// Maps with a weight `[out, in, kernel_height, kernel_width]`, each with its shape.
pub(crate) fn conv2d_formula(
    (maps, shape): (&[f64], Shape),
    (weight, [out_channels, in_channels, kernel_height, kernel_width]): (&[f64], Shape),
    Conv2dConfig { stride, padding, .. }: Conv2dConfig,
) -> Vec<f64> {
    let [batch, height, width, _] = shape;
    let weight_shape = [out_channels, in_channels, kernel_height, kernel_width];
    let mut out = Vec::new();
    for n in 0..batch {
        for y in 0..out_size(height, kernel_height, stride, padding) {
            for x in 0..out_size(width, kernel_width, stride, padding) {
                for o in 0..out_channels {
                    let mut sum = 0.0;
                    for (u, v) in taps(kernel_height, kernel_width) {
                        let from_y = source(y, u, stride, padding, height);
                        let from_x = source(x, v, stride, padding, width);
                        let (Some(from_y), Some(from_x)) = (from_y, from_x) else { continue };
                        for c in 0..in_channels {
                            sum += maps[at(shape, [n, from_y, from_x, c])]
                                * weight[at(weight_shape, [o, c, u, v])];
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

/// The window is kernel, stride and padding.
pub(crate) fn max_pool2d_formula(
    maps: &[f64],
    shape: Shape,
    [kernel, stride, padding]: [usize; 3],
) -> Vec<f64> {
    let [batch, height, width, channels] = shape;
    let mut out = Vec::new();
    for n in 0..batch {
        for y in 0..out_size(height, kernel, stride, padding) {
            for x in 0..out_size(width, kernel, stride, padding) {
                for c in 0..channels {
                    let mut best = f64::NEG_INFINITY;
                    for (u, v) in taps(kernel, kernel) {
                        let from_y = source(y, u, stride, padding, height);
                        let from_x = source(x, v, stride, padding, width);
                        if let (Some(from_y), Some(from_x)) = (from_y, from_x) {
                            best = best.max(maps[at(shape, [n, from_y, from_x, c])]);
                        }
                    }
                    out.push(best);
                }
            }
        }
    }
    out
}

/// `relu((x - mean) / sqrt(variance + epsilon) * weight + bias + residual)`, by the statistics of
/// the batch unless others are given.
pub(crate) fn batch_norm_formula(
    [maps, weight, bias]: [&[f64]; 3],
    residual: Option<&[f64]>,
    relu: bool,
    statistics: Option<(&[f64], &[f64])>,
) -> Vec<f64> {
    let channels = weight.len();
    let rows = (maps.len() / channels) as f64;
    let mut out = vec![0.0; maps.len()];
    for c in 0..channels {
        let of_channel = || maps.iter().skip(c).step_by(channels);
        let (mean, variance) = match statistics {
            Some((mean, variance)) => (mean[c], variance[c]),
            None => {
                let mean = of_channel().sum::<f64>() / rows;
                (mean, of_channel().map(|x| (x - mean).powi(2)).sum::<f64>() / rows)
            }
        };
        for i in (c..maps.len()).step_by(channels) {
            let normalized = (maps[i] - mean) / (variance + EPSILON).sqrt();
            let value = normalized * weight[c] + bias[c] + residual.map_or(0.0, |r| r[i]);
            out[i] = if relu { value.max(0.0) } else { value };
        }
    }
    out
}
