//! What a linear classifier reads from frozen features.

use rayon::prelude::*;

use super::lbfgs::Stopping;
use super::logistic_regression::LogisticRegression;
use crate::error::{EvalError, same_length, two_classes};
use crate::features::Features;
use crate::folds::stratified_folds;
use crate::probabilities::Probabilities;
use crate::standardizer::Standardizer;

/// Probabilities are not below this, so that a class that a fold did not learn costs the same,
/// finite loss with every regularization.
const SMALLEST_PROBABILITY: f64 = 1e-15;

/// How a linear probe is fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProbeConfig {
    /// The regularizations to choose from, each above 0; see [`LogisticRegression`].
    pub l2: Vec<f64>,
    /// Folds of the cross-validation, at least 2.
    pub n_folds: usize,
    /// When a fit ends.
    pub stopping: Stopping,
    /// Decides which samples are in which fold.
    pub seed: u64,
}

impl LinearProbeConfig {
    /// Nine values of `l2` from 1 down to 1e-4 in steps of half a decade, five folds.
    #[must_use]
    pub fn half_decades(seed: u64) -> Self {
        Self {
            l2: (0..9).map(|step| 10.0_f64.powf(-0.5 * f64::from(step))).collect(),
            n_folds: 5,
            stopping: Stopping { max_iterations: 1000, gradient_tolerance: 1e-5 },
            seed,
        }
    }
}

/// A [`LogisticRegression`] on standardized features whose `l2` has the smallest cross entropy on
/// held-out folds.
///
/// Mean and spread are those of the samples that a model was fitted on, in every fold. Of equally
/// good regularizations the stronger one is taken.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Features, LinearProbe, LinearProbeConfig};
///
/// let values = (0..40).map(|i| (i % 2) as f32 * 3.0 + (i as f32).sin()).collect();
/// let train = Features::new(values, 1)?;
/// let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
/// let probe = LinearProbe::fit(&train, &labels, 2, None, &LinearProbeConfig::half_decades(0))?;
/// assert!(probe.model().has_converged());
/// assert_eq!(probe.predict(&Features::new(vec![3.5, -0.5], 1)?)?, [1, 0]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProbe {
    standardizer: Standardizer,
    model: LogisticRegression,
    l2: f64,
    held_out_losses: Vec<(f64, f64)>,
}

impl LinearProbe {
    /// Chooses the regularization by cross-validation and fits all samples with it.
    ///
    /// # Shapes
    ///
    /// `train`: `f32 [n, width]`; `labels`: `u32 [n]`, below `n_classes`; `groups`: `u32 [n]`:
    /// samples of one group are in the same fold (see [`stratified_folds`]).
    ///
    /// # Errors
    ///
    /// When there is no regularization to choose from or one is not above 0, the labels or groups
    /// do not fit, all labels (also: of all folds but one) are of one class, or there are fewer
    /// than two groups.
    pub fn fit(
        train: &Features,
        labels: &[u32],
        n_classes: usize,
        groups: Option<&[u32]>,
        config: &LinearProbeConfig,
    ) -> Result<Self, EvalError> {
        let mut grid = config.l2.clone();
        // From the strongest: each fit starts where the one before ended.
        grid.sort_by(|left, right| right.total_cmp(left));
        if grid.is_empty() {
            return Err(EvalError::Empty { what: "l2" });
        }
        same_length(("labels", labels.len()), ("train", train.n()))?;
        two_classes("labels", labels)?;
        let fold_of = stratified_folds(labels, n_classes, groups, config.n_folds, config.seed)?;
        let n_folds = fold_of.iter().max().map_or(0, |last| last + 1);
        let problem = Problem { train, labels, n_classes, grid: &grid, config };
        let losses: Vec<Vec<f64>> = (0..n_folds)
            .into_par_iter()
            .map(|fold| problem.held_out_losses(&fold_of, fold))
            .collect::<Result<_, _>>()?;
        let mean =
            |idx: usize| losses.iter().map(|losses| losses[idx]).sum::<f64>() / labels.len() as f64;
        let held_out_losses: Vec<(f64, f64)> =
            grid.iter().enumerate().map(|(idx, &l2)| (l2, mean(idx))).collect();
        let better =
            |best: (f64, f64), next: &(f64, f64)| if next.1 < best.1 { *next } else { best };
        let (l2, _) = held_out_losses.iter().fold((grid[0], f64::INFINITY), better);
        let standardizer = Standardizer::fit(train)?;
        let standardized = standardizer.transform(train)?;
        let model = LogisticRegression::fit(&standardized, labels, n_classes, l2, config.stopping)?;
        Ok(Self { standardizer, model, l2, held_out_losses })
    }

