//! A tile of queries and keys on its way to losses and gradients.

use pulp::{Simd, WithSimd};

use super::pack::{Embeddings, RowPanels};
use super::powers::{Exponents, sum_of};
use super::relation::{Relation, RowSums};
use super::tile::{BLOCK, EXCLUDED, Operands, STRIDE};
use crate::exp2::exp2;
use crate::simd::dispatch;

/// How much each key of a tile is a positive of each query.
pub(super) struct Affinities {
    pub(super) tile: Vec<f32>,
    panels: [Vec<f32>; 2],
}

/// The rows behind [`Affinities`]: labels, or shares of classes as panels.
pub(super) enum Related<'a> {
    Labels { queries: &'a [u32], keys: &'a [u32] },
    Shares { queries: RowPanels<'a>, keys: RowPanels<'a> },
}

impl<'a> Related<'a> {
    /// `ones` is at least as long as queries and keys.
    pub(super) fn new(relation: Relation<'a>, ones: &'a [f32]) -> Self {
        let panels = |values: &'a [f32], dim: usize| {
            let embeddings = Embeddings { values, dim, factors: &ones[..values.len() / dim] };
            RowPanels::new(embeddings, false)
        };
        match relation {
            Relation::Labels { queries, keys } => Self::Labels { queries, keys },
            Relation::Shares { queries, keys, n_classes } => {
                Self::Shares { queries: panels(queries, n_classes), keys: panels(keys, n_classes) }
            }
        }
    }
}

impl Affinities {
    pub(super) fn new() -> Self {
        Self { tile: vec![0.0; BLOCK * STRIDE], panels: [Vec::new(), Vec::new()] }
    }

    /// Computes the affinities of a tile; those with an excluded key and behind the last are 0.
    pub(super) fn fill(
        &mut self,
        related: &Related<'_>,
        rows: (usize, usize),
        cols: (usize, usize),
        excluded: Option<&[u32]>,
    ) {
        let Self { tile, panels: [left, right] } = self;
        match related {
            Related::Labels { queries, keys } => {
                let keys = &keys[cols.0..cols.0 + cols.1];
                let queries = &queries[rows.0..rows.0 + rows.1];
                dispatch(
                    #[inline(always)]
                    || {
                        for (query, row) in queries.iter().zip(tile.chunks_exact_mut(STRIDE)) {
                            let (row, behind) = row.split_at_mut(keys.len());
                            for (affinity, key) in row.iter_mut().zip(keys) {
                                *affinity = f32::from(u8::from(query == key));
                            }
                            behind.fill(0.0);
                        }
                    },
                );
            }
            Related::Shares { queries, keys } => {
                let (left, right) = (queries.of(rows, left), keys.of(cols, right));
                let dim = queries.embeddings.dim;
                let operands = Operands { left, right, dim, rows: rows.1, cols: cols.1 };
                dispatch(Products { operands, tile });
            }
        }
        for (row, col) in excluded_places(excluded, cols) {
            tile[row * STRIDE + col] = 0.0;
        }
    }
}

/// The places of a tile that hold an excluded key.
fn excluded_places(
    excluded: Option<&[u32]>,
    (first, count): (usize, usize),
) -> impl Iterator<Item = (usize, usize)> {
    let places = excluded.unwrap_or_default().iter().enumerate();
    places.filter_map(move |(row, &key)| {
        let col = (key as usize).checked_sub(first)?;
        (col < count).then_some((row, col))
    })
}

/// Plain products of two blocks; behind the last row and column they are 0.
struct Products<'a> {
    operands: Operands<'a>,
    tile: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (scale, bias) = (1.0, [0.0; BLOCK]);
        let mut products = Exponents { scale, bias, is_diagonal: false, tile: self.tile };
        self.operands.multiply(simd, &mut products);
    }
}

