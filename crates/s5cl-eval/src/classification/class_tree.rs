//! Results at the level of parent classes.

use crate::classification::confusion::Confusion;
use crate::classification::result::ClassificationResult;
use crate::error::{EvalError, classes_in_range, same_length};
use crate::probabilities::Probabilities;

/// One level of a tree of classes: the parent of each class.
///
/// A tree of more levels is folded level by level.
///
/// # Example
///
/// ```
/// use s5cl_eval::{ClassTree, Probabilities};
///
/// // Myeloblast and promyelocyte are immature, lymphocyte is not.
/// let tree = ClassTree::new(&[0, 0, 1], &["immature", "mature"])?;
/// let probabilities = Probabilities::new(vec![0.35, 0.25, 0.4], 3)?;
/// assert_eq!(probabilities.predictions(), [2]);
/// assert_eq!(tree.fold_probabilities(&probabilities)?.predictions(), [0]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassTree {
    parents: Vec<u32>,
    names: Vec<String>,
}

impl ClassTree {
    /// Takes the index of the parent of each class, and the names of the parents.
    ///
    /// # Errors
    ///
    /// When there is no class or a parent has no name.
    pub fn new<S: AsRef<str>>(parents: &[usize], names: &[S]) -> Result<Self, EvalError> {
        if parents.is_empty() {
            return Err(EvalError::Empty { what: "parents" });
        }
        let parents: Vec<u32> =
            parents.iter().map(|&parent| u32::try_from(parent).unwrap_or(u32::MAX)).collect();
        classes_in_range("parents", &parents, names.len())?;
        Ok(Self { parents, names: names.iter().map(|name| name.as_ref().to_owned()).collect() })
    }

    /// Names of the parents, in the order of their index.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The parent of every label, `[n]`.
    ///
    /// # Errors
    ///
    /// When a label is no class of the tree.
    pub fn fold_labels(&self, labels: &[u32]) -> Result<Vec<u32>, EvalError> {
        classes_in_range("labels", labels, self.parents.len())?;
        Ok(labels.iter().map(|&label| self.parents[label as usize]).collect())
    }

    /// The counts of parents: a mistake between classes of one parent is none here.
    ///
    /// # Errors
    ///
    /// When the confusion matrix has another number of classes than the tree.
    pub fn fold_confusion(&self, confusion: &Confusion) -> Result<Confusion, EvalError> {
        self.check_classes(("the confusion matrix", confusion.n_classes()))?;
        Ok(confusion.folded(self.names.len(), |class_idx| self.parents[class_idx] as usize))
    }

    /// The probability of each parent, the sum of those of its classes: `[n, n_parents]`.
    ///
    /// Its most probable parent need not be that of the most probable class.
    ///
    /// # Errors
    ///
    /// When the probabilities have another number of classes than the tree.
    pub fn fold_probabilities(
        &self,
        probabilities: &Probabilities,
    ) -> Result<Probabilities, EvalError> {
        self.check_classes(("a row of probabilities", probabilities.n_classes()))?;
        let n_parents = self.names.len();
        let mut values = Vec::with_capacity(probabilities.n() * n_parents);
        for row in probabilities.rows() {
            let mut sums = vec![0.0; n_parents];
            for (&parent, &p) in self.parents.iter().zip(row) {
                sums[parent as usize] += f64::from(p);
            }
            // A sum of rounded probabilities may pass 1 by their rounding.
            values.extend(sums.into_iter().map(|sum: f64| sum.min(1.0) as f32));
        }
        Ok(Probabilities::from_distributions(values, n_parents))
    }

    /// All metrics at the level of the parents, with the most probable parent as the prediction.
    ///
    /// # Shapes
    ///
    /// `labels`: `[n]`, classes and not parents; `probabilities`: `[n, n_classes]`.
    ///
    /// # Errors
    ///
    /// When labels or probabilities do not fit each other or the tree.
    pub fn result(
        &self,
        labels: &[u32],
        probabilities: &Probabilities,
    ) -> Result<ClassificationResult, EvalError> {
        let labels = self.fold_labels(labels)?;
        ClassificationResult::new(&labels, &self.fold_probabilities(probabilities)?, &self.names)
    }

    fn check_classes(&self, found: (&'static str, usize)) -> Result<(), EvalError> {
        same_length(found, ("parents", self.parents.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENTS: [usize; 4] = [1, 0, 1, 0];
    const NAMES: [&str; 2] = ["healthy", "tumor"];

    #[test]
    fn class_tree_folds_counts_as_it_folds_labels() -> Result<(), EvalError> {
        let tree = ClassTree::new(&PARENTS, &NAMES)?;
        let (labels, predictions) = ([0, 0, 1, 2, 3, 3], [2, 1, 3, 2, 0, 1]);
        let folded = tree.fold_confusion(&Confusion::new(4, &labels, &predictions)?)?;
        let expected =
            Confusion::new(2, &tree.fold_labels(&labels)?, &tree.fold_labels(&predictions)?)?;
        assert_eq!(folded, expected);
        assert_eq!(folded.rows(), [[2, 1], [1, 2]]);
        Ok(())
    }

    #[test]
    fn class_tree_sums_probabilities() -> Result<(), EvalError> {
        let tree = ClassTree::new(&PARENTS, &NAMES)?;
        let probabilities = Probabilities::new(vec![0.25, 0.5, 0.125, 0.125], 4)?;
        assert_eq!(tree.fold_probabilities(&probabilities)?.as_slice(), [0.625, 0.375]);
        let result = tree.result(&[3], &probabilities)?;
        assert_eq!((result.accuracy, result.per_class[0].name.as_str()), (1.0, "healthy"));
        Ok(())
    }

    #[test]
    fn class_tree_refuses_what_does_not_fit() {
        let error = ClassTree::new(&[0, 2], &NAMES).unwrap_err().to_string();
        assert_eq!(error, "parents[1] is 2, but there are 2 classes (0-based)");
        assert!(ClassTree::new(&[], &NAMES).is_err());
        let tree = ClassTree::new(&PARENTS, &NAMES).unwrap();
        assert!(tree.fold_labels(&[4]).is_err());
        assert!(tree.fold_probabilities(&Probabilities::new(vec![1.0], 1).unwrap()).is_err());
        assert!(tree.fold_confusion(&Confusion::new(2, &[0], &[0]).unwrap()).is_err());
    }
}
