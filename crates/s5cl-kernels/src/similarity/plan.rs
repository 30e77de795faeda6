//! How a problem is cut and what of it is kept, so that memory stays bounded at any size.

use super::pack::{PANEL, panels_len};
use super::powers::TileSums;
use super::schedule::Threads;
use super::tile::{BLOCK, LANES, STRIDE};

/// Most bytes beyond inputs, outputs and a few numbers per row.
const BUDGET: usize = 64 << 20;
/// Multiplications below which a second thread costs more than it brings.
const SMALL: usize = 1 << 21;
/// Rows up to which smaller blocks are used, so that there are blocks for all threads.
const FEW_ROWS: usize = 1024;
/// Most bytes of tiles that are kept: an allocator that gets more than this back tends to return it
/// to the system, and fresh memory costs more than computing a tile again.
const MOST_KEPT: usize = 30 << 20;
const BYTES: usize = size_of::<f32>();

/// How the similarities of a number of rows are computed. The cut depends on the shapes alone;
/// what is kept changes no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Rows of a block.
    pub(super) block: usize,
    pub(super) n_blocks: usize,
    /// Whether all panels are made once, or those of a block anew for every tile.
    pub(super) has_panels: bool,
    /// Tiles kept from the forward to the backward pass; the others are computed again.
    pub(super) n_kept: usize,
    pub(super) threads: Threads,
}

impl Plan {
    /// A plan for `rows` against themselves on `n_threads`, with or without a backward pass.
    pub(super) fn new(rows: usize, dim: usize, n_threads: usize, has_backward: bool) -> Self {
        let block = block_rows(rows);
        let n_blocks = rows.div_ceil(block);
        let threads = threads(rows * rows * dim, n_threads.min(n_blocks));
        let at_once = if threads == Threads::One { 1 } else { n_threads.min(n_blocks.div_ceil(2)) };
        let left = BUDGET.saturating_sub(at_once * Workspace::bytes(block, dim));
        let panels = panels_len(rows, dim) * BYTES;
        let has_panels = panels <= left;
        let left = if has_panels { left - panels } else { left };
        let n_tiles = n_blocks * (n_blocks + 1) / 2;
        let fitting = left.min(MOST_KEPT) / (block * STRIDE * BYTES);
        let n_kept = if has_backward { n_tiles.min(fitting) } else { 0 };
        Self { block, n_blocks, has_panels, n_kept, threads }
    }

    /// Values of a tile.
    pub(super) fn tile_len(&self) -> usize {
        self.block * STRIDE
    }

    /// Values of all tiles that are kept.
    pub(super) fn kept_len(&self) -> usize {
        self.n_kept * self.tile_len()
    }

    /// First row and number of rows of a block.
    pub(super) fn rows_of(&self, block: usize, rows: usize) -> (usize, usize) {
        let start = block * self.block;
        (start, self.block.min(rows - start))
    }
}

/// Which panels of queries and of keys are made once, where `at_once` tasks need `workspace` bytes
/// each: first those of the side with fewer rows, which are read most often.
pub(super) fn kept_panels(
    rows: [usize; 2],
    dim: usize,
    at_once: usize,
    workspace: usize,
) -> [bool; 2] {
    let mut left = BUDGET.saturating_sub(at_once * workspace);
    let mut are_kept = [false; 2];
    let smaller = usize::from(rows[1] < rows[0]);
    for side in [smaller, 1 - smaller] {
        let panels = panels_len(rows[side], dim) * BYTES;
        are_kept[side] = panels <= left;
        left -= if are_kept[side] { panels } else { 0 };
    }
    are_kept
}

/// What a task works in.
pub(super) struct Workspace {
    pub(super) sums: TileSums,
    /// A tile that is not kept.
    pub(super) tile: Vec<f32>,
    /// The rows of both blocks, `[BLOCK, width]`.
    pub(super) rows: [Vec<f32>; 2],
    /// Products of a tile with rows, `[BLOCK, width]`.
    pub(super) product: Vec<f32>,
    /// The panels of both blocks, where not all panels are kept.
    pub(super) panels: [Vec<f32>; 2],
}

