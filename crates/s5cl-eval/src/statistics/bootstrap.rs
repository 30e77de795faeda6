//! The bootstrap over samples or whole groups, for any figure.

use rayon::prelude::*;
use s5cl_random::named_stream;
use serde::Serialize;

use super::distributions::{normal_cdf, normal_quantile, student_cdf, student_two_sided};
use super::groups::Groups;
use super::interval::{Interval, checked_level};
use crate::error::{EvalError, at_least};

/// How a bootstrap is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BootstrapConfig {
    /// How many test sets are drawn, at least 2.
    pub replicates: usize,
    /// The chance with which an interval is to hold the truth, in `(0, 1)`.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl BootstrapConfig {
    /// 2,000 replicates and intervals of 95 %.
    #[must_use]
    pub fn standard(seed: u64) -> Self {
        Self { replicates: 2_000, level: 0.95, seed }
    }

    fn check(&self) -> Result<(), EvalError> {
        checked_level(self.level)?;
        at_least("replicates", self.replicates, 2)
    }
}

/// What [`bootstrap`] gives, in the unit of the statistic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BootstrapResult {
    /// The statistic of the test set itself.
    pub estimate: f64,
    /// Where the truth lies with the chance asked for.
    pub interval: Interval,
    /// Replicates on which the statistic was undefined; they are left out of the interval.
    pub n_undefined: usize,
}

/// The interval of any statistic of the test set, by drawing test sets from it.
///
/// A replicate draws as many samples as there are, with replacement; with groups as many whole
/// groups. `statistic` gets the indices of the drawn samples, in which a sample may occur several
/// times, and answers `None` where it is undefined (a class that was not drawn).
///
/// The ends are quantiles of the replicates, corrected for bias and skewness (BCa), at levels
/// widened from the normal to Student's t and by `sqrt(n / (n - 1))`, where n is the number of
/// samples or groups: the replicates of few groups spread too little. The result is the same for
/// any number of threads.
///
/// By simulation at 95 %, of the mean of a figure between 0 and 1, in groups of five samples, 94 to
/// 95 % of the draws are covered with 10 groups and more, and 91 % with 5; of the mean of a loss
/// that is as skewed as an exponential variable 88 % with 5 groups, 92 with 10, 93 with 20 to 40
/// and 94 with 100. Balanced accuracy of classes of a few images is covered in about 90 % only:
/// a class that is all right in the test set is so in every replicate. For such figures use
/// [`crate::accuracy_intervals`] and [`crate::compare_runs`].
///
/// # Shapes
///
/// `groups`: `[n]`, the same number for samples of the same group; `None` for independent
/// samples.
///
/// # Errors
///
/// When `groups` is not of length n, there are fewer than two samples or groups, the level is not
/// between 0 and 1, there are fewer than two replicates, or the statistic is undefined on the test
/// set or on more than half of the replicates.
///
/// # Source
///
/// Efron, "Better bootstrap confidence intervals", 1987. The wider levels: Hesterberg, "What
/// teachers should know about the bootstrap", 2015, section 4.3.
///
/// # Example
///
/// ```
/// use s5cl_eval::{BootstrapConfig, bootstrap};
///
/// let losses = [0.1, 0.4, 0.2, 0.9, 0.3, 0.5];
/// let slides = [1, 1, 2, 2, 3, 3];
/// let mean = |drawn: &[usize]| {
///     Some(drawn.iter().map(|&i| losses[i]).sum::<f64>() / drawn.len() as f64)
/// };
/// let result = bootstrap(6, Some(&slides), &BootstrapConfig::standard(0), mean)?;
/// assert!((result.estimate - 0.4).abs() < 1e-12 && result.interval.contains(0.4));
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn bootstrap(
    n: usize,
    groups: Option<&[u32]>,
    config: &BootstrapConfig,
    statistic: impl Fn(&[usize]) -> Option<f64> + Sync,
) -> Result<BootstrapResult, EvalError> {
    let replicates = Replicates::draw(n, groups, config, statistic)?;
    Ok(BootstrapResult {
        estimate: replicates.estimate,
        interval: replicates.interval(config.level),
        n_undefined: replicates.n_undefined,
    })
}

/// The statistic on the test set and on the drawn ones.
pub(super) struct Replicates {
    pub(super) estimate: f64,
    pub(super) n_undefined: usize,
    /// Ascending.
    values: Vec<f64>,
    /// BCa's acceleration: a sixth of the skewness of the statistic.
    acceleration: f64,
    /// Samples or groups that were drawn from.
    n_units: f64,
}

