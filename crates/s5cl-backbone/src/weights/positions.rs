//! How the position embedding of a file becomes that of a model.

use super::resample::resample;

/// Our key of the position embedding, `[1, rows, dim]`: one row a patch, and before them in some
/// models one for the class token, or that and one for each register.
pub(super) const POSITIONS: &str = "pos_embed";
/// Our key of the class token, `[1, 1, dim]`.
pub(super) const CLASS_TOKEN: &str = "cls_token";
/// Our key of the registers, `[1, n_registers, dim]`.
pub(super) const REGISTERS: &str = "reg_token";

/// Rows of a position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rows {
    /// Before those of the patches.
    n_prefix: usize,
    /// Height and width of the grid of patches.
    grid: (usize, usize),
}

impl Rows {
    /// Grids are square, so a number of rows tells how many are not of patches.
    fn of(n: usize, n_registers: usize) -> Option<Self> {
        [0, 1, 1 + n_registers].into_iter().find_map(|n_prefix| {
            let n_patches = n.checked_sub(n_prefix).filter(|&n| n > 0)?;
            let side = n_patches.isqrt();
            (side * side == n_patches).then_some(Self { n_prefix, grid: (side, side) })
        })
    }
}

/// What has to be done with the position embedding of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PositionFit {
    old: Rows,
    new: Rows,
    dim: usize,
}

impl PositionFit {
    /// From one shape to another, of a model with so many registers; nothing where there is no
    /// way.
    pub(super) fn new(old: &[usize], new: &[usize], n_registers: usize) -> Option<Self> {
        let (&[1, old_rows, old_dim], &[1, new_rows, dim]) = (old, new) else { return None };
        let (old, new) = (Rows::of(old_rows, n_registers)?, Rows::of(new_rows, n_registers)?);
        let is_same_prefix = old.n_prefix == new.n_prefix;
        let fits = old_dim == dim && (is_same_prefix || (old.n_prefix, new.n_prefix) == (1, 0));
        fits.then_some(Self { old, new, dim })
    }

    /// The two grids, where they differ.
    pub(super) fn interpolated(&self) -> Option<[(usize, usize); 2]> {
        (self.old.grid != self.new.grid).then_some([self.old.grid, self.new.grid])
    }

    /// Whether the row of the class token has to be added to the token itself, since the model has
    /// no such row.
    pub(super) fn moves_class_row(&self) -> bool {
        self.old.n_prefix > self.new.n_prefix
    }

    /// The rows before those of the patches, the class token's first, and the model's position
    /// embedding.
    pub(super) fn apply(&self, values: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (prefix, patches) = values.split_at(self.old.n_prefix * self.dim);
        let patches = match self.interpolated() {
            Some([old, new]) => resample(patches, old, new, self.dim),
            None => patches.to_vec(),
        };
        let kept = if self.moves_class_row() { &[] } else { prefix };
        (prefix.to_vec(), [kept, &patches].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::{PositionFit, Rows};

    #[test]
    fn positions_rows_tell_what_is_before_the_patches() {
        let of = |n, n_prefix| {
            let rows = Rows::of(n, 4);
            assert_eq!(rows, Some(Rows { n_prefix, grid: (16, 16) }), "{n}");
        };
        of(256, 0);
        of(257, 1);
        of(261, 5);
        assert_eq!((Rows::of(0, 4), Rows::of(255, 4), Rows::of(258, 4)), (None, None, None));
        assert_eq!(Rows::of(261, 0), None);
    }

    #[test]
    fn positions_class_row_is_kept_or_handed_over() {
        let values = [9.0, 1.0, 2.0, 3.0, 4.0];
        let kept = PositionFit::new(&[1, 5, 1], &[1, 5, 1], 0).unwrap();
        assert_eq!(kept.apply(&values).1, values);
        assert!(!kept.moves_class_row() && kept.interpolated().is_none());

        let moved = PositionFit::new(&[1, 5, 1], &[1, 4, 1], 7).unwrap();
        assert_eq!(moved.apply(&values), (vec![9.0], vec![1.0, 2.0, 3.0, 4.0]));
        assert!(moved.moves_class_row());

        let larger = PositionFit::new(&[1, 5, 1], &[1, 10, 1], 0).unwrap();
        assert_eq!(larger.interpolated(), Some([(2, 2), (3, 3)]));
        let interpolated = larger.apply(&values).1;
        assert_eq!((interpolated.len(), interpolated[0]), (10, 9.0));
    }

    #[test]
    fn positions_of_registers_are_kept() {
        let values = [9.0, 8.0, 7.0, 1.0, 2.0, 3.0, 4.0];
        let larger = PositionFit::new(&[1, 7, 1], &[1, 12, 1], 2).unwrap();
        let interpolated = larger.apply(&values).1;
        assert_eq!((interpolated.len(), &interpolated[..3]), (12, &[9.0, 8.0, 7.0][..]));
        assert!(!larger.moves_class_row());
    }

    #[test]
    fn positions_that_cannot_fit_are_refused() {
        for (old, new) in [([1, 4, 1], [1, 5, 1]), ([1, 5, 2], [1, 5, 1]), ([1, 7, 1], [1, 5, 1])] {
            assert_eq!(PositionFit::new(&old, &new, 0), None, "{old:?} {new:?}");
        }
        assert_eq!(PositionFit::new(&[5, 1], &[1, 5, 1], 0), None);
        assert_eq!(PositionFit::new(&[1, 7, 1], &[1, 4, 1], 2), None);
    }
}
