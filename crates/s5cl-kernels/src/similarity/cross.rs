//! Queries against keys: loss and gradients.

use super::cross_tile::{Affinities, CrossPowers, CrossPull, Queries, Related};
use super::pack::{Embeddings, RowPanels, panels_len};
use super::plan::{CrossPlan, add_rows, width};
use super::relation::{Relation, RowSums};
use super::schedule::{Parts, Workspaces, for_each_crossing};
use super::tile::{BLOCK, EXCLUDED, Operands, STRIDE, TileProduct};
use crate::simd::dispatch;

/// Queries and keys with what the loss needs to know of each.
pub(super) struct Cross<'a> {
    pub(super) dim: usize,
    pub(super) queries: &'a [f32],
    pub(super) keys: &'a [f32],
    /// Of each query.
    pub(super) temperatures: &'a [f64],
    /// Of each query; `None` is the mean over the queries that have a loss.
    pub(super) query_weights: Option<&'a [f32]>,
    /// Of each key, its share in every softmax sum.
    pub(super) key_weights: Option<&'a [f32]>,
    /// Of each query, the index of the key that it leaves out, if there is such a key.
    pub(super) excluded: Option<&'a [u32]>,
    pub(super) relation: Relation<'a>,
}

impl Cross<'_> {
    /// The loss, and its gradients added to where there is a place for them.
    pub(super) fn loss(
        &self,
        query_gradient: Option<&mut [f32]>,
        key_gradient: Option<&mut [f32]>,
    ) -> f64 {
        let Self { dim, queries, keys, temperatures, .. } = *self;
        let (n_queries, n_keys) = (temperatures.len(), keys.len() / dim);
        let log2 = |weight: f32| if weight > 0.0 { weight.log2() } else { EXCLUDED };
        let mut bias =
            self.key_weights.map_or(vec![0.0; n_keys], |w| w.iter().map(|&w| log2(w)).collect());
        bias.resize(n_keys.next_multiple_of(BLOCK), EXCLUDED);
        let scale = |temperature: &f64| (std::f64::consts::LOG2_E / temperature) as f32;
        let scales: Vec<f32> = temperatures.iter().map(scale).collect();
        let ones = vec![1.0; n_queries.max(n_keys)];
        let workspace = Workspace::bytes(dim, self.relation.n_classes());
        let plan =
            CrossPlan::new([n_queries, n_keys], dim, rayon::current_num_threads(), workspace);
        let tiles = Tiles {
            cross: self,
            plan,
            related: Related::new(self.relation, &ones),
            queries: RowPanels::new(
                Embeddings { values: queries, dim, factors: &scales },
                plan.has_panels[0],
            ),
            keys: RowPanels::new(
                Embeddings { values: keys, dim, factors: &ones[..n_keys] },
                plan.has_panels[1],
            ),
            raw_queries: Embeddings { values: queries, dim, factors: &ones[..n_queries] },
            bias,
            workspaces: Workspaces::new(),
        };
        let sums = tiles.row_sums();
        let losses: Vec<Option<f64>> = sums.iter().map(RowSums::loss).collect();
        let mean = 1.0 / losses.iter().flatten().count().max(1) as f64;
        let weight = |query: usize| self.query_weights.map_or(mean, |w| f64::from(w[query]));
        if query_gradient.is_some() || key_gradient.is_some() {
            let mut of_queries = Queries::new(n_queries);
            for (i, sums) in sums.iter().enumerate().filter(|(i, _)| losses[*i].is_some()) {
                let weight = weight(i) / temperatures[i];
                of_queries.max[i] = sums.softmax.max;
                of_queries.shares[i] = (weight / sums.softmax.sum) as f32;
                of_queries.pulls[i] = (weight / sums.affinity) as f32;
            }
            tiles.add_gradients(&of_queries, query_gradient, key_gradient);
        }
        losses.iter().enumerate().map(|(i, loss)| loss.map_or(0.0, |loss| weight(i) * loss)).sum()
    }
}

/// What a task works in.
struct Workspace {
    sums: [RowSums; BLOCK],
    tile: Vec<f32>,
    affinities: Affinities,
    /// The panels of queries and keys, where they are not kept.
    panels: [Vec<f32>; 2],
    /// Rows for a product, and the product.
    rows: [Vec<f32>; 2],
}

impl Workspace {
    fn new(dim: usize) -> Self {
        let rows = || vec![0.0; BLOCK * width(dim)];
        Self {
            sums: [RowSums::EMPTY; BLOCK],
            tile: vec![0.0; BLOCK * STRIDE],
            affinities: Affinities::new(),
            panels: [Vec::new(), Vec::new()],
            rows: [rows(), rows()],
        }
    }