impl Replicates {
    pub(super) fn draw(
        n: usize,
        groups: Option<&[u32]>,
        config: &BootstrapConfig,
        statistic: impl Fn(&[usize]) -> Option<f64> + Sync,
    ) -> Result<Self, EvalError> {
        config.check()?;
        let what = if groups.is_some() { "groups" } else { "samples" };
        let members = Groups::new(n, groups)?.members();
        at_least(what, members.len(), 2)?;
        let everything: Vec<usize> = (0..n).collect();
        let statistic = |drawn: &[usize]| statistic(drawn).filter(|value| value.is_finite());
        let estimate = statistic(&everything).ok_or(EvalError::Undefined { n_undefined: None })?;
        let replicate = |number: usize| {
            let mut stream = named_stream(config.seed, &format!("bootstrap {number}"));
            let mut drawn = Vec::with_capacity(n);
            for _ in 0..members.len() {
                drawn.extend_from_slice(&members[stream.below(members.len())]);
            }
            statistic(&drawn)
        };
        // Every replicate has a stream of its own, so that it does not matter who draws it.
        let drawn: Vec<Option<f64>> =
            (0..config.replicates).into_par_iter().map(replicate).collect();
        let mut values: Vec<f64> = drawn.into_iter().flatten().collect();
        let n_undefined = config.replicates - values.len();
        if 2 * n_undefined > config.replicates {
            return Err(EvalError::Undefined { n_undefined: Some(n_undefined) });
        }
        values.sort_unstable_by(f64::total_cmp);
        let acceleration = acceleration(&members, statistic);
        Ok(Self { estimate, n_undefined, values, acceleration, n_units: members.len() as f64 })
    }

    pub(super) fn interval(&self, level: f64) -> Interval {
        self.between(student_two_sided(self.n_units - 1.0, level) * self.widening())
    }

    /// The BCa interval of z deviations to both sides.
    fn between(&self, z: f64) -> Interval {
        let end = |z: f64| self.quantile(normal_cdf(self.corrected(z)));
        Interval { low: end(-z), high: end(z) }
    }

    /// The level at which an interval's end would come to lie on `value`: its two-sided p-value.
    pub(super) fn p_value(&self, value: f64) -> f64 {
        let z = self.uncorrected(normal_quantile(self.share_below(value)));
        let t = z / self.widening();
        (2.0 * student_cdf(self.n_units - 1.0, -t.abs())).min(1.0)
    }

    fn widening(&self) -> f64 {
        (self.n_units / (self.n_units - 1.0)).sqrt()
    }

    /// Share of replicates below the value, ties by half, kept off 0 and 1 by half a replicate.
    fn share_below(&self, value: f64) -> f64 {
        let below = self.values.partition_point(|&other| other < value);
        let at_most = self.values.partition_point(|&other| other <= value);
        (0.5 * (below + at_most) as f64 + 0.5) / (self.values.len() as f64 + 1.0)
    }

    fn bias(&self) -> f64 {
        normal_quantile(self.share_below(self.estimate))
    }

    /// BCa: where among the replicates the point at z deviations stands.
    fn corrected(&self, z: f64) -> f64 {
        let moved = self.bias() + z;
        self.bias() + moved / (1.0 - self.acceleration * moved).max(0.0)
    }

    /// The inverse of [`Self::corrected`].
    fn uncorrected(&self, position: f64) -> f64 {
        let from_bias = position - self.bias();
        from_bias / (1.0 + self.acceleration * from_bias).max(0.0) - self.bias()
    }

    /// The quantile by linear interpolation between replicates.
    fn quantile(&self, share: f64) -> f64 {
        let position = share.clamp(0.0, 1.0) * (self.values.len() - 1) as f64;
        let below = position.floor() as usize;
        let above = (below + 1).min(self.values.len() - 1);
        let rest = position - below as f64;
        self.values[below] * (1.0 - rest) + self.values[above] * rest
    }
}

