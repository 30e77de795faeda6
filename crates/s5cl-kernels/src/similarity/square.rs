//! Every row against every other: loss and gradient of one segment.

use super::Reduction;
use super::accurate::sum;
use super::classes::Classes;
use super::kept::Kept;
use super::pack::{Embeddings, RowPanels, inverse_norm, is_normalized, norms};
use super::plan::{Plan, Workspace, add_rows, width};
use super::powers::{Powers, Shift, TileSums};
use super::pull::{Anchors, Pull};
use super::schedule::{Parts, Workspaces, for_each_pair};
use super::tile::{Operands, Sum, TileProduct};
use crate::simd::dispatch;

/// What one segment gives, before its weight.
pub(super) struct Outcome {
    pub(super) loss: f64,
    /// The loss of each anchor; 0 where it has no positive.
    pub(super) anchor_losses: Vec<f64>,
    /// `dL/dt`; 0 unless a gradient was asked for.
    pub(super) temperature_gradient: f64,
}

/// Loss of the rows `values`, `[n, dim]`, and its gradient if there is a place for it.
pub(super) fn contrast(
    values: &[f32],
    dim: usize,
    labels: &[u32],
    temperature: f64,
    reduction: Reduction,
    gradient: Option<&mut [f32]>,
) -> Outcome {
    let norms = norms(values, dim);
    let factors: Vec<f32> = norms.iter().map(|&norm| inverse_norm(norm) as f32).collect();
    let embeddings = Embeddings { values, dim, factors: &factors };
    let plan = Plan::new(labels.len(), dim, rayon::current_num_threads(), gradient.is_some());
    let mut memory = Vec::with_capacity(plan.kept_len());
    let square = Square {
        embeddings,
        plan,
        panels: RowPanels::new(embeddings, plan.has_panels),
        scale: (std::f64::consts::LOG2_E / temperature) as f32,
        shift: Shift::at(temperature),
        kept: Parts::new(
            memory.spare_capacity_mut().chunks_exact_mut(plan.tile_len()).map(Kept::Empty),
        ),
        workspaces: Workspaces::new(),
    };
    let sums = square.softmax_sums();
    let classes = Classes::of(labels);
    let means = classes.mean_similarities(embeddings);
    let loss_of =
        |(mean, sum): (&Option<f64>, &Sum)| mean.map(|mean| sum.ln() - mean / temperature);
    let losses: Vec<Option<f64>> = means.iter().zip(&sums).map(loss_of).collect();
    let weights = reduction.anchor_weights(&losses, classes.len());
    let scale = reduction.scale(&weights, temperature);
    let total: f64 = weights.iter().zip(&losses).map(|(w, loss)| w * loss.unwrap_or(0.0)).sum();
    let loss = if norms.iter().all(|norm| norm.is_finite()) { scale * total } else { f64::NAN };
    let temperature_gradient = gradient.map_or(0.0, |gradient| {
        let anchors = anchors(labels, &classes, &weights, &sums);
        square.add_gradient(&anchors, gradient);
        // The factor of the chain rule, and what makes the gradient of a batch that is not
        // finite so too.
        let factor = if loss.is_finite() { scale / temperature } else { f64::NAN };
        let product = square.finish_gradient(gradient, &norms, factor);
        reduction.temperature_gradient(loss, temperature) - product / (2.0 * temperature)
    });
    let anchor_losses = losses.into_iter().map(|loss| loss.unwrap_or(0.0)).collect();
    Outcome { loss, anchor_losses, temperature_gradient }
}

/// What the gradient needs of the anchors.
fn anchors(labels: &[u32], classes: &Classes, weights: &[f64], sums: &[Sum]) -> Anchors {
    let mut anchors = Anchors::new(labels);
    for class in classes.iter() {
        let pull = 1.0 / (class.len() - 1).max(1) as f64;
        for row in class.iter().map(|&row| row as usize).filter(|&row| weights[row] > 0.0) {
            anchors.max[row] = sums[row].max;
            anchors.shares[row] = (weights[row] / sums[row].sum) as f32;
            anchors.pulls[row] = (weights[row] * pull) as f32;
        }
    }
    anchors
}

/// Rows that meet each other.
struct Square<'a> {
    embeddings: Embeddings<'a>,
    plan: Plan,
    panels: RowPanels<'a>,
    /// `log2(e) / t`.
    scale: f32,
    shift: Shift,
    /// Tiles that the backward pass finds as the forward pass left them.
    kept: Parts<Kept<'a>>,
    workspaces: Workspaces<Workspace>,
}

