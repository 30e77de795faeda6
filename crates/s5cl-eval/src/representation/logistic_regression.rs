//! Multinomial logistic regression with an L2 penalty.

use super::lbfgs::{Minimum, Stopping, minimize};
use crate::error::{EvalError, classes_in_range, positive, same_length, same_width, two_classes};
use crate::features::Features;
use crate::probabilities::Probabilities;
use crate::vectors::{argmax, dot_f64};

/// A linear classifier of features:
///
/// `p(c | x) = softmax_c(w_c . x + b_c)`, which minimizes
/// `1 / n * sum_i -ln p(y_i | x_i) + l2 / 2 * sum_c |w_c|^2`
///
/// Intercepts are not penalized; they sum to zero. Classes without a training sample have
/// probability 0 and no coefficients.
///
/// # Source
///
/// scikit-learn's `LogisticRegression` with `C = 1 / (n * l2)` for three classes and more. For
/// two it penalizes one vector of coefficients instead of two, which is `C = 2 / (n * l2)` here.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Features, LogisticRegression, Stopping};
///
/// let train = Features::new(vec![-2.0, -1.0, 1.0, 2.0], 1)?;
/// let stopping = Stopping { max_iterations: 100, gradient_tolerance: 1e-6 };
/// let model = LogisticRegression::fit(&train, &[0, 0, 1, 1], 2, 0.1, stopping)?;
/// assert!(model.has_converged());
/// assert_eq!(model.predict(&train)?, [0, 0, 1, 1]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticRegression {
    n_classes: usize,
    width: usize,
    /// The classes that occurred, ascending.
    classes: Vec<u32>,
    /// `[classes.len(), width + 1]`; the last column holds the intercepts.
    parameters: Vec<f64>,
    gradient_norm: f64,
    n_iterations: usize,
    has_converged: bool,
}

impl LogisticRegression {
    /// Fits the coefficients by L-BFGS in `f64`, from zero.
    ///
    /// # Shapes
    ///
    /// `train`: `f32 [n, width]`; `labels`: `u32 [n]`, below `n_classes`; `l2` above 0.
    ///
    /// # Errors
    ///
    /// When the labels do not fit or are all of one class, or `l2` or the tolerance is not above
    /// 0. That the minimum was not reached is no error: see [`Self::has_converged`].
    pub fn fit(
        train: &Features,
        labels: &[u32],
        n_classes: usize,
        l2: f64,
        stopping: Stopping,
    ) -> Result<Self, EvalError> {
        Self::fit_from(None, train, labels, n_classes, l2, stopping)
    }

    /// As [`Self::fit`], from the coefficients of another model of the same classes.
    pub(crate) fn fit_from(
        start: Option<&Self>,
        train: &Features,
        labels: &[u32],
        n_classes: usize,
        l2: f64,
        stopping: Stopping,
    ) -> Result<Self, EvalError> {
        same_length(("labels", labels.len()), ("train", train.n()))?;
        classes_in_range("labels", labels, n_classes)?;
        two_classes("labels", labels)?;
        positive("l2", l2)?;
        positive("gradient tolerance", stopping.gradient_tolerance)?;
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        let position = |label: &u32| classes.partition_point(|class| class < label);
        let targets: Vec<usize> = labels.iter().map(position).collect();
        let rows: Vec<f64> = train.as_slice().iter().map(|&value| f64::from(value)).collect();
        let problem = Problem { rows, targets, width: train.width(), n_classes: classes.len(), l2 };
        let zeros = || vec![0.0; classes.len() * (train.width() + 1)];
        let parameters = start.map_or_else(zeros, |start| start.parameters.clone());
        let Minimum { point, gradient_norm, n_iterations, .. } =
            minimize(parameters, stopping, |point, gradient| problem.objective(point, gradient));
        Ok(Self {
            n_classes,
            width: train.width(),
            classes,
            parameters: point,
            gradient_norm,
            n_iterations,
            has_converged: gradient_norm <= stopping.gradient_tolerance,
        })
    }

