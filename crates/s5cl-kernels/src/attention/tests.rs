//! Attention against its formula in f64.

use super::Attention;
use crate::checks::{assert_close, draw, same_on_any_threads};
use crate::simd::with_each_instruction_set;

/// Sums over tokens and softmax in f32.
const ERROR: f64 = 4e-6;

/// The result and the gradient of the maps.
fn reference(attention: Attention, maps: &[f32], above: &[f32]) -> [Vec<f64>; 2] {
    let Attention { n_tokens: n, n_heads, dim } = attention;
    let head_dim = dim / n_heads;
    let scale = (head_dim as f64).sqrt().recip();
    let (mut out, mut of_maps) = (vec![0.0; above.len()], vec![0.0; maps.len()]);
    for image in 0..maps.len() / (n * 3 * dim) {
        for head in 0..n_heads {
            let at = |part: usize, token: usize, d: usize| {
                ((image * n + token) * 3 + part) * dim + head * head_dim + d
            };
            let result = |token: usize, d: usize| (image * n + token) * dim + head * head_dim + d;
            let value = |part, token, d| f64::from(maps[at(part, token, d)]);
            let above = |token, d| f64::from(above[result(token, d)]);
            for i in 0..n {
                let dot = |j| (0..head_dim).map(|d| value(0, i, d) * value(1, j, d)).sum::<f64>();
                let scores: Vec<f64> = (0..n).map(|j| dot(j) * scale).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = powers.iter().sum();
                let weights: Vec<f64> = powers.iter().map(|p| p / total).collect();
                let of_weight =
                    |j| (0..head_dim).map(|d| above(i, d) * value(2, j, d)).sum::<f64>();
                let of_weights: Vec<f64> = (0..n).map(of_weight).collect();
                let mean: f64 = weights.iter().zip(&of_weights).map(|(w, g)| w * g).sum();
                for j in 0..n {
                    let of_score = scale * weights[j] * (of_weights[j] - mean);
                    for d in 0..head_dim {
                        out[result(i, d)] += weights[j] * value(2, j, d);
                        of_maps[at(0, i, d)] += of_score * value(1, j, d);
                        of_maps[at(1, j, d)] += of_score * value(0, i, d);
                        of_maps[at(2, j, d)] += weights[j] * above(i, d);
                    }
                }
            }
        }
    }
    [out, of_maps]
}

#[test]
fn attention_is_the_formula() {
    for (batch, n_tokens, n_heads, dim) in [
        (1, 1, 1, 4),
        (2, 5, 3, 24),
        (3, 17, 2, 10),
        (1, 50, 1, 64),
        (1, 70, 2, 34),
        (1, 300, 1, 16),
    ] {
        let attention = Attention { n_tokens, n_heads, dim };
        let scaled = |x: f32| 3.0 * x;
        let maps: Vec<f32> = draw(1, batch * n_tokens * 3 * dim).into_iter().map(scaled).collect();
        let above = draw(2, batch * n_tokens * dim);
        let [expected, of_maps] = reference(attention, &maps, &above);
        with_each_instruction_set(|| {
            let mut out = vec![f32::NAN; above.len()];
            attention.forward(&maps, &mut out);
            assert_close(&format!("{attention:?}"), &out, &expected, ERROR);
            let mut gradient = vec![f32::NAN; maps.len()];
            attention.backward(&maps, &above, &mut gradient);
            if n_tokens > 1 {
                assert_close(&format!("{attention:?}'s gradient"), &gradient, &of_maps, ERROR);
            }
        });
    }
}

#[test]
fn attention_of_large_scores_is_finite() {
    let attention = Attention { n_tokens: 3, n_heads: 1, dim: 2 };
    for factor in [1e4, 1e8, 1e15] {
        let maps: Vec<f32> = draw(1, 18).into_iter().map(|x| factor * x).collect();
        let mut out = vec![f32::NAN; 6];
        attention.forward(&maps, &mut out);
        assert!(out.iter().all(|value| value.is_finite()), "{out:?}");
    }
}

#[test]
fn attention_shows_a_score_that_is_no_number() {
    let attention = Attention { n_tokens: 3, n_heads: 1, dim: 1 };
    // The first query times the second key is no number; all values are.
    let maps = [0.0, 1.0, 1.0, 1.0, f32::INFINITY, 1.0, 1.0, 1.0, 1.0];
    with_each_instruction_set(|| {
        let mut out = [0.0; 3];
        attention.forward(&maps, &mut out);
        assert!(out[0].is_nan(), "{out:?}");
    });
}

#[test]
fn attention_has_the_same_bits_on_any_threads() {
    let attention = Attention { n_tokens: 19, n_heads: 2, dim: 12 };
    let (maps, above) = (draw(1, 5 * 19 * 36), draw(2, 5 * 19 * 12));
    same_on_any_threads(|| {
        let (mut out, mut gradient) = (vec![0.0; above.len()], vec![0.0; maps.len()]);
        attention.forward(&maps, &mut out);
        attention.backward(&maps, &above, &mut gradient);
        Ok([out, gradient].concat())
    });
}
