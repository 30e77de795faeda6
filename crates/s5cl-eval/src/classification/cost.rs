//! What mistakes cost.

use serde::Serialize;

use crate::classification::confusion::Confusion;
use crate::error::{EvalError, same_length};

/// What each mistake costs, in any unit: `[n_classes, n_classes]`, row: true class, column:
/// predicted class; finite and not negative.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Confusion, CostMatrix};
///
/// // To miss a tumor (class 1) costs ten times a false alarm.
/// let costs = CostMatrix::new(vec![vec![0.0, 1.0], vec![10.0, 0.0]])?;
/// let confusion = Confusion::new(2, &[0, 0, 1, 1], &[0, 1, 1, 0])?;
/// assert_eq!(confusion.mean_cost(&costs)?, (1.0 + 10.0) / 4.0);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct CostMatrix {
    rows: Vec<Vec<f64>>,
}

impl CostMatrix {
    /// Takes one row a true class, with one cost a predicted class.
    ///
    /// # Errors
    ///
    /// When there is no row, a row is not as long as there are rows, or a cost is negative or not
    /// finite.
    pub fn new(rows: Vec<Vec<f64>>) -> Result<Self, EvalError> {
        if rows.is_empty() {
            return Err(EvalError::Empty { what: "the cost matrix" });
        }
        for (label, row) in rows.iter().enumerate() {
            same_length(("a row of the cost matrix", row.len()), ("the cost matrix", rows.len()))?;
            let is_cost = |cost: &f64| cost.is_finite() && *cost >= 0.0;
            if let Some(prediction) = row.iter().position(|cost| !is_cost(cost)) {
                return Err(EvalError::Cost { label, prediction, cost: row[prediction] });
            }
        }
        Ok(Self { rows })
    }

    /// Number of classes, at least 1.
    #[must_use]
    pub fn n_classes(&self) -> usize {
        self.rows.len()
    }

    /// The costs, one row a true class.
    #[must_use]
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }
}

impl Confusion {
    /// Mean cost of a prediction, in the unit of the costs.
    ///
    /// # Errors
    ///
    /// When the costs are of another number of classes.
    pub fn mean_cost(&self, costs: &CostMatrix) -> Result<f64, EvalError> {
        same_length(
            ("the cost matrix", costs.n_classes()),
            ("the confusion matrix", self.n_classes()),
        )?;
        let mut total = 0.0;
        for (label, row) in costs.rows.iter().enumerate() {
            for (prediction, cost) in row.iter().enumerate() {
                total += cost * self.count(label, prediction) as f64;
            }
        }
        Ok(total / self.n_samples() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_of_one_a_mistake_is_the_error() -> Result<(), EvalError> {
        let confusion = Confusion::new(3, &[0, 0, 1, 2, 2], &[0, 1, 1, 0, 2])?;
        let unit = |i: usize| (0..3).map(|j| if i == j { 0.0 } else { 1.0 }).collect();
        let costs = CostMatrix::new((0..3).map(unit).collect())?;
        assert!((confusion.mean_cost(&costs)? - (1.0 - confusion.accuracy())).abs() < 1e-15);
        Ok(())
    }

    #[test]
    fn cost_matrix_refuses_what_is_no_cost() {
        let error = |rows: &[[f64; 2]]| {
            let rows = rows.iter().map(|row| row.to_vec()).collect();
            CostMatrix::new(rows).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[[0.0, 1.0], [-2.0, 0.0]]),
            "the cost of taking class 1 for class 0 is -2: it must be finite and not negative"
        );
        assert!(error(&[[0.0, f64::NAN], [1.0, 0.0]]).contains("class 0 for class 1 is NaN"));
        assert!(error(&[[0.0, 1.0]]).contains("a row of the cost matrix has 2 entries"));
        assert!(CostMatrix::new(Vec::new()).is_err());
    }

    #[test]
    fn cost_matrix_refuses_another_number_of_classes() {
        let costs = CostMatrix::new(vec![vec![0.0]]).unwrap();
        let confusion = Confusion::new(2, &[0], &[1]).unwrap();
        assert!(confusion.mean_cost(&costs).is_err());
    }
}