impl Square<'_> {
    /// The sum of `exp(s_ij / t)` over all `j` but `i`, for each row.
    fn softmax_sums(&self) -> Vec<Sum> {
        let n = self.embeddings.len();
        let mut sums = vec![Sum::EMPTY; n];
        let blocks = Parts::new(sums.chunks_mut(self.plan.block));
        self.for_each_tile(|i, j, workspace| {
            self.with_tile(i, j, workspace, |_, tile, workspace| {
                self.fill(i, j, tile, workspace);
                let TileSums { rows, cols } = &workspace.sums;
                let parts = [(i, rows), (j, cols)];
                for (block, parts) in &parts[..if i == j { 1 } else { 2 }] {
                    for (sum, part) in blocks.take(*block).iter_mut().zip(*parts) {
                        sum.add(*part);
                    }
                }
            });
        });
        drop(blocks);
        sums
    }

    /// Adds `sum over j of W_ij z_j` to row `i` of the gradient.
    fn add_gradient(&self, anchors: &Anchors, gradient: &mut [f32]) {
        let Self { embeddings, plan, shift, .. } = self;
        let dim = embeddings.dim;
        let blocks = Parts::new(gradient.chunks_mut(plan.block * dim));
        self.for_each_tile(|i, j, workspace| {
            let (rows, cols) = (self.rows_of(i), self.rows_of(j));
            self.with_tile(i, j, workspace, |is_filled, tile, workspace| {
                if !is_filled {
                    self.fill(i, j, tile, workspace);
                }
                dispatch(Pull { tile, anchors, shift: *shift, rows, cols });
                for (packed, (start, count)) in workspace.rows.iter_mut().zip([rows, cols]) {
                    embeddings.pack_rows(start, count, width(dim), packed);
                }
                for (block, is_transposed) in [(i, false), (j, true)] {
                    if is_transposed && i == j {
                        continue;
                    }
                    let (to, from) =
                        if is_transposed { (cols.1, rows.1) } else { (rows.1, cols.1) };
                    dispatch(TileProduct {
                        out: &mut workspace.product,
                        rows: to,
                        width: width(dim),
                        tile,
                        is_transposed,
                        right: &workspace.rows[usize::from(!is_transposed)],
                        depth: from,
                    });
                    add_rows(&mut blocks.take(block), &workspace.product, dim);
                }
            });
        });
    }

    /// Turns the sums for unit rows into the gradient for the rows as they came, times `factor`;
    /// returns `sum over i of z_i . dL/dz_i`.
    fn finish_gradient(&self, gradient: &mut [f32], norms: &[f64], factor: f64) -> f64 {
        let Embeddings { dim, factors, .. } = self.embeddings;
        let mut total = 0.0;
        dispatch(
            #[inline(always)]
            || {
                for (index, row) in gradient.chunks_exact_mut(dim).enumerate() {
                    let (values, unit, norm) =
                        (self.embeddings.row(index), factors[index], norms[index]);
                    let product = sum(values, row, |x, g| f64::from(x * unit) * f64::from(g));
                    total += product;
                    // Normalization takes away what lies along the row, unless the row is too short.
                    let along = if is_normalized(norm) { product } else { 0.0 };
                    let factor = factor * inverse_norm(norm);
                    for (g, x) in row.iter_mut().zip(values) {
                        *g = ((f64::from(*g) - along * f64::from(x * unit)) * factor) as f32;
                    }
                }
            },
        );
        factor * total
    }

    fn rows_of(&self, block: usize) -> (usize, usize) {
        self.plan.rows_of(block, self.embeddings.len())
    }

    fn for_each_tile(&self, task: impl Fn(usize, usize, &mut Workspace) + Sync) {
        let make = || Workspace::new(&self.plan, self.embeddings.dim);
        for_each_pair(self.plan.n_blocks, self.plan.at_once, |i, j| {
            self.workspaces.with(make, |workspace| task(i, j, workspace));
        });
    }

    /// Hands out the kept tile of two blocks, and whether it is filled; or a fresh one.
    fn with_tile(
        &self,
        i: usize,
        j: usize,
        workspace: &mut Workspace,
        work: impl FnOnce(bool, &mut [f32], &mut Workspace),
    ) {
        let index = j * (j + 1) / 2 + i;
        if index < self.plan.n_kept {
            let mut kept = self.kept.take(index);
            let is_filled = kept.is_filled();
            work(is_filled, kept.values(), workspace);
        } else {
            let mut tile = std::mem::take(&mut workspace.tile);
            work(false, &mut tile, workspace);
            workspace.tile = tile;
        }
    }

    /// Fills a tile with the powers of two blocks, and the workspace with their sums.
    fn fill(&self, i: usize, j: usize, tile: &mut [f32], workspace: &mut Workspace) {
        let Self { embeddings: Embeddings { dim, .. }, scale, shift, .. } = *self;
        let Workspace { sums, panels: [left, right], .. } = workspace;
        let (of_rows, of_cols) = (self.rows_of(i), self.rows_of(j));
        let (left, right) = (self.panels.of(of_rows, left), self.panels.of(of_cols, right));
        let (rows, cols) = (of_rows.1, of_cols.1);
        let operands = Operands { left, right, dim, rows, cols };
        dispatch(Powers { operands, scale, shift, is_diagonal: i == j, tile, sums });
    }
}
