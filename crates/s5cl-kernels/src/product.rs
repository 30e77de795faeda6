//! Matrix products whose left rows may lie anywhere, on one thread.
//!
//! A convolution is such a product: the rows are the pixels under a window, one segment of depth
//! for each tap that meets the map. Nothing is copied into columns first, and a tap that falls
//! beside the map costs nothing.
//!
//! The callers cut their work into parts by shape and run the parts on rayon, so a product never
//! depends on the number of threads.
#![expect(unsafe_code, reason = "rows are walked by pointer; bounds are checked once a product")]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::batch_norm::affine::Affine;
use crate::microkernel::{TILE_ROWS, Tile, accumulate, load, store, zeros};
use crate::panels::{Panels, vectors_per_panel};

/// Rows that are taken through all panels before the next ones, so that they stay in cache.
const BLOCK_ROWS: usize = 16 * TILE_ROWS;

/// A stretch of depth that is contiguous in both operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it begins behind the start of a left row.
    pub(crate) lhs: usize,
    /// The row of the right operand that it begins at.
    pub(crate) rhs: usize,
    pub(crate) depth: usize,
}

/// What is added to the sums.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// What the output holds.
    Output,
    /// Values laid out as the output.
    Other(&'a [f32]),
}

/// What becomes of the sums: `relu(sum * scale + shift + start)`, without what is not asked for.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    pub(crate) start: Start<'a>,
    /// Scales the sums of each column and shifts them.
    pub(crate) affine: Option<&'a Affine>,
    /// Sums below zero become zero.
    pub(crate) relu: bool,
}

impl Finish<'_> {
    pub(crate) const OVERWRITE: Self = Self { start: Start::Zero, affine: None, relu: false };
    pub(crate) const ADD: Self = Self { start: Start::Output, ..Self::OVERWRITE };

    /// At most one vector of sums, of these columns, that go to this place of the output.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(
        &self,
        simd: S,
        sums: S::f32s,
        columns: Range<usize>,
        place: Range<usize>,
        out: &[f32],
    ) -> S::f32s {
        let mut sums = sums;
        if let Some(Affine { scale, shift }) = self.affine {
            let (scale, shift) = (&scale[columns.clone()], &shift[columns]);
            sums = simd.mul_add_e_f32s(sums, read(simd, scale), read(simd, shift));
        }
        match self.start {
            Start::Zero => {}
            Start::Output => sums = simd.add_f32s(sums, read(simd, &out[place])),
            Start::Other(other) => sums = simd.add_f32s(sums, read(simd, &other[place])),
        }
        if self.relu {
            // A NaN stays.
            let zero = simd.splat_f32s(0.0);
            sums = simd.select_f32s(simd.less_than_f32s(sums, zero), zero, sums);
        }
        sums
    }

    /// Whether the affine map, if there is one, has that many columns.
    pub(crate) fn has_columns(&self, n: usize) -> bool {
        self.affine.is_none_or(|affine| affine.scale.len() >= n && affine.shift.len() >= n)
    }
}

/// `out[out_rows[r]..] = finish(sum over segments of lhs[lhs_rows[r] + segment.lhs..] * rhs)`.
pub(crate) struct Product<'a> {
    pub(crate) lhs: &'a [f32],
    /// Where each row begins.
    pub(crate) lhs_rows: &'a [usize],
    pub(crate) segments: &'a [Segment],
    pub(crate) rhs: &'a Panels,
    pub(crate) out: &'a mut [f32],
    /// Where each row's sums go; no two rows may overlap, or their order decides.
    pub(crate) out_rows: &'a [usize],
    pub(crate) finish: Finish<'a>,
    /// The affine map's column for the first of the right operand's.
    pub(crate) first_affine: usize,
}

impl Product<'_> {
    /// Computes it.
    pub(crate) fn run(self) {
        assert_eq!(self.lhs_rows.len(), self.out_rows.len(), "rows differ in number");
        let cols = self.rhs.cols();
        let reach = self.segments.iter().map(|s| s.lhs + s.depth).max().unwrap_or(0);
        let last_row = self.lhs_rows.iter().max().copied().unwrap_or(0);
        assert!(reach == 0 || last_row + reach <= self.lhs.len(), "a left row ends outside");
        let is_inside = |s: &Segment| s.rhs + s.depth <= self.rhs.depth();
        assert!(self.segments.iter().all(is_inside), "a segment ends outside of the right operand");
        let last_out = self.out_rows.iter().max().map_or(0, |&row| row + cols);
        assert!(last_out <= self.out.len(), "an output row ends outside");
        if let Start::Other(other) = self.finish.start {
            assert!(last_out <= other.len(), "a starting row ends outside");
        }
        assert!(self.finish.has_columns(self.first_affine + cols), "an affine map for each column");
        self.rhs.arch().dispatch(Checked(self));
    }
}

