//! How a problem is cut and what of it is kept, so that memory stays bounded at any size.

use super::pack::{PANEL, panels_len};
use super::powers::TileSums;
use super::schedule::most_pairs;
use super::tile::{BLOCK, LANES, STRIDE};

/// Most bytes beyond inputs, outputs and a few numbers per row, wherever one workspace fits in.
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
    /// Most tasks at a time.
    pub(super) at_once: usize,
}

impl Plan {
    /// A plan for `rows` against themselves on `n_threads`, with or without a backward pass.
    pub(super) fn new(rows: usize, dim: usize, n_threads: usize, has_backward: bool) -> Self {
        let block = block_rows(rows);
        let n_blocks = rows.div_ceil(block);
        let workspace = Workspace::bytes(block, dim);
        let most = n_threads.min(most_pairs(n_blocks));
        let at_once = at_once(rows * rows * dim, most, workspace);
        let left = BUDGET.saturating_sub(at_once * workspace);
        let panels = panels_len(rows, dim) * BYTES;
        let has_panels = panels <= left;
        let left = if has_panels { left - panels } else { left };
        let n_tiles = n_blocks * (n_blocks + 1) / 2;
        let fitting = left.min(MOST_KEPT) / (block * STRIDE * BYTES);
        let n_kept = if has_backward { n_tiles.min(fitting) } else { 0 };
        Self { block, n_blocks, has_panels, n_kept, at_once }
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

/// How queries meet keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CrossPlan {
    /// Rows of a block of queries and of keys.
    pub(super) blocks: [usize; 2],
    pub(super) n_blocks: [usize; 2],
    /// Whether the panels of queries, and of keys, are made once: first those of the side with
    /// fewer rows, which are read most often.
    pub(super) has_panels: [bool; 2],
    /// Most tasks at a time.
    pub(super) at_once: usize,
}

impl CrossPlan {
    /// A plan for so many queries and keys on `n_threads`, with tasks in `workspace` bytes each.
    pub(super) fn new(rows: [usize; 2], dim: usize, n_threads: usize, workspace: usize) -> Self {
        let blocks = rows.map(block_rows);
        let n_blocks = [0, 1].map(|side| rows[side].div_ceil(blocks[side]));
        let most = n_threads.min(n_blocks[0]).min(n_blocks[1]);
        let at_once = at_once(rows[0] * rows[1] * dim, most, workspace);
        let mut left = BUDGET.saturating_sub(at_once * workspace);
        let mut has_panels = [false; 2];
        let smaller = usize::from(rows[1] < rows[0]);
        for side in [smaller, 1 - smaller] {
            let panels = panels_len(rows[side], dim) * BYTES;
            has_panels[side] = panels <= left;
            left -= if has_panels[side] { panels } else { 0 };
        }
        Self { blocks, n_blocks, has_panels, at_once }
    }
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

/// Most tasks at a time: one where so few multiplications are worth no more, and no more than have
/// workspaces of so many bytes in the budget.
fn at_once(multiplications: usize, most: usize, workspace: usize) -> usize {
    if multiplications < SMALL { 1 } else { most.min(BUDGET / workspace).max(1) }
}

/// Rows of a block where there are so many in all.
fn block_rows(rows: usize) -> usize {
    let block = if rows > FEW_ROWS { BLOCK } else { BLOCK / 2 };
    rows.next_multiple_of(PANEL).clamp(PANEL, block)
}

#[cfg(test)]
mod tests {
    use super::{BUDGET, BYTES, CrossPlan, Plan, Workspace};
    use crate::similarity::pack::panels_len;

    const ROWS: [usize; 8] = [1, 64, 320, 1024, 4096, 8192, 100_000, 10_000_000];
    /// In the last one, a single workspace is larger than the budget.
    const DIMS: [usize; 5] = [1, 64, 128, 2048, 32_768];
    const N_THREADS: [usize; 4] = [1, 2, 8, 64];

    /// What a plan allocates beyond a few numbers per row.
    fn bytes(plan: &Plan, rows: usize, dim: usize) -> usize {
        let panels = if plan.has_panels { panels_len(rows, dim) * BYTES } else { 0 };
        panels + plan.kept_len() * BYTES + plan.at_once * Workspace::bytes(plan.block, dim)
    }

    #[test]
    fn plan_stays_in_the_budget_at_any_size() {
        for rows in ROWS {
            for dim in DIMS {
                for n_threads in N_THREADS {
                    let plan = Plan::new(rows, dim, n_threads, true);
                    let bytes = bytes(&plan, rows, dim);
                    let most = BUDGET.max(Workspace::bytes(plan.block, dim));
                    assert!(bytes <= most, "{rows} x {dim}, {n_threads} threads: {bytes}");
                    assert_eq!(plan.n_blocks, rows.div_ceil(plan.block));
                }
            }
        }
    }

    #[test]
    fn plan_of_queries_and_keys_stays_in_the_budget_at_any_size() {
        for rows in ROWS.into_iter().flat_map(|n| ROWS.map(|n_keys| [n, n_keys])) {
            for (dim, n_threads) in DIMS.into_iter().flat_map(|d| N_THREADS.map(|n| (d, n))) {
                for workspace in [1 << 16, 5 << 20, BUDGET, 2 * BUDGET] {
                    let plan = CrossPlan::new(rows, dim, n_threads, workspace);
                    let panels = |side: usize| {
                        usize::from(plan.has_panels[side]) * panels_len(rows[side], dim) * BYTES
                    };
                    let bytes = panels(0) + panels(1) + plan.at_once * workspace;
                    assert!(bytes <= BUDGET.max(workspace), "{rows:?} x {dim}: {bytes}");
                }
            }
        }
    }

    #[test]
    fn plan_runs_as_many_tasks_as_there_are_threads_where_memory_allows() {
        assert_eq!(Plan::new(4096, 128, 64, true).at_once, 17);
        assert_eq!(Plan::new(100_000, 128, 64, true).at_once, 64);
        assert_eq!(Plan::new(100_000, 32_768, 64, true).at_once, 1);
        assert_eq!(Plan::new(64, 128, 64, true).at_once, 1);
        assert_eq!(CrossPlan::new([4096, 100_000], 128, 64, 1 << 18).at_once, 32);
        assert_eq!(CrossPlan::new([4096, 100_000], 128, 64, 8 << 20).at_once, 8);
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
        let kept = |rows| CrossPlan::new(rows, 128, 2, 1 << 20).has_panels;
        assert_eq!(kept([256, 65_536]), [true; 2]);
        assert_eq!(kept([256, 1_000_000]), [true, false]);
        assert_eq!(kept([100_000, 100_000]), [true, false]);
        assert_eq!(kept([1_000_000, 300]), [false, true]);
        assert_eq!(CrossPlan::new([1, 1], 128, 100, BUDGET).has_panels, [false; 2]);
    }

    #[test]
    fn plan_cuts_by_the_shapes_alone() {
        for rows in [320, 4096, 100_000] {
            let cut = |n_threads| Plan::new(rows, 64, n_threads, true).block;
            assert!((2..32).all(|n_threads| cut(n_threads) == cut(1)));
        }
    }
}