    /// Probabilities of the classes, `[m, n_classes]`.
    ///
    /// # Errors
    ///
    /// When there is no query, or the width is not that of the training features.
    pub fn probabilities(&self, query: &Features) -> Result<Probabilities, EvalError> {
        Probabilities::of_queries(&self.shares(query)?, self.n_classes)
    }

    /// The probabilities before they are rounded, `[m, n_classes]`, of any number of queries.
    pub(crate) fn shares(&self, query: &Features) -> Result<Vec<f64>, EvalError> {
        same_width(self.width, query.width())?;
        let mut probabilities = vec![0.0; query.n() * self.n_classes];
        let mut logits = vec![0.0; self.classes.len()];
        let mut row = vec![0.0; self.width];
        let found = probabilities.chunks_exact_mut(self.n_classes);
        for (values, probabilities) in query.rows().zip(found) {
            row.iter_mut().zip(values).for_each(|(to, &from)| *to = f64::from(from));
            write_logits(&row, &self.parameters, &mut logits);
            softmax(&mut logits);
            for (&class, &probability) in self.classes.iter().zip(&logits) {
                probabilities[class as usize] = probability;
            }
        }
        Ok(probabilities)
    }

    /// The most probable class of every row, of equal ones the smaller index, `u32 [m]`.
    ///
    /// # Errors
    ///
    /// When the width is not that of the training features.
    pub fn predict(&self, query: &Features) -> Result<Vec<u32>, EvalError> {
        let shares = self.shares(query)?;
        Ok(shares.chunks_exact(self.n_classes).map(|row| argmax(row) as u32).collect())
    }

    /// Coefficients of a class, `[width]`, and its intercept; none if it had no training sample.
    #[must_use]
    pub fn coefficients(&self, class_idx: u32) -> Option<(&[f64], f64)> {
        let position = self.classes.binary_search(&class_idx).ok()?;
        let of_class = &self.parameters[position * (self.width + 1)..][..=self.width];
        of_class.split_last().map(|(intercept, weights)| (weights, *intercept))
    }

    /// Whether the gradient is below the tolerance.
    #[must_use]
    pub fn has_converged(&self) -> bool {
        self.has_converged
    }

    /// Largest absolute component of the gradient at the end.
    #[must_use]
    pub fn gradient_norm(&self) -> f64 {
        self.gradient_norm
    }

    /// Steps that were taken.
    #[must_use]
    pub fn n_iterations(&self) -> usize {
        self.n_iterations
    }
}

struct Problem {
    /// `[n, width]`.
    rows: Vec<f64>,
    /// Positions among the classes that occur, `[n]`.
    targets: Vec<usize>,
    width: usize,
    n_classes: usize,
    l2: f64,
}

impl Problem {
    fn objective(&self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let scale = 1.0 / self.targets.len() as f64;
        let mut logits = vec![0.0; self.n_classes];
        let mut loss = 0.0;
        gradient.fill(0.0);
        for (row, &target) in self.rows.chunks_exact(self.width).zip(&self.targets) {
            write_logits(row, parameters, &mut logits);
            let of_target = logits[target];
            loss += softmax(&mut logits) - of_target;
            logits[target] -= 1.0;
            for (&residual, gradient) in
                logits.iter().zip(gradient.chunks_exact_mut(self.width + 1))
            {
                let residual = residual * scale;
                gradient[self.width] += residual;
                gradient.iter_mut().zip(row).for_each(|(sum, value)| *sum += residual * value);
            }
        }
        let mut penalty = 0.0;
        let of_classes = parameters.chunks_exact(self.width + 1);
        for (weights, gradient) in of_classes.zip(gradient.chunks_exact_mut(self.width + 1)) {
            for (weight, gradient) in weights.iter().zip(gradient).take(self.width) {
                penalty += weight * weight;
                *gradient += self.l2 * weight;
            }
        }
        loss * scale + self.l2 / 2.0 * penalty
    }
}