/// A product whose operands [`Product::run`] has checked.
struct Checked<'a>(Product<'a>);

impl WithSimd for Checked<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.blocks(simd);
    }
}

impl Product<'_> {
    #[inline(always)]
    fn blocks<S: Simd>(mut self, simd: S) {
        let n_rows = self.lhs_rows.len();
        for block in (0..n_rows).step_by(BLOCK_ROWS) {
            let end = (block + BLOCK_ROWS).min(n_rows);
            for (panel, col) in (0..self.rhs.cols()).step_by(self.rhs.width()).enumerate() {
                let n_cols = self.rhs.width().min(self.rhs.cols() - col);
                match n_cols.div_ceil(S::F32_LANES) {
                    1 => self.panel::<S, 1>(simd, block..end, panel, col, n_cols),
                    2 => self.panel::<S, 2>(simd, block..end, panel, col, n_cols),
                    3 if vectors_per_panel::<S>() > 2 => {
                        self.panel::<S, 3>(simd, block..end, panel, col, n_cols);
                    }
                    _ if vectors_per_panel::<S>() > 2 => {
                        self.panel::<S, 4>(simd, block..end, panel, col, n_cols);
                    }
                    _ => unreachable!("a panel has no more vectors than this"),
                }
            }
        }
    }

    #[inline(always)]
    fn panel<S: Simd, const NV: usize>(
        &mut self,
        simd: S,
        rows: Range<usize>,
        panel: usize,
        col: usize,
        n_cols: usize,
    ) {
        let mut row = rows.start;
        while row < rows.end {
            match rows.end - row {
                1 => self.tile::<S, 1, NV>(simd, row, panel, col, n_cols),
                2 => self.tile::<S, 2, NV>(simd, row, panel, col, n_cols),
                3 => self.tile::<S, 3, NV>(simd, row, panel, col, n_cols),
                4 => self.tile::<S, 4, NV>(simd, row, panel, col, n_cols),
                5 => self.tile::<S, 5, NV>(simd, row, panel, col, n_cols),
                _ => self.tile::<S, TILE_ROWS, NV>(simd, row, panel, col, n_cols),
            }
            row += TILE_ROWS;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        row: usize,
        panel: usize,
        col: usize,
        n_cols: usize,
    ) {
        let (lhs, width) = (self.lhs.as_ptr(), self.rhs.width());
        let rhs = self.rhs.panel(panel).as_ptr();
        let mut tile = zeros::<S, MR, NV>(simd);
        for segment in self.segments {
            // SAFETY: `run` checked that every row and segment lies in both operands; a panel has
            // `width` columns, which are at least `NV` vectors.
            unsafe {
                let at = |m: usize| lhs.add(self.lhs_rows[row + m] + segment.lhs);
                let rows = std::array::from_fn(at);
                let rhs = rhs.add(segment.rhs * width);
                accumulate::<S, MR, NV>(simd, &mut tile, segment.depth, rows, 1, rhs, width);
            }
        }
        self.finish_tile(simd, tile, row, col, n_cols);
    }

    #[inline(always)]
    fn finish_tile<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        tile: Tile<S, MR, NV>,
        row: usize,
        col: usize,
        n_cols: usize,
    ) {
        for (m, sums) in tile.into_iter().enumerate() {
            let at = self.out_rows[row + m] + col;
            for (v, sum) in sums.into_iter().enumerate() {
                let from = v * S::F32_LANES;
                let len = S::F32_LANES.min(n_cols - from);
                let place = at + from..at + from + len;
                let column = self.first_affine + col + from;
                let sum =
                    self.finish.apply(simd, sum, column..column + len, place.clone(), self.out);
                write(simd, &mut self.out[place], sum);
            }
        }
    }
}

/// At most one vector.
#[inline(always)]
pub(crate) fn read<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    if values.len() == S::F32_LANES {
        // SAFETY: a whole vector.
        unsafe { load::<S>(values.as_ptr()) }
    } else {
        simd.partial_load_f32s(values)
    }
}

/// At most one vector.
#[inline(always)]
pub(crate) fn write<S: Simd>(simd: S, out: &mut [f32], values: S::f32s) {
    if out.len() == S::F32_LANES {
        // SAFETY: a whole vector.
        unsafe { store::<S>(out.as_mut_ptr(), values) }
    } else {
        simd.partial_store_f32s(out, values);
    }
}
