//! Sets of classes that hold the label with a chosen probability.

use serde::Serialize;

use crate::error::{EvalError, same_length};
use crate::probabilities::Probabilities;

/// Names of [`ConformalScore`]s.
pub const CONFORMAL_SCORES: &[&str] = &["lac", "aps"];

/// What is held against a class of a sample: the higher, the later it enters the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConformalScore {
    /// Least ambiguous sets: one minus the probability of the class. The smallest sets on average;
    /// a hard sample may get an empty one.
    Lac,
    /// Adaptive prediction sets: the summed probability of the class and all that are more
    /// probable (of equals those of smaller index). Larger sets for hard samples.
    Aps,
}

impl ConformalScore {
    /// The score of that name: `lac` or `aps`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn named(name: &str) -> Result<Self, EvalError> {
        match name {
            "lac" => Ok(Self::Lac),
            "aps" => Ok(Self::Aps),
            _ => Err(EvalError::UnknownName {
                what: "conformal score",
                name: name.to_owned(),
                known: CONFORMAL_SCORES,
            }),
        }
    }

    /// The score of every class of a sample, `[n_classes]`, in `[0, 1]` but for rounding.
    fn of_row(self, row: &[f32]) -> Vec<f64> {
        match self {
            Self::Lac => row.iter().map(|&p| 1.0 - f64::from(p)).collect(),
            Self::Aps => {
                let mut by_probability: Vec<usize> = (0..row.len()).collect();
                by_probability.sort_by(|&left, &right| row[right].total_cmp(&row[left]));
                let (mut scores, mut sum) = (vec![0.0; row.len()], 0.0);
                for class_idx in by_probability {
                    sum += f64::from(row[class_idx]);
                    scores[class_idx] = sum;
                }
                scores
            }
        }
    }
}

/// Split-conformal prediction: sets of classes, with a threshold from samples of known label.
///
/// ```text
/// threshold = the ceil((n + 1) level)-th smallest score of n calibration labels
/// set(x)    = { c : score(x, c) <= threshold }
/// ```
///
/// The set of a new sample holds its label with probability `level` or more (and, with scores
/// that never tie, at most `level + 1 / (n + 1)`), whatever the model, if it is drawn as the
/// calibration samples were: over all samples together, not within a class, and not for slides
/// or hospitals that these do not stand for. Where `n` is too small for the level, below
/// `level / (1 - level)`, every set holds all classes.
///
/// # Source
///
/// Papadopoulos et al. 2002 (the split); Sadinle, Lei and Wasserman 2019 (LAC); Romano, Sesia and
/// Candès 2020 (APS; here without its randomization, which would make sets somewhat smaller but
/// no longer a function of the sample). `conformal_sets_cover_as_often_as_wanted` holds both to
/// the level.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Conformal, ConformalScore, Probabilities};
///
/// let calibration = Probabilities::new(vec![0.9, 0.1, 0.6, 0.4, 0.3, 0.7, 0.2, 0.8], 2)?;
/// let conformal = Conformal::fit(ConformalScore::Lac, &calibration, &[0, 1, 1, 1], 0.8)?;
/// let test = Probabilities::new(vec![0.99, 0.01, 0.5, 0.5], 2)?;
/// assert_eq!(conformal.sets(&test)?, [vec![0], vec![0, 1]]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Conformal {
    score: ConformalScore,
    level: f64,
    /// Infinite where all classes are in every set.
    threshold: f64,
    n_classes: usize,
}

/// How prediction sets did on samples of known label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConformalResult {
    /// The wanted coverage, in `(0, 1)`.
    pub level: f64,
    /// Fraction of sets that hold the label, in `[0, 1]`.
    pub coverage: f64,
    /// Mean number of classes in a set.
    pub mean_size: f64,
    /// Number of empty sets.
    pub empty: u64,
    /// Number of sets of size 0, 1, ..., `n_classes`.
    pub sizes: Vec<u64>,
}

