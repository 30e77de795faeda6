//! How the position embedding of a file becomes that of a model.

use super::resample::resample;

/// Our key of the position embedding, `[1, rows, dim]`: one row a patch, and before them one for
/// the class token in some models.
pub(super) const POSITIONS: &str = "pos_embed";
/// Our key of the class token, `[1, 1, dim]`.
pub(super) const CLASS_TOKEN: &str = "cls_token";

/// Rows of a position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rows {
    has_class: bool,
    /// Height and width of the grid of patches.
    grid: (usize, usize),
}

impl Rows {
    /// Grids are square, so a number of rows tells whether there is one for the class token.
    fn of(n: usize) -> Option<Self> {
        let square = |n: usize| n.isqrt().pow(2) == n && n > 0;
        let side = n.isqrt();
        if square(n) {
            Some(Self { has_class: false, grid: (side, side) })
        } else if square(n.checked_sub(1)?) {
            Some(Self { has_class: true, grid: (side, side) })
        } else {
            None
        }
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
    /// From one shape to another; nothing where there is no way.
    pub(super) fn new(old: &[usize], new: &[usize]) -> Option<Self> {
        let (&[1, old_rows, old_dim], &[1, new_rows, dim]) = (old, new) else { return None };
        let (old, new) = (Rows::of(old_rows)?, Rows::of(new_rows)?);
        let fits = old_dim == dim && (old.has_class || !new.has_class);
        fits.then_some(Self { old, new, dim })
    }

    /// The two grids, where they differ.
    pub(super) fn interpolated(&self) -> Option<[(usize, usize); 2]> {
        (self.old.grid != self.new.grid).then_some([self.old.grid, self.new.grid])
    }

    /// Whether the row of the class token has to be added to the token itself, since the model has
    /// no such row.
    pub(super) fn moves_class_row(&self) -> bool {
        self.old.has_class && !self.new.has_class
    }

    /// The row of the class token, which is the first, and the model's position embedding.
    pub(super) fn apply(&self, values: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let n_class = if self.old.has_class { self.dim } else { 0 };
        let (class, patches) = values.split_at(n_class);
        let patches = match self.interpolated() {
            Some([old, new]) => resample(patches, old, new, self.dim),
            None => patches.to_vec(),
        };
        let kept = if self.new.has_class { class } else { &[] };
        (class.to_vec(), [kept, &patches].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::{PositionFit, Rows};

    #[test]
    fn positions_rows_tell_the_class_token() {
        assert_eq!(Rows::of(256), Some(Rows { has_class: false, grid: (16, 16) }));
        assert_eq!(Rows::of(257), Some(Rows { has_class: true, grid: (16, 16) }));
        assert_eq!((Rows::of(0), Rows::of(255), Rows::of(258)), (None, None, None));
    }

    #[test]
    fn positions_class_row_is_kept_or_handed_over() {
        let values = [9.0, 1.0, 2.0, 3.0, 4.0];
        let kept = PositionFit::new(&[1, 5, 1], &[1, 5, 1]).unwrap();
        assert_eq!(kept.apply(&values).1, values);
        assert!(!kept.moves_class_row() && kept.interpolated().is_none());

        let moved = PositionFit::new(&[1, 5, 1], &[1, 4, 1]).unwrap();
        assert_eq!(moved.apply(&values), (vec![9.0], vec![1.0, 2.0, 3.0, 4.0]));
        assert!(moved.moves_class_row());

        let larger = PositionFit::new(&[1, 5, 1], &[1, 10, 1]).unwrap();
        assert_eq!(larger.interpolated(), Some([(2, 2), (3, 3)]));
        let interpolated = larger.apply(&values).1;
        assert_eq!((interpolated.len(), interpolated[0]), (10, 9.0));
    }

    #[test]
    fn positions_that_cannot_fit_are_refused() {
        for (old, new) in [([1, 4, 1], [1, 5, 1]), ([1, 5, 2], [1, 5, 1]), ([1, 7, 1], [1, 5, 1])] {
            assert_eq!(PositionFit::new(&old, &new), None, "{old:?} {new:?}");
        }
        assert_eq!(PositionFit::new(&[5, 1], &[1, 5, 1]), None);
    }
}
