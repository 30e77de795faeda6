//! A table of features: one row a sample.

use crate::EvalError;

/// Finite features, `[n, width]`, `f32`, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    values: Vec<f32>,
    width: usize,
}

impl Features {
    /// Takes `values` as rows of `width`.
    ///
    /// # Errors
    ///
    /// When `width` is zero, the values do not fill whole rows, or one of them is not finite.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self, EvalError> {
        if width == 0 {
            return Err(EvalError::Empty { what: "a row of features" });
        }
        let whole_rows = values.len() / width * width;
        if whole_rows != values.len() {
            return Err(EvalError::LengthMismatch {
                left: "features",
                n_left: values.len(),
                right: "their whole rows",
                n_right: whole_rows,
            });
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Self { values, width }),
            Some(index) => Err(EvalError::NotFinite {
                what: "features",
                row: index / width,
                column: index % width,
                value: values[index],
            }),
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn n(&self) -> usize {
        self.values.len() / self.width
    }

    /// Number of columns, at least 1.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows, one slice of [`Self::width`] values a sample.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    /// All values, row after row.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_row_by_row() {
        let features = Features::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).unwrap();
        assert_eq!((features.n(), features.width()), (2, 3));
        assert_eq!(features.rows().last(), Some([4.0, 5.0, 6.0].as_slice()));
        assert_eq!(Features::new(Vec::new(), 3).unwrap().n(), 0);
    }

    #[test]
    fn features_refuse_broken_rows_and_values() {
        let error = Features::new(vec![0.0, 1.0, f32::NAN, 2.0], 2).unwrap_err();
        assert_eq!(error.to_string(), "features row 1, column 0 is NaN: it must be finite");
        assert!(Features::new(vec![0.0; 5], 2).is_err());
        assert!(Features::new(vec![0.0], 0).is_err());
    }
}