/// Fills a tile with exponents of two and sums its rows.
pub(super) struct CrossPowers<'a> {
    pub(super) operands: Operands<'a>,
    pub(super) affinities: &'a [f32],
    /// Logarithm to base 2 of the weight of each key of the tile and behind it, [`EXCLUDED`] for 0.
    pub(super) bias: &'a [f32],
    /// Index of the tile's first key.
    pub(super) first: usize,
    /// The key that each row leaves out.
    pub(super) excluded: Option<&'a [u32]>,
    pub(super) tile: &'a mut [f32],
    pub(super) sums: &'a mut [RowSums],
}

impl WithSimd for CrossPowers<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { operands, affinities, bias, first, excluded, tile, sums } = self;
        let (rows, cols) = (operands.rows, operands.cols);
        Products { operands, tile: &mut *tile }.with_simd(simd);
        let n_vectors = cols.div_ceil(S::F32_LANES);
        let bias = &S::as_simd_f32s(bias).0[..n_vectors];
        let lines = tile.chunks_exact_mut(STRIDE).zip(affinities.chunks_exact(STRIDE));
        for ((line, affinities), sums) in lines.zip(&mut sums[..rows]) {
            let line = &mut S::as_mut_simd_f32s(line).0[..n_vectors];
            let affinities = &S::as_simd_f32s(affinities).0[..n_vectors];
            let (mut pull, mut affinity) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
            for n in 0..n_vectors {
                pull = simd.mul_add_e_f32s(line[n], affinities[n], pull);
                affinity = simd.add_f32s(affinity, affinities[n]);
                line[n] = simd.add_f32s(line[n], bias[n]);
            }
            sums.pull = f64::from(simd.reduce_sum_f32s(pull));
            sums.affinity = f64::from(simd.reduce_sum_f32s(affinity));
        }
        for (row, col) in excluded_places(excluded, (first, cols)) {
            tile[row * STRIDE + col] = EXCLUDED;
        }
        for (line, sums) in tile.chunks_exact(STRIDE).zip(&mut sums[..rows]) {
            sums.softmax = sum_of(simd, &S::as_simd_f32s(line).0[..n_vectors]);
        }
    }
}

/// What the gradient needs to know of every query.
pub(super) struct Queries {
    /// The shift of the powers in [`Self::shares`]; infinite for a query without a loss, as only
    /// then every power is 0, and not beyond f32, however small the temperature.
    pub(super) max: Vec<f32>,
    /// Weight over temperature and softmax sum.
    pub(super) shares: Vec<f32>,
    /// Weight over temperature and sum of affinities.
    pub(super) pulls: Vec<f32>,
}

impl Queries {
    /// Queries none of which has a loss.
    pub(super) fn new(len: usize) -> Self {
        Self { max: vec![f32::INFINITY; len], shares: vec![0.0; len], pulls: vec![0.0; len] }
    }
}

/// Turns a tile of exponents `x` into weights, in place:
/// `W_ij = share_i 2^(x_ij - max_i) - pull_i affinity_ij`.
pub(super) struct CrossPull<'a> {
    pub(super) tile: &'a mut [f32],
    pub(super) affinities: &'a [f32],
    pub(super) queries: &'a Queries,
    /// Index and number of the rows.
    pub(super) rows: (usize, usize),
    pub(super) n_cols: usize,
}

impl WithSimd for CrossPull<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tile, affinities, queries, rows: (start, n_rows), n_cols } = self;
        let n_vectors = n_cols.div_ceil(S::F32_LANES);
        let lines = tile.chunks_exact_mut(STRIDE).zip(affinities.chunks_exact(STRIDE));
        for (query, (line, affinities)) in (start..start + n_rows).zip(lines) {
            let max = simd.splat_f32s(queries.max[query]);
            let share = simd.splat_f32s(queries.shares[query]);
            let pull = simd.splat_f32s(-queries.pulls[query]);
            let line = &mut S::as_mut_simd_f32s(line).0[..n_vectors];
            for (value, &affinity) in line.iter_mut().zip(S::as_simd_f32s(affinities).0) {
                let power = exp2(simd, simd.sub_f32s(*value, max));
                *value = simd.mul_add_e_f32s(power, share, simd.mul_f32s(affinity, pull));
            }
        }
    }
}