    /// Probabilities of the classes, `[m, n_classes]`.
    ///
    /// # Errors
    ///
    /// When there is no query, the width is not that of the training features, or a value is so far outside them
    /// that it cannot be standardized.
    pub fn probabilities(&self, query: &Features) -> Result<Probabilities, EvalError> {
        self.model.probabilities(&self.standardizer.transform(query)?)
    }

    /// The most probable class of every row, of equal ones the smaller index, `u32 [m]`.
    ///
    /// # Errors
    ///
    /// As [`Self::probabilities`], but that there may be no query.
    pub fn predict(&self, query: &Features) -> Result<Vec<u32>, EvalError> {
        self.model.predict(&self.standardizer.transform(query)?)
    }

    /// The model of all samples, which reads standardized features; it knows whether it has
    /// converged.
    #[must_use]
    pub fn model(&self) -> &LogisticRegression {
        &self.model
    }

    /// The regularization that was chosen.
    #[must_use]
    pub fn l2(&self) -> f64 {
        self.l2
    }

    /// Each regularization, strongest first, and its mean cross entropy on held-out folds, in
    /// nats.
    #[must_use]
    pub fn held_out_losses(&self) -> &[(f64, f64)] {
        &self.held_out_losses
    }
}

struct Problem<'a> {
    train: &'a Features,
    labels: &'a [u32],
    n_classes: usize,
    grid: &'a [f64],
    config: &'a LinearProbeConfig,
}

impl Problem<'_> {
    /// Sum of the cross entropies of a fold's samples, for every regularization.
    fn held_out_losses(&self, fold_of: &[usize], fold: usize) -> Result<Vec<f64>, EvalError> {
        let (seen, seen_labels) = self.select(|sample| fold_of[sample] != fold)?;
        let (held_out, held_out_labels) = self.select(|sample| fold_of[sample] == fold)?;
        let standardizer = Standardizer::fit(&seen)?;
        let (seen, held_out) = (standardizer.transform(&seen)?, standardizer.transform(&held_out)?);
        let mut model = None;
        let mut losses = Vec::with_capacity(self.grid.len());
        for &l2 in self.grid {
            let next = LogisticRegression::fit_from(
                model.as_ref(),
                &seen,
                &seen_labels,
                self.n_classes,
                l2,
                self.config.stopping,
            )?;
            let shares = next.shares(&held_out)?;
            let rows = shares.chunks_exact(self.n_classes).zip(&held_out_labels);
            let loss =
                |(row, &label): (&[f64], &u32)| -row[label as usize].max(SMALLEST_PROBABILITY).ln();
            losses.push(rows.map(loss).sum());
            model = Some(next);
        }
        Ok(losses)
    }

    fn select(&self, is_in: impl Fn(usize) -> bool) -> Result<(Features, Vec<u32>), EvalError> {
        let rows = self.train.rows().zip(self.labels).enumerate();
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for (_, (row, &label)) in rows.filter(|(sample, _)| is_in(*sample)) {
            values.extend_from_slice(row);
            labels.push(label);
        }
        Ok((Features::new(values, self.train.width())?, labels))
    }
}