fn write_logits(row: &[f64], parameters: &[f64], logits: &mut [f64]) {
    for (logit, of_class) in logits.iter_mut().zip(parameters.chunks_exact(row.len() + 1)) {
        *logit = dot_f64(row, &of_class[..row.len()]) + of_class[row.len()];
    }
}

/// Turns logits into probabilities and returns `ln sum exp(logits)`.
fn softmax(logits: &mut [f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
    let total: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|logit| *logit /= total);
    largest + total.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPING: Stopping = Stopping { max_iterations: 500, gradient_tolerance: 1e-8 };

    fn line(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 1).unwrap()
    }

    #[test]
    fn logistic_regression_gradient_is_the_derivative() {
        let problem = Problem {
            rows: (0..30).map(|i| (f64::from(i) * 1.7).sin()).collect(),
            targets: (0..10).map(|i| i % 3).collect(),
            width: 3,
            n_classes: 3,
            l2: 0.3,
        };
        let point: Vec<f64> = (0..12).map(|i| f64::from(i).cos()).collect();
        let (mut gradient, mut unused) = (vec![0.0; 12], vec![0.0; 12]);
        problem.objective(&point, &mut gradient);
        for idx in 0..12 {
            let mut at = |shift: f64| {
                let mut point = point.clone();
                point[idx] += shift;
                problem.objective(&point, &mut unused)
            };
            let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((gradient[idx] - numeric).abs() < 1e-9, "{idx}: {numeric}");
        }
    }

    #[test]
    fn logistic_regression_gives_absent_classes_nothing() {
        let train = line(&[-2.0, -1.0, 1.0, 2.0]);
        let model = LogisticRegression::fit(&train, &[1, 1, 3, 3], 5, 0.1, STOPPING).unwrap();
        let probabilities = model.shares(&line(&[0.5])).unwrap();
        assert_eq!([probabilities[0], probabilities[2], probabilities[4]], [0.0; 3]);
        assert!((probabilities[1] + probabilities[3] - 1.0).abs() < 1e-15);
        assert_eq!(model.predict(&line(&[0.5, -0.5])).unwrap(), [3, 1]);
        assert_eq!(model.coefficients(2), None);
    }

    #[test]
    fn logistic_regression_says_when_it_has_not_converged() {
        let train = line(&[-2.0, -1.0, 1.0, 2.0]);
        let fit = |max_iterations| {
            let stopping = Stopping { max_iterations, ..STOPPING };
            LogisticRegression::fit(&train, &[0, 1, 0, 1], 2, 0.01, stopping).unwrap()
        };
        let (early, done) = (fit(1), fit(500));
        assert!(!early.has_converged() && early.gradient_norm() > STOPPING.gradient_tolerance);
        assert!(done.has_converged() && done.gradient_norm() <= STOPPING.gradient_tolerance);
        assert!(early.n_iterations() == 1 && done.n_iterations() > 1);
    }

    #[test]
    fn logistic_regression_refuses_bad_input() {
        let train = line(&[0.0, 1.0]);
        let fit = |labels: &[u32], l2| {
            let error = LogisticRegression::fit(&train, labels, 2, l2, STOPPING).unwrap_err();
            error.to_string()
        };
        assert_eq!(fit(&[1, 1], 1.0), "labels are all of class 1: at least two classes are needed");
        assert_eq!(fit(&[0, 1], 0.0), "l2 is 0: it must be above 0 and finite");
        assert_eq!(fit(&[0, 1], f64::NAN), "l2 is NaN: it must be above 0 and finite");
        assert!(fit(&[0], 1.0).contains("labels has 1 entries"));
        assert!(fit(&[0, 2], 1.0).contains("labels[1] is 2"));
        let empty = LogisticRegression::fit(&line(&[]), &[], 2, 1.0, STOPPING);
        assert_eq!(empty, Err(EvalError::Empty { what: "labels" }));
        let model = LogisticRegression::fit(&train, &[0, 1], 2, 1.0, STOPPING).unwrap();
        assert!(model.predict(&Features::new(vec![0.0; 2], 2).unwrap()).is_err());
    }
}
