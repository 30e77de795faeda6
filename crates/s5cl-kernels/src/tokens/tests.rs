//! Tokens against values computed by hand.

use super::{Shape, TokenPool, tokens_backward, tokens_forward};

const SHAPE: Shape = Shape { n_prefix: 2, n_patches: 3, dim: 2 };
/// One image: class token, register, three patches.
const TOKENS: [f32; 10] = [1.0, 2.0, 50.0, 60.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0];

#[test]
fn tokens_are_pooled_without_registers() {
    let pooled = |pool: TokenPool| {
        let mut out = vec![f32::NAN; pool.width() * SHAPE.dim];
        pool.forward(&TOKENS, &mut out, SHAPE);
        out
    };
    assert_eq!(pooled(TokenPool::Class), [1.0, 2.0]);
    assert_eq!(pooled(TokenPool::Mean), [6.0, 10.0]);
    assert_eq!(pooled(TokenPool::ClassAndMean), [1.0, 2.0, 6.0, 10.0]);
}

#[test]
fn tokens_gradients_go_where_the_values_came_from() {
    let of_tokens = |pool: TokenPool, gradient: &[f32]| {
        let mut out = vec![f32::NAN; TOKENS.len()];
        pool.backward(gradient, &mut out, SHAPE);
        out
    };
    let class = of_tokens(TokenPool::Class, &[3.0, 6.0]);
    assert_eq!(class, [3.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let mean = of_tokens(TokenPool::Mean, &[3.0, 6.0]);
    assert_eq!(mean, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    let both = of_tokens(TokenPool::ClassAndMean, &[7.0, 8.0, 3.0, 6.0]);
    assert_eq!(both, [7.0, 8.0, 0.0, 0.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn tokens_are_made_of_prefix_patches_and_positions() {
    let (patches, prefix, positions) =
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [-1.0, -2.0], [10.0, 20.0, 30.0, 40.0]);
    let mut out = [f32::NAN; 12];
    tokens_forward(&patches, &prefix, &positions, &mut out);
    assert_eq!(out, [-1.0, -2.0, 11.0, 22.0, 33.0, 44.0, -1.0, -2.0, 15.0, 26.0, 37.0, 48.0]);
    let mut of_patches = [f32::NAN; 8];
    let gradient: Vec<f32> = (0..12_u8).map(f32::from).collect();
    let (of_prefix, of_positions) = tokens_backward(&gradient, (2, 4), &mut of_patches);
    assert_eq!(of_prefix, [6.0, 8.0]);
    assert_eq!(of_positions, [10.0, 12.0, 14.0, 16.0]);
    assert_eq!(of_patches, [2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 10.0, 11.0]);
}
