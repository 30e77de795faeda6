//! How blocks share the tiles of a matrix, by its sizes alone.

/// Columns of a tile.
pub(super) const COLS: usize = 64;
/// Blocks that a large device runs at a time: two for each multiprocessor of a Hopper GPU.
pub(super) const BLOCKS: usize = 264;

/// How the columns of a matrix are shared among blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Splits {
    /// Tiles of columns that a block takes.
    pub(super) tiles: usize,
    /// Blocks that share the columns of a tile of rows.
    pub(super) count: usize,
}

impl Splits {
    /// For so many tiles of rows: about [`BLOCKS`] in all, as long as a block has `fewest` tiles of
    /// columns.
    pub(super) fn of(row_tiles: usize, n_cols: usize, fewest: usize) -> Self {
        let n_tiles = n_cols.div_ceil(COLS).max(1);
        let wanted = (BLOCKS / row_tiles.max(1)).clamp(1, n_tiles.div_ceil(fewest));
        let tiles = n_tiles.div_ceil(wanted);
        Self { tiles, count: n_tiles.div_ceil(tiles) }
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCKS, COLS, Splits};

    #[test]
    fn splits_cover_all_columns_once() {
        for row_tiles in [1, 2, 100, 1000] {
            for n_cols in [1, COLS, COLS + 1, 1100, 65_536, 1_000_000] {
                let Splits { tiles, count } = Splits::of(row_tiles, n_cols, 4);
                let what = format!("{row_tiles} x {n_cols}: {count} times {tiles}");
                assert!(tiles * count * COLS >= n_cols, "{what}");
                assert!(tiles * (count - 1) * COLS < n_cols, "{what}");
                assert!(count == 1 || (tiles >= 4 && count * row_tiles <= BLOCKS), "{what}");
            }
        }
    }
}
