//! Self-attention of the tokens of each image, with its way back.
//!
//! An image's heads are computed one after the other on one thread, some queries at a time, so that
//! their scores, which are never stored, stay in its cache. The way back computes them once more.

#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;
mod scores;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

use crate::conv2d::weight_gradient::{Part, Run, Runs};
use crate::panels::Panels;
use crate::product::{Finish, Product, Segment};
use crate::{scratch, simd};
use scores::{ScoreGradients, Softmax};

/// Queries whose scores are held at a time: all of those of an image of 256 patches.
const BLOCK_QUERIES: usize = 288;

/// Attention over rows `[query, key, value]` of `3 * dim` values, `n_tokens` rows an image; each of
/// the three is cut into heads.
///
/// ```text
/// out_i = sum_j softmax_j(q_i . k_j / sqrt(dim / n_heads)) v_j
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    pub(crate) n_tokens: usize,
    pub(crate) n_heads: usize,
    pub(crate) dim: usize,
}

/// Rows of one head within those of an image.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    step: usize,
    n: usize,
}

impl Rows {
    fn starts(self) -> impl Iterator<Item = usize> {
        (0..self.n).map(move |row| self.first + row * self.step)
    }

    fn part(self, rows: &Range<usize>) -> Self {
        Self { first: self.first + rows.start * self.step, n: rows.len(), ..self }
    }
}

impl Attention {
    fn head_dim(self) -> usize {
        self.dim / self.n_heads
    }

    /// Of the scores' softmax.
    fn scale(self) -> f32 {
        (self.head_dim() as f32).sqrt().recip()
    }

    /// Query, key and value of a head.
    fn operands(self, head: usize) -> [Rows; 3] {
        [0, 1, 2].map(|part| Rows {
            first: part * self.dim + head * self.head_dim(),
            step: 3 * self.dim,
            n: self.n_tokens,
        })
    }

    /// Of what a head gives.
    fn results(self, head: usize) -> Rows {
        Rows { first: head * self.head_dim(), step: self.dim, n: self.n_tokens }
    }

    /// Writes rows of `dim` values.
    pub(crate) fn forward(self, maps: &[f32], out: &mut [f32]) {
        let images = maps.par_chunks(self.n_tokens * 3 * self.dim);
        out.par_chunks_mut(self.n_tokens * self.dim).zip(images).for_each(|(out, image)| {
            scratch::with(self.n_scores(), |scores| {
                for head in 0..self.n_heads {
                    let [query, key, value] = self.operands(head);
                    let (keys, values) = (self.turned(image, key), self.upright(image, value));
                    for queries in self.blocks() {
                        let scores = &mut scores[..queries.len() * self.n_tokens];
                        self.weights(image, query.part(&queries), &keys, scores);
                        let to = self.results(head).part(&queries);
                        multiply(scores, self.of_scores(&queries), &values, out, to);
                    }
                }
            });
        });
    }

    /// Writes the gradient of the maps.
    pub(crate) fn backward(self, maps: &[f32], gradient: &[f32], out: &mut [f32]) {
        let images = maps.par_chunks(self.n_tokens * 3 * self.dim);
        let images = images.zip(gradient.par_chunks(self.n_tokens * self.dim));
        out.par_chunks_mut(self.n_tokens * 3 * self.dim).zip(images).for_each(
            |(out, (image, gradient))| {
                let sums = self.n_tokens * self.head_dim();
                scratch::with(2 * (self.n_scores() + sums), |room| {
                    for head in 0..self.n_heads {
                        self.head_backward(image, gradient, head, room, out);
                    }
                });
            },
        );
    }