impl Conformal {
    /// Finds the threshold on samples that the model was neither trained nor calibrated on.
    ///
    /// # Shapes
    ///
    /// `probabilities`: `[n, n_classes]`; `labels`: `[n]`; `level`, the wanted coverage, is in
    /// `(0, 1)`.
    ///
    /// # Errors
    ///
    /// When the level is outside its range, the lengths do not fit, or a label is not below the
    /// number of classes.
    pub fn fit(
        score: ConformalScore,
        probabilities: &Probabilities,
        labels: &[u32],
        level: f64,
    ) -> Result<Self, EvalError> {
        if !(level > 0.0 && level < 1.0) {
            let range = "between 0 and 1, both excluded";
            return Err(EvalError::OutOfRange { what: "level", value: level, range });
        }
        probabilities.check_labels(labels)?;
        let of_label = |(row, &label): (&[f32], &u32)| score.of_row(row)[label as usize];
        let mut scores: Vec<f64> = probabilities.rows().zip(labels).map(of_label).collect();
        scores.sort_unstable_by(f64::total_cmp);
        let rank = rank_of_quantile(scores.len(), level);
        let threshold = scores.get(rank - 1).copied().unwrap_or(f64::INFINITY);
        Ok(Self { score, level, threshold, n_classes: probabilities.n_classes() })
    }

    /// The highest score in a set; infinite where all classes are in every set.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The set of every sample, `[n]`: class indices from the smallest.
    ///
    /// # Errors
    ///
    /// When the probabilities are of another number of classes than those of the fit.
    pub fn sets(&self, probabilities: &Probabilities) -> Result<Vec<Vec<u32>>, EvalError> {
        same_length(
            ("a row of probabilities", probabilities.n_classes()),
            ("a row of those of the fit", self.n_classes),
        )?;
        let set = |row: &[f32]| {
            let scores = self.score.of_row(row).into_iter();
            let is_in = scores.map(|score| score <= self.threshold);
            (0..).zip(is_in).filter_map(|(class_idx, is_in)| is_in.then_some(class_idx)).collect()
        };
        Ok(probabilities.rows().map(set).collect())
    }

    /// How often the sets hold the label, and how large they are.
    ///
    /// # Shapes
    ///
    /// `probabilities`: `[n, n_classes]`; `labels`: `[n]`.
    ///
    /// # Errors
    ///
    /// When the lengths or the numbers of classes do not fit or a label is not below the number
    /// of classes.
    pub fn evaluate(
        &self,
        probabilities: &Probabilities,
        labels: &[u32],
    ) -> Result<ConformalResult, EvalError> {
        probabilities.check_labels(labels)?;
        let sets = self.sets(probabilities)?;
        let mut sizes = vec![0; self.n_classes + 1];
        for set in &sets {
            sizes[set.len()] += 1;
        }
        let n_covered = sets.iter().zip(labels).filter(|(set, label)| set.contains(label)).count();
        let n_members: usize = sets.iter().map(Vec::len).sum();
        let n_samples = sets.len() as f64;
        Ok(ConformalResult {
            level: self.level,
            coverage: n_covered as f64 / n_samples,
            mean_size: n_members as f64 / n_samples,
            empty: sizes[0],
            sizes,
        })
    }
}