/// BCa's acceleration by the jackknife that leaves out one unit at a time; of many units a block.
fn acceleration(members: &[Vec<usize>], statistic: impl Fn(&[usize]) -> Option<f64> + Sync) -> f64 {
    /// Enough for a skewness, and few enough for a statistic that takes a while.
    const MOST_BLOCKS: usize = 200;
    let n_blocks = members.len().min(MOST_BLOCKS);
    let without = |block: usize| {
        let kept = members.iter().enumerate().filter(|(unit, _)| unit % n_blocks != block);
        statistic(&kept.flat_map(|(_, samples)| samples.iter().copied()).collect::<Vec<_>>())
    };
    let values: Vec<Option<f64>> = (0..n_blocks).into_par_iter().map(without).collect();
    let values: Vec<f64> = values.into_iter().flatten().collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let power = |exponent: i32| values.iter().map(|v| (mean - v).powi(exponent)).sum::<f64>();
    let spread = 6.0 * power(2).powf(1.5);
    if spread > 0.0 { power(3) / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f64; 20] = [
        0.02, 0.05, 0.07, 0.11, 0.13, 0.18, 0.22, 0.25, 0.31, 0.36, 0.42, 0.55, 0.61, 0.73, 0.88,
        1.05, 1.3, 1.74, 2.2, 3.9,
    ];

    fn mean(drawn: &[usize]) -> Option<f64> {
        Some(drawn.iter().map(|&i| VALUES[i]).sum::<f64>() / drawn.len() as f64)
    }

    // from scipy.stats import bootstrap
    // bootstrap((VALUES,), np.mean, n_resamples=100000, method="BCa").confidence_interval
    // over three seeds: 0.4560 to 1.3560, 0.4565 to 1.3569, 0.4575 to 1.3595
    #[test]
    fn bootstrap_without_its_widening_is_scipys() {
        /// What is left of chance in 40,000 replicates, as between scipy's seeds.
        const TOLERANCE: f64 = 0.012;
        let config = BootstrapConfig { replicates: 40_000, ..BootstrapConfig::standard(3) };
        let replicates = Replicates::draw(20, None, &config, mean).unwrap();
        let found = replicates.between(normal_quantile(0.975));
        assert!((found.low - 0.4567).abs() < TOLERANCE, "{found:?}");
        assert!((found.high - 1.3575).abs() < TOLERANCE, "{found:?}");
        let widened = replicates.interval(0.95);
        assert!(widened.low < found.low && widened.high > found.high);
    }

    #[test]
    fn bootstrap_is_the_same_on_any_number_of_threads() {
        let config = BootstrapConfig::standard(1);
        let on = |n_threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| bootstrap(20, None, &config, mean)).unwrap()
        };
        assert_eq!(on(1), on(3));
        assert_ne!(on(1), bootstrap(20, None, &BootstrapConfig::standard(2), mean).unwrap());
    }

    #[test]
    fn bootstrap_draws_whole_groups() {
        let groups: Vec<u32> = (0..20).map(|i| i / 4).collect();
        let whole = |drawn: &[usize]| {
            let counts = |group| drawn.iter().filter(|&&i| groups[i] == group).count();
            assert!((0..5).all(|group| counts(group) % 4 == 0));
            mean(drawn)
        };
        let grouped = bootstrap(20, Some(&groups), &BootstrapConfig::standard(0), whole).unwrap();
        // The groups are of neighbors, hence unlike each other, and five say less than twenty.
        let single = bootstrap(20, None, &BootstrapConfig::standard(0), mean).unwrap();
        assert_eq!(grouped.estimate, single.estimate);
        let width = |result: BootstrapResult| result.interval.high - result.interval.low;
        assert!(width(grouped) > width(single));
    }

    #[test]
    fn bootstrap_p_value_at_an_end_is_what_the_level_leaves() {
        /// One replicate of 20,000 more or less, where the density is low.
        const TOLERANCE: f64 = 0.002;
        let config = BootstrapConfig { replicates: 20_000, ..BootstrapConfig::standard(0) };
        let replicates = Replicates::draw(20, None, &config, mean).unwrap();
        let interval = replicates.interval(0.9);
        for end in [interval.low, interval.high] {
            let p_value = replicates.p_value(end);
            assert!((p_value - 0.1).abs() < TOLERANCE, "{p_value}");
        }
        assert!(replicates.p_value(-5.0) < 0.01);
    }

    #[test]
    fn bootstrap_counts_what_is_undefined() {
        // The largest value is not drawn by (19 / 20)^20, about 36 % of the replicates.
        let with_largest = |drawn: &[usize]| drawn.contains(&19).then(|| mean(drawn)).flatten();
        let found = bootstrap(20, None, &BootstrapConfig::standard(0), with_largest).unwrap();
        assert!((600..840).contains(&found.n_undefined), "{}", found.n_undefined);
        let with_all =
            |drawn: &[usize]| (0..20).all(|i| drawn.contains(&i)).then(|| mean(drawn)).flatten();
        let error = bootstrap(20, None, &BootstrapConfig::standard(0), with_all).unwrap_err();
        assert!(matches!(error, EvalError::Undefined { n_undefined: Some(_) }), "{error}");
    }

    #[test]
    fn bootstrap_of_a_constant_has_no_width() {
        let found = bootstrap(20, None, &BootstrapConfig::standard(0), |_| Some(0.5)).unwrap();
        assert_eq!(found.interval, Interval { low: 0.5, high: 0.5 });
    }

    #[test]
    fn bootstrap_refuses_bad_input() {
        let error = |n, groups: Option<&[u32]>, config: BootstrapConfig| {
            bootstrap(n, groups, &config, |_| Some(1.0)).unwrap_err().to_string()
        };
        let standard = BootstrapConfig::standard(0);
        assert!(error(3, Some(&[4, 4, 4]), standard).starts_with("there are 1 groups"));
        assert!(error(1, None, standard).starts_with("there are 1 samples"));
        assert!(error(3, Some(&[4]), standard).contains("groups has 1 entries"));
        assert!(
            error(3, None, BootstrapConfig { level: 0.0, ..standard }).starts_with("level is 0")
        );
        assert!(
            error(3, None, BootstrapConfig { replicates: 1, ..standard }).contains("1 replicates")
        );
        let undefined = bootstrap(3, None, &standard, |_| Some(f64::NAN)).unwrap_err().to_string();
        assert_eq!(undefined, "the statistic is undefined on the test set");
    }
}
