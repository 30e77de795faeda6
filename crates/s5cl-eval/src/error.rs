//! What can be wrong with the input of an evaluation.

use thiserror::Error;

/// Input that cannot be evaluated; every variant names the offending value.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum EvalError {
    /// There is nothing to evaluate.
    #[error("{what} is empty: there is nothing to evaluate")]
    Empty {
        /// Which argument.
        what: &'static str,
    },
    /// Two arguments that belong together differ in length.
    #[error("{left} has {n_left} entries, {right} has {n_right}: they must be of the same length")]
    LengthMismatch {
        /// Name of the first argument.
        left: &'static str,
        /// Its number of entries.
        n_left: usize,
        /// Name of the second argument.
        right: &'static str,
        /// Its number of entries.
        n_right: usize,
    },
    /// A class index that does not exist.
    #[error("{what}[{index}] is {class_idx}, but there are {n_classes} classes (0-based)")]
    ClassOutOfRange {
        /// Which argument.
        what: &'static str,
        /// Position of the value.
        index: usize,
        /// The value.
        class_idx: u32,
        /// Number of classes.
        n_classes: usize,
    },
    /// A value that is NaN or infinite.
    #[error("{what} row {row}, column {column} is {value}: it must be finite")]
    NotFinite {
        /// Which argument.
        what: &'static str,
        /// Row of the value.
        row: usize,
        /// Column of the value.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A row that is no probability distribution.
    #[error("probabilities of row {row} are outside [0, 1] or sum to {sum} instead of 1")]
    NotADistribution {
        /// The row.
        row: usize,
        /// Sum of its entries.
        sum: f64,
    },
    /// Two feature tables of different width.
    #[error("the features have {found} columns, but {expected} were expected")]
    WidthMismatch {
        /// Columns of the table that came first.
        expected: usize,
        /// Columns of the other one.
        found: usize,
    },
    /// A neighbor count of zero.
    #[error("k is 0: at least one neighbor must vote")]
    NoNeighbors,
    /// A level of confidence that no interval can have.
    #[error("level is {level}: it must be between 0 and 1, as 0.95")]
    NotALevel {
        /// The level.
        level: f64,
    },
    /// Too few of something for an interval.
    #[error("{what}: there must be at least {least}, but there are {n}")]
    TooFew {
        /// Of what.
        what: &'static str,
        /// How many there are.
        n: usize,
        /// How many are needed.
        least: usize,
    },
    /// A statistic without a value on the test set, or on most replicates of it.
    #[error(
        "the statistic is undefined on {}",
        n_undefined.map_or("the test set".to_owned(), |n| format!("{n} replicates, more than half"))
    )]
    Undefined {
        /// The number of replicates; `None` for the test set itself.
        n_undefined: Option<usize>,
    },
    /// A number that is NaN or infinite.
    #[error("{what}[{index}] is {value}: it must be finite")]
    ValueNotFinite {
        /// Which argument.
        what: &'static str,
        /// Position of the value.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Two runs that were not tested on the same images.
    #[error(
        "{what}[{index}] is {first} in the first run and {second} in the second: they can be \
         compared on the same test images only"
    )]
    RunsDiffer {
        /// What differs, labels or ids.
        what: &'static str,
        /// Position of the first difference.
        index: usize,
        /// Its value in the first run.
        first: String,
        /// Its value in the second run.
        second: String,
    },
}

/// Refuses two arguments of different length.
pub(crate) fn same_length(
    left: (&'static str, usize),
    right: (&'static str, usize),
) -> Result<(), EvalError> {
    if left.1 == right.1 {
        return Ok(());
    }
    Err(EvalError::LengthMismatch {
        left: left.0,
        n_left: left.1,
        right: right.0,
        n_right: right.1,
    })
}

/// Refuses class indices that are not below `n_classes`.
pub(crate) fn classes_in_range(
    what: &'static str,
    classes: &[u32],
    n_classes: usize,
) -> Result<(), EvalError> {
    match classes.iter().position(|&class_idx| class_idx as usize >= n_classes) {
        None => Ok(()),
        Some(index) => {
            Err(EvalError::ClassOutOfRange { what, index, class_idx: classes[index], n_classes })
        }
    }
}