    fn head_backward(
        self,
        image: &[f32],
        gradient: &[f32],
        head: usize,
        room: &mut [f32],
        out: &mut [f32],
    ) {
        let ([query, key, value], result) = (self.operands(head), self.results(head));
        let (turned_keys, keys) = (self.turned(image, key), self.upright(image, key));
        let turned_values = self.turned(image, value);
        let (scores, sums) = room.split_at_mut(2 * self.n_scores());
        sums.fill(0.0);
        let (of_keys, of_values) = sums.split_at_mut(sums.len() / 2);
        for queries in self.blocks() {
            let len = queries.len() * self.n_tokens;
            let (weights, rest) = scores.split_at_mut(len);
            let of_weights = &mut rest[..len];
            let (own_query, own_result) = (query.part(&queries), result.part(&queries));
            self.weights(image, own_query, &turned_keys, weights);
            self.add_turned(weights, (gradient, own_result), of_values);
            let of_scores = self.of_scores(&queries);
            multiply(gradient, own_result, &turned_values, of_weights, of_scores);
            // From here on they are the gradients of the scores, before softmax.
            let (n_tokens, scale) = (self.n_tokens, self.scale());
            simd::dispatch(ScoreGradients { weights, of_weights, n_tokens, scale });
            multiply(of_weights, of_scores, &keys, out, own_query);
            self.add_turned(of_weights, (image, own_query), of_keys);
        }
        for (rows, sums) in [(key, of_keys), (value, of_values)] {
            for (row, sums) in rows.starts().zip(sums.chunks_exact(self.head_dim())) {
                out[row..row + self.head_dim()].copy_from_slice(sums);
            }
        }
    }

    /// Softmax of the scores of some queries, a row for each.
    fn weights(self, image: &[f32], queries: Rows, keys: &Panels, scores: &mut [f32]) {
        let to = Rows { first: 0, step: self.n_tokens, n: queries.n };
        multiply(image, queries, keys, scores, to);
        let (n_tokens, scale) = (self.n_tokens, self.scale());
        simd::dispatch(Softmax { scores, n_tokens, scale });
    }

    /// Queries whose scores are held at a time.
    fn blocks(self) -> impl Iterator<Item = Range<usize>> {
        let n_tokens = self.n_tokens;
        let block = move |first: usize| first..(first + BLOCK_QUERIES).min(n_tokens);
        (0..n_tokens).step_by(BLOCK_QUERIES).map(block)
    }

    /// Scores that are held at a time.
    fn n_scores(self) -> usize {
        BLOCK_QUERIES.min(self.n_tokens) * self.n_tokens
    }

    fn of_scores(self, queries: &Range<usize>) -> Rows {
        Rows { first: 0, step: self.n_tokens, n: queries.len() }
    }

    /// `sums += weights^T * right`, a row of a head for each token.
    fn add_turned(self, weights: &[f32], (right, rows): (&[f32], Rows), sums: &mut [f32]) {
        let run = Run { maps: 0, gradient: rows.first, len: rows.n };
        let runs = Runs { runs: vec![run], maps_step: self.n_tokens, gradient_step: rows.step };
        simd::dispatch(Part {
            maps: weights,
            gradient: right,
            first_input: 0,
            first_output: 0,
            runs,
            sums,
            outputs: self.head_dim(),
        });
    }

    /// A head's rows as the right operand.
    fn upright(self, image: &[f32], rows: Rows) -> Panels {
        let mut panels = Panels::new(simd::arch(), self.n_tokens, self.head_dim());
        let width = panels.width();
        for (first, panel) in panels.panels_mut() {
            let n_cols = width.min(self.head_dim() - first);
            for (to, row) in panel.chunks_exact_mut(width).zip(rows.starts()) {
                to[..n_cols].copy_from_slice(&image[row + first..][..n_cols]);
            }
        }
        panels
    }

    /// A head's rows as the columns of the right operand.
    fn turned(self, image: &[f32], rows: Rows) -> Panels {
        let mut panels = Panels::new(simd::arch(), self.head_dim(), self.n_tokens);
        let width = panels.width();
        let starts: Vec<usize> = rows.starts().collect();
        for (first, panel) in panels.panels_mut() {
            let n_cols = width.min(self.n_tokens - first);
            for (col, &row) in starts[first..first + n_cols].iter().enumerate() {
                for (depth, &value) in image[row..row + self.head_dim()].iter().enumerate() {
                    panel[depth * width + col] = value;
                }
            }
        }
        panels
    }
}

/// `out = left * right`, over rows of the same number.
fn multiply(left: &[f32], of_left: Rows, right: &Panels, out: &mut [f32], to: Rows) {
    Product {
        lhs: left,
        lhs_rows: &of_left.starts().collect::<Vec<_>>(),
        segments: &[Segment { lhs: 0, rhs: 0, depth: right.depth() }],
        rhs: right,
        out,
        out_rows: &to.starts().collect::<Vec<_>>(),
        finish: Finish::OVERWRITE,
        first_affine: 0,
    }
    .run();
}
