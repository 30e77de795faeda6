//! Layer normalization against its formula in f64.

use super::LayerNorm;
use crate::checks::{assert_close, draw, same_on_any_threads};
use crate::simd::with_each_instruction_set;

const EPSILON: f64 = 1e-5;
/// Sums over a row in f32.
const VALUE: f64 = 2e-6;
/// The way back takes two means off, and sums over all rows.
const GRADIENT: f64 = 1e-5;

/// The result, and the gradients of maps, weight and bias.
fn reference(maps: &[f32], weight: &[f32], bias: &[f32], above: &[f32]) -> [Vec<f64>; 4] {
    let channels = weight.len();
    let n = channels as f64;
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let (weight, bias) = (wide(weight), wide(bias));
    let (mut out, mut of_maps) = (Vec::new(), Vec::new());
    let (mut of_weight, mut of_bias) = (vec![0.0; channels], vec![0.0; channels]);
    for (row, above) in maps.chunks(channels).zip(above.chunks(channels)) {
        let (row, above) = (wide(row), wide(above));
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let inverse = 1.0 / (variance + EPSILON).sqrt();
        let normal: Vec<f64> = row.iter().map(|x| (x - mean) * inverse).collect();
        let scaled: Vec<f64> = above.iter().zip(&weight).map(|(g, w)| g * w).collect();
        let sum = scaled.iter().sum::<f64>() / n;
        let product = scaled.iter().zip(&normal).map(|(g, x)| g * x).sum::<f64>() / n;
        for c in 0..channels {
            out.push(normal[c] * weight[c] + bias[c]);
            of_maps.push(inverse * (scaled[c] - sum - normal[c] * product));
            of_weight[c] += above[c] * normal[c];
            of_bias[c] += above[c];
        }
    }
    [out, of_maps, of_weight, of_bias]
}

#[test]
fn layer_norm_is_the_formula() {
    for (rows, channels) in [(1, 5), (3, 7), (40, 16), (700, 24), (5, 133), (2, 1000)] {
        // Far from zero, where a sum of squares would lose the variance.
        let maps: Vec<f32> = draw(1, rows * channels).into_iter().map(|x| 30.0 + x).collect();
        let (weight, bias) = (draw(2, channels), draw(3, channels));
        let above = draw(4, rows * channels);
        let [out, of_maps, of_weight, of_bias] = reference(&maps, &weight, &bias, &above);
        let norm = LayerNorm { weight: &weight, bias: &bias, epsilon: EPSILON };
        with_each_instruction_set(|| {
            let what = |part| format!("{part} of {rows} x {channels}");
            let mut got = vec![f32::NAN; maps.len()];
            let kept = norm.forward(&maps, &mut got);
            // The maps' own rounding is against their mean.
            assert_close(&what("values"), &got, &out, 30.0 * VALUE);
            let mut gradient = above.clone();
            let gradients = norm.backward(&maps, &kept, &mut gradient);
            assert_close(&what("maps' gradient"), &gradient, &of_maps, 10.0 * GRADIENT);
            assert_close(&what("weight's gradient"), &gradients.weight, &of_weight, GRADIENT);
            assert_close(&what("bias's gradient"), &gradients.bias, &of_bias, GRADIENT);
        });
    }
}

#[test]
fn layer_norm_of_a_constant_row_is_the_bias() {
    let (weight, bias) = (vec![2.0; 5], draw(1, 5));
    let norm = LayerNorm { weight: &weight, bias: &bias, epsilon: EPSILON };
    let mut out = vec![0.0; 5];
    norm.forward(&[3.0; 5], &mut out);
    assert_eq!(out, bias);
}

#[test]
fn layer_norm_has_the_same_bits_on_any_threads() {
    let (maps, weight, bias) = (draw(1, 5000 * 24), draw(2, 24), draw(3, 24));
    let norm = LayerNorm { weight: &weight, bias: &bias, epsilon: EPSILON };
    same_on_any_threads(|| {
        let (mut out, mut gradient) = (vec![0.0; maps.len()], draw(4, maps.len()));
        let kept = norm.forward(&maps, &mut out);
        let gradients = norm.backward(&maps, &kept, &mut gradient);
        Ok([out, gradient, gradients.weight, gradients.bias].concat())
    });
}
