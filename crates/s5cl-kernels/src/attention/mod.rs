//! Self-attention of the tokens of each image, with its way back.
//!
//! An image's heads are computed one after the other on one thread, so that a head's scores, which
//! are never stored, stay in its cache. The way back computes them once more.

#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;
mod scores;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::conv2d::weight_gradient::{Part, Run, Runs};
use crate::panels::Panels;
use crate::product::{Finish, Product, Segment};
use crate::{scratch, simd};
use scores::{ScoreGradients, Softmax};

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
}

impl Rows {
    fn starts(self, n: usize) -> Vec<usize> {
        (0..n).map(|row| self.first + row * self.step).collect()
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
        })
    }

    /// Of what a head gives.
    fn results(self, head: usize) -> Rows {
        Rows { first: head * self.head_dim(), step: self.dim }
    }

    /// Writes rows of `dim` values.
    pub(crate) fn forward(self, maps: &[f32], out: &mut [f32]) {
        let images = maps.par_chunks(self.n_tokens * 3 * self.dim);
        out.par_chunks_mut(self.n_tokens * self.dim).zip(images).for_each(|(out, image)| {
            scratch::with(self.n_tokens * self.n_tokens, |scores| {
                for head in 0..self.n_heads {
                    let [_, _, value] = self.operands(head);
                    self.weights(image, head, scores);
                    let value = self.upright(image, value);
                    self.multiply(scores, self.of_scores(), &value, out, self.results(head));
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
                let n_scores = self.n_tokens * self.n_tokens;
                scratch::with(2 * n_scores, |scores| {
                    let (weights, of_weights) = scores.split_at_mut(n_scores);
                    for head in 0..self.n_heads {
                        self.weights(image, head, weights);
                        self.head_backward(image, gradient, head, (weights, of_weights), out);
                    }
                });
            },
        );
    }

    /// Softmax of a head's scores, a row for each query.
    fn weights(self, image: &[f32], head: usize, scores: &mut [f32]) {
        let [query, key, _] = self.operands(head);
        let key = self.turned(image, key);
        self.multiply(image, query, &key, scores, self.of_scores());
        let (n_tokens, scale) = (self.n_tokens, self.scale());
        simd::dispatch(Softmax { scores, n_tokens, scale });
    }

    fn head_backward(
        self,
        image: &[f32],
        gradient: &[f32],
        head: usize,
        (weights, of_weights): (&[f32], &mut [f32]),
        out: &mut [f32],
    ) {
        let ([query, key, value], result) = (self.operands(head), self.results(head));
        self.multiply_turned(weights, (gradient, result), out, value);
        let values = self.turned(image, value);
        self.multiply(gradient, result, &values, of_weights, self.of_scores());
        // From here on they are the gradients of the scores, before softmax.
        let (n_tokens, scale) = (self.n_tokens, self.scale());
        simd::dispatch(ScoreGradients { weights, of_weights, n_tokens, scale });
        let keys = self.upright(image, key);
        self.multiply(of_weights, self.of_scores(), &keys, out, query);
        self.multiply_turned(of_weights, (image, query), out, key);
    }

    fn of_scores(self) -> Rows {
        Rows { first: 0, step: self.n_tokens }
    }

    /// `out = left * right`, over as many rows as there are tokens.
    fn multiply(self, left: &[f32], of_left: Rows, right: &Panels, out: &mut [f32], to: Rows) {
        Product {
            lhs: left,
            lhs_rows: &of_left.starts(self.n_tokens),
            segments: &[Segment { lhs: 0, rhs: 0, depth: right.depth() }],
            rhs: right,
            out,
            out_rows: &to.starts(self.n_tokens),
            finish: Finish::OVERWRITE,
            first_affine: 0,
        }
        .run();
    }

    /// `out = weights^T * right`, a row of a head for each token.
    fn multiply_turned(
        self,
        weights: &[f32],
        (right, of_right): (&[f32], Rows),
        out: &mut [f32],
        to: Rows,
    ) {
        let (n_tokens, head_dim) = (self.n_tokens, self.head_dim());
        scratch::with(n_tokens * head_dim, |sums| {
            sums.fill(0.0);
            let run = Run { maps: 0, gradient: of_right.first, len: n_tokens };
            let runs = Runs { runs: vec![run], maps_step: n_tokens, gradient_step: of_right.step };
            simd::dispatch(Part {
                maps: weights,
                gradient: right,
                first_input: 0,
                first_output: 0,
                runs,
                sums: &mut *sums,
                outputs: head_dim,
            });
            for (row, sums) in to.starts(n_tokens).into_iter().zip(sums.chunks_exact(head_dim)) {
                out[row..row + head_dim].copy_from_slice(sums);
            }
        });
    }

    /// A head's rows as the right operand.
    fn upright(self, image: &[f32], rows: Rows) -> Panels {
        let mut panels = Panels::new(simd::arch(), self.n_tokens, self.head_dim());
        let width = panels.width();
        for (first, panel) in panels.panels_mut() {
            let n_cols = width.min(self.head_dim() - first);
            for (to, row) in panel.chunks_exact_mut(width).zip(rows.starts(self.n_tokens)) {
                to[..n_cols].copy_from_slice(&image[row + first..][..n_cols]);
            }
        }
        panels
    }

    /// A head's rows as the columns of the right operand.
    fn turned(self, image: &[f32], rows: Rows) -> Panels {
        let mut panels = Panels::new(simd::arch(), self.head_dim(), self.n_tokens);
        let width = panels.width();
        let starts = rows.starts(self.n_tokens);
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
