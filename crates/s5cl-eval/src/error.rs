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
    /// A setting outside its range.
    #[error("{what} is {value}: it must be {range}")]
    OutOfRange {
        /// Which setting.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What it may be, in words.
        range: &'static str,
    },
    /// A cost that is negative or not finite.
    #[error(
        "the cost of taking class {label} for class {prediction} is {cost}: \
         it must be finite and not negative"
    )]
    Cost {
        /// The true class.
        label: usize,
        /// The predicted class.
        prediction: usize,
        /// The cost.
        cost: f64,
    },
    /// A name that stands for nothing.
    #[error("there is no {what} {name:?}: choose one of {}", known.join(", "))]
    UnknownName {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
        /// All names that exist.
        known: &'static [&'static str],
    },
    /// Labels that tell nothing apart.
    #[error("{what} are all of class {class_idx}: at least two classes are needed")]
    OneClass {
        /// Which argument.
        what: &'static str,
        /// The only class.
        class_idx: u32,
    },
    /// Fewer of something than the measure is defined for.
    #[error("there are {found} {what}, but at least {needed} are needed")]
    TooFew {
        /// What there are too few of.
        what: &'static str,
        /// Their number.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The search for the nearest rows refused its input.
    #[error("{message}")]
    Search {
        /// What it said.
        message: String,
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

/// Refuses what is not above zero and finite.
pub(crate) fn positive(what: &'static str, value: f64) -> Result<(), EvalError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(EvalError::OutOfRange { what, value, range: "above 0 and finite" })
}

/// Refuses fewer than are needed.
pub(crate) fn at_least(what: &'static str, found: usize, needed: usize) -> Result<(), EvalError> {
    if found >= needed { Ok(()) } else { Err(EvalError::TooFew { what, found, needed }) }
}

/// Refuses two tables of different width.
pub(crate) fn same_width(expected: usize, found: usize) -> Result<(), EvalError> {
    if expected == found { Ok(()) } else { Err(EvalError::WidthMismatch { expected, found }) }
}

/// Refuses labels without two different classes among them.
pub(crate) fn two_classes(what: &'static str, labels: &[u32]) -> Result<(), EvalError> {
    match labels {
        [] => Err(EvalError::Empty { what }),
        [first, rest @ ..] if rest.iter().all(|label| label == first) => {
            Err(EvalError::OneClass { what, class_idx: *first })
        }
        _ => Ok(()),
    }
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