#[cfg(test)]
mod tests {
    use s5cl_random::named_stream;

    use super::*;

    /// Two classes that differ by one spread in the first column; the others are noise, of very
    /// different units.
    fn noisy(n: usize, width: usize, seed: u64) -> (Features, Vec<u32>) {
        let mut stream = named_stream(seed, "noisy");
        let labels: Vec<u32> = (0..n as u32).map(|i| i % 2).collect();
        let values = labels.iter().flat_map(|&label| {
            let signal = stream.normal() + 2.0 * label as f32;
            let noise: Vec<f32> = (1..width).map(|_| 1e3 * stream.normal()).collect();
            std::iter::once(signal).chain(noise)
        });
        (Features::new(values.collect(), width).unwrap(), labels)
    }

    #[test]
    fn linear_probe_chooses_the_regularization_that_generalizes() {
        let config = LinearProbeConfig::half_decades(0);
        let (train, labels) = noisy(60, 40, 1);
        let probe = LinearProbe::fit(&train, &labels, 2, None, &config).unwrap();
        let losses = probe.held_out_losses();
        let of_chosen = losses.iter().find(|(l2, _)| *l2 == probe.l2()).unwrap().1;
        assert!(losses.iter().all(|&(_, loss)| of_chosen <= loss), "{losses:?}");
        // With 60 samples of 40 columns, the weakest one learns the noise by heart.
        assert!(of_chosen < losses[8].1 && probe.l2() > 1e-3, "{losses:?}");
        let (test, test_labels) = noisy(1000, 40, 2);
        let predictions = probe.predict(&test).unwrap();
        let n_right = predictions.iter().zip(&test_labels).filter(|(a, b)| a == b).count();
        // The best possible is 84 %.
        assert!(n_right > 650, "{n_right}");
        assert!(probe.model().has_converged());
    }

    #[test]
    fn linear_probe_holds_out_whole_groups() {
        // Each group of four has a value of its own, and labels that say nothing else. A sample of
        // the same group in training would make every prediction right.
        let groups: Vec<u32> = (0..80).map(|i| i / 4).collect();
        let labels: Vec<u32> = groups
            .iter()
            .map(|&g| u32::from(named_stream(3, &g.to_string()).chance(0.5)))
            .collect();
        let one_hot = |g: u32| (0..20).map(move |column| f32::from(u8::from(column == g)));
        let values = groups.iter().flat_map(|&g| one_hot(g)).collect();
        let train = Features::new(values, 20).unwrap();
        let config = LinearProbeConfig::half_decades(0);
        let loss = |groups| {
            let probe = LinearProbe::fit(&train, &labels, 2, groups, &config).unwrap();
            probe.held_out_losses().iter().map(|&(_, loss)| loss).fold(f64::INFINITY, f64::min)
        };
        assert!(loss(None) < 0.1, "{}", loss(None));
        assert!(loss(Some(&groups)) > 0.6, "{}", loss(Some(&groups)));
    }

    #[test]
    fn linear_probe_refuses_bad_input() {
        let (train, labels) = noisy(10, 2, 0);
        let config = LinearProbeConfig::half_decades(0);
        let error = |labels: &[u32], groups: Option<&[u32]>, config: &LinearProbeConfig| {
            LinearProbe::fit(&train, labels, 2, groups, config).unwrap_err().to_string()
        };
        let none = LinearProbeConfig { l2: Vec::new(), ..config.clone() };
        assert!(error(&labels, None, &none).starts_with("l2 is empty"));
        let negative = LinearProbeConfig { l2: vec![-1.0], ..config.clone() };
        assert!(error(&labels, None, &negative).starts_with("l2 is -1"));
        assert!(error(&[0; 10], None, &config).contains("all of class 0"));
        assert!(error(&labels[..9], None, &config).contains("labels has 9 entries"));
        assert!(error(&labels, Some(&[5; 10]), &config).contains("there are 1 groups"));
    }
}