    /// At most, where panels are not kept; those of shares of classes never are.
    fn bytes(dim: usize, n_classes: usize) -> usize {
        let panels = panels_len(BLOCK, dim) + panels_len(BLOCK, n_classes);
        let values = 2 * BLOCK * STRIDE + 2 * BLOCK * width(dim) + 2 * panels;
        size_of::<Self>() + values * size_of::<f32>()
    }
}

/// The tiles of a problem.
struct Tiles<'a> {
    cross: &'a Cross<'a>,
    plan: CrossPlan,
    related: Related<'a>,
    queries: RowPanels<'a>,
    keys: RowPanels<'a>,
    /// The queries not divided by their temperatures.
    raw_queries: Embeddings<'a>,
    bias: Vec<f32>,
    workspaces: Workspaces<Workspace>,
}

impl Tiles<'_> {
    fn row_sums(&self) -> Vec<RowSums> {
        let mut sums = vec![RowSums::EMPTY; self.raw_queries.len()];
        let block = self.plan.blocks[0];
        let blocks = Parts::new(sums.chunks_mut(block));
        self.for_each(|rows, cols, workspace| {
            self.fill(rows, cols, workspace);
            for (sum, part) in blocks.take(rows.0 / block).iter_mut().zip(&workspace.sums) {
                sum.add(*part);
            }
        });
        drop(blocks);
        sums
    }

    fn add_gradients(
        &self,
        of_queries: &Queries,
        query_gradient: Option<&mut [f32]>,
        key_gradient: Option<&mut [f32]>,
    ) {
        let (queries, keys) = (self.raw_queries, self.keys.embeddings);
        let dim = queries.dim;
        let blocks = self.plan.blocks;
        let query_gradient = query_gradient.map(|g| Parts::new(g.chunks_mut(blocks[0] * dim)));
        let key_gradient = key_gradient.map(|g| Parts::new(g.chunks_mut(blocks[1] * dim)));
        self.for_each(|rows, cols, workspace| {
            self.fill(rows, cols, workspace);
            let Workspace { tile, affinities, rows: [right, product], .. } = workspace;
            let affinities = &affinities.tile;
            dispatch(CrossPull { tile, affinities, queries: of_queries, rows, n_cols: cols.1 });
            for (side, gradient) in [&query_gradient, &key_gradient].into_iter().enumerate() {
                let Some(gradient) = gradient else { continue };
                let is_transposed = side == 1;
                let (to, from, values) =
                    if is_transposed { (cols, rows, queries) } else { (rows, cols, keys) };
                values.pack_rows(from.0, from.1, width(dim), right);
                dispatch(TileProduct {
                    out: product,
                    rows: to.1,
                    width: width(dim),
                    tile,
                    is_transposed,
                    right,
                    depth: from.1,
                });
                add_rows(&mut gradient.take(to.0 / blocks[side]), product, dim);
            }
        });
    }

    /// Calls a task with start and length of the rows and of the columns of every tile.
    fn for_each(&self, task: impl Fn((usize, usize), (usize, usize), &mut Workspace) + Sync) {
        let (n_queries, n_keys) = (self.raw_queries.len(), self.keys.embeddings.len());
        let dim = self.raw_queries.dim;
        let CrossPlan { blocks: [left, right], n_blocks: [n_left, n_right], at_once, .. } =
            self.plan;
        for_each_crossing(n_left, n_right, at_once, |i, j| {
            let range = |at: usize, block: usize, n: usize| (at * block, block.min(n - at * block));
            let (rows, cols) = (range(i, left, n_queries), range(j, right, n_keys));
            self.workspaces.with(|| Workspace::new(dim), |workspace| task(rows, cols, workspace));
        });
    }

    /// Fills a tile with exponents, its affinities, and the sums of its rows.
    fn fill(&self, rows: (usize, usize), cols: (usize, usize), workspace: &mut Workspace) {
        let Workspace { sums, tile, affinities, panels: [left, right], .. } = workspace;
        let excluded = self.cross.excluded.map(|excluded| &excluded[rows.0..rows.0 + rows.1]);
        affinities.fill(&self.related, rows, cols, excluded);
        let (left, right) = (self.queries.of(rows, left), self.keys.of(cols, right));
        let operands = Operands { left, right, dim: self.cross.dim, rows: rows.1, cols: cols.1 };
        dispatch(CrossPowers {
            operands,
            affinities: &affinities.tile,
            bias: &self.bias[cols.0..],
            first: cols.0,
            excluded,
            tile,
            sums,
        });
    }
}