impl Workspace {
    pub(super) fn new(plan: &Plan, dim: usize) -> Self {
        let rows = || vec![0.0; plan.block * width(dim)];
        Self {
            sums: TileSums::EMPTY,
            tile: vec![0.0; plan.tile_len()],
            rows: [rows(), rows()],
            product: rows(),
            panels: [Vec::new(), Vec::new()],
        }
    }

    /// At most, where panels are not kept.
    fn bytes(block: usize, dim: usize) -> usize {
        let values = block * STRIDE + 3 * block * width(dim) + 2 * panels_len(block, dim);
        size_of::<Self>() + values * BYTES
    }
}

/// Adds rows of [`width`] values to rows of `dim` values.
pub(super) fn add_rows(out: &mut [f32], rows: &[f32], dim: usize) {
    for (out, row) in out.chunks_exact_mut(dim).zip(rows.chunks_exact(width(dim))) {
        for (out, value) in out.iter_mut().zip(row) {
            *out += value;
        }
    }
}

/// Values of a row with the zeros behind it, whole vectors of any length.
pub(super) fn width(dim: usize) -> usize {
    dim.next_multiple_of(LANES)
}

/// Whether so many multiplications are worth more than one thread, if there is more than one.
pub(super) fn threads(multiplications: usize, at_once: usize) -> Threads {
    if multiplications < SMALL || at_once < 2 { Threads::One } else { Threads::All }
}

/// Rows of a block where there are so many in all.
pub(super) fn block_rows(rows: usize) -> usize {
    let block = if rows > FEW_ROWS { BLOCK } else { BLOCK / 2 };
    rows.next_multiple_of(PANEL).clamp(PANEL, block)
}

#[cfg(test)]
mod tests {
    use super::{BUDGET, BYTES, Plan, Workspace, kept_panels};
    use crate::similarity::pack::panels_len;
    use crate::similarity::schedule::Threads;

    /// What a plan allocates beyond a few numbers per row.
    fn bytes(plan: &Plan, rows: usize, dim: usize, n_threads: usize) -> usize {
        let panels = if plan.has_panels { panels_len(rows, dim) * BYTES } else { 0 };
        let at_once = if plan.threads == Threads::One { 1 } else { n_threads };
        panels + plan.kept_len() * BYTES + at_once * Workspace::bytes(plan.block, dim)
    }

    #[test]
    fn plan_stays_in_the_budget_at_any_size() {
        for rows in [1, 64, 320, 1024, 4096, 8192, 100_000, 10_000_000] {
            for dim in [1, 64, 128, 2048] {
                for n_threads in [1, 2, 8] {
                    let plan = Plan::new(rows, dim, n_threads, true);
                    let bytes = bytes(&plan, rows, dim, n_threads);
                    assert!(bytes <= BUDGET, "{rows} x {dim}, {n_threads} threads: {bytes}");
                    assert_eq!(plan.n_blocks, rows.div_ceil(plan.block));
                }
            }
        }
    }

    #[test]
    fn plan_keeps_what_fits() {
        let small = Plan::new(320, 64, 2, true);
        assert_eq!(small.n_kept, small.n_blocks * (small.n_blocks + 1) / 2);
        let large = Plan::new(8192, 64, 2, true);
        assert!(0 < large.n_kept && large.n_kept < large.n_blocks * (large.n_blocks + 1) / 2);
        assert!(Plan::new(100_000, 64, 2, true).has_panels);
        assert!(!Plan::new(1_000_000, 64, 2, true).has_panels);
        assert_eq!(Plan::new(8192, 64, 2, false).n_kept, 0);
    }

    #[test]
    fn plan_keeps_the_panels_of_the_fewer_rows_first() {
        let kept = |rows| kept_panels(rows, 128, 2, 1 << 20);
        assert_eq!(kept([256, 65_536]), [true; 2]);
        assert_eq!(kept([256, 1_000_000]), [true, false]);
        assert_eq!(kept([100_000, 100_000]), [true, false]);
        assert_eq!(kept([1_000_000, 300]), [false, true]);
        assert_eq!(kept_panels([1, 1], 128, 100, 1 << 20), [false; 2]);
    }

    #[test]
    fn plan_cuts_by_the_shapes_alone() {
        for rows in [320, 4096, 100_000] {
            let cut = |n_threads| Plan::new(rows, 64, n_threads, true).block;
            assert!((2..32).all(|n_threads| cut(n_threads) == cut(1)));
        }
    }
}