/// `ceil((n + 1) level)`, at least 1.
fn rank_of_quantile(n: usize, level: f64) -> usize {
    // A product such as 100 * 0.55 lies a rounding above the whole number that it is.
    let rank = (n + 1) as f64 * level;
    (rank * (1.0 - 4.0 * f64::EPSILON)).ceil().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::draws::Draws;

    const SCORES: [ConformalScore; 2] = [ConformalScore::Lac, ConformalScore::Aps];

    #[test]
    fn rank_of_quantile_is_the_finite_sample_one() {
        let ranks = [(9, 0.9, 9), (8, 0.9, 9), (99, 0.55, 55), (19, 0.95, 19), (100, 0.9, 91)];
        for (n, level, rank) in ranks {
            assert_eq!(rank_of_quantile(n, level), rank, "{n} {level}");
        }
        assert_eq!(rank_of_quantile(1, 1e-9), 1);
    }

    #[test]
    fn conformal_scores_are_those_of_their_definition() {
        let row = [0.25, 0.5, 0.0, 0.25];
        assert_eq!(ConformalScore::Lac.of_row(&row), [0.75, 0.5, 1.0, 0.75]);
        assert_eq!(ConformalScore::Aps.of_row(&row), [0.75, 0.5, 1.0, 1.0]);
    }

    /// The mean over draws of a calibration set of 50 and a test set of 20: the guarantee is on
    /// this mean, whose standard error with 2,000 draws is below 0.0025; four of them.
    #[test]
    fn conformal_sets_cover_as_often_as_wanted() -> Result<(), EvalError> {
        const N_DRAWS: u64 = 2_000;
        const ERROR: f64 = 0.01;
        for score in SCORES {
            for level in [0.8, 0.9] {
                let mut mean = 0.0;
                for seed in 0..N_DRAWS {
                    let (probabilities, labels) = Draws::new(seed).samples(70, 5, 0.4)?;
                    let split = 50 * 5;
                    let part = |values: &[f32]| Probabilities::new(values.to_vec(), 5);
                    let calibration = part(&probabilities.as_slice()[..split])?;
                    let test = part(&probabilities.as_slice()[split..])?;
                    let conformal = Conformal::fit(score, &calibration, &labels[..50], level)?;
                    mean += conformal.evaluate(&test, &labels[50..])?.coverage / N_DRAWS as f64;
                }
                let most = level + 1.0 / 51.0;
                assert!(mean > level - ERROR && mean < most + ERROR, "{score:?} {level}: {mean}");
            }
        }
        Ok(())
    }

    #[test]
    fn conformal_sets_grow_with_the_level() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(1).samples(200, 4, 1.0)?;
        for score in SCORES {
            let mut smaller = vec![Vec::new(); 200];
            for level in [0.3, 0.5, 0.7, 0.9, 0.99] {
                let conformal = Conformal::fit(score, &probabilities, &labels, level)?;
                let sets = conformal.sets(&probabilities)?;
                for (set, smaller) in sets.iter().zip(&smaller) {
                    assert!(smaller.iter().all(|class_idx| set.contains(class_idx)));
                }
                let result = conformal.evaluate(&probabilities, &labels)?;
                assert!(result.coverage >= level);
                assert_eq!(result.sizes.iter().sum::<u64>(), 200);
                assert_eq!(result.empty, result.sizes[0]);
                smaller = sets;
            }
        }
        Ok(())
    }

    #[test]
    fn conformal_sets_of_too_few_samples_hold_all_classes() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(3).samples(8, 3, 0.2)?;
        for score in SCORES {
            let conformal = Conformal::fit(score, &probabilities, &labels, 0.9)?;
            assert_eq!(conformal.threshold(), f64::INFINITY);
            let result = conformal.evaluate(&probabilities, &labels)?;
            assert_eq!((result.coverage, result.mean_size), (1.0, 3.0));
            assert_eq!(result.sizes, [0, 0, 0, 8]);
        }
        Ok(())
    }

    #[test]
    fn conformal_refuses_what_it_cannot_hold() -> Result<(), EvalError> {
        let (probabilities, labels) = Draws::new(3).samples(9, 3, 1.0)?;
        for level in [0.0, 1.0, f64::NAN] {
            assert!(Conformal::fit(ConformalScore::Lac, &probabilities, &labels, level).is_err());
        }
        let conformal = Conformal::fit(ConformalScore::Aps, &probabilities, &labels, 0.5)?;
        let other = Probabilities::new(vec![0.5, 0.5], 2)?;
        assert!(conformal.sets(&other).is_err());
        assert!(conformal.evaluate(&probabilities, &labels[1..]).is_err());
        Ok(())
    }

    #[test]
    fn conformal_score_is_chosen_by_name() {
        let named = CONFORMAL_SCORES.iter().map(|name| ConformalScore::named(name));
        assert_eq!(named.collect::<Result<Vec<_>, _>>(), Ok(SCORES.to_vec()));
        let error = ConformalScore::named("raps").unwrap_err().to_string();
        assert_eq!(error, "there is no conformal score \"raps\": choose one of lac, aps");
    }
}
