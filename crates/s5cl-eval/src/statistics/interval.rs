//! Intervals, and those of proportions.

use crate::error::EvalError;
use serde::{Deserialize, Serialize};

use super::distributions::{beta_cdf, bisect, normal_quantile, student_two_sided};

/// A range that holds the truth with a stated chance; JSON `[low, high]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "[f64; 2]", from = "[f64; 2]")]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// All that a proportion can be: nothing is known.
    pub(super) const UNKNOWN: Self = Self { low: 0.0, high: 1.0 };

    /// Whether the value lies inside or on an end.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

impl From<Interval> for [f64; 2] {
    fn from(interval: Interval) -> Self {
        [interval.low, interval.high]
    }
}

impl From<[f64; 2]> for Interval {
    fn from([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }
}

/// Wilson's score interval of a proportion: every p whose distance to `hits / n` is at most
/// `z sqrt(p (1 - p) / n)`.
///
/// `level` is in `(0, 1)`, as 0.95. Without a draw, with more hits than draws, or with another
/// level the interval is `[0, 1]`.
///
/// For few images and proportions near 1 use [`mid_p`]: with 5 to 20 images and p above 0.95,
/// Wilson's interval at 95 % holds p in 92 to 95 % of draws on average over p, and in 83 % at
/// worst.
///
/// # Source
///
/// Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
///
/// # Example
///
/// ```
/// let interval = s5cl_eval::wilson(18, 20, 0.95);
/// assert!(interval.low > 0.69 && interval.high < 0.98);
/// ```
#[must_use]
pub fn wilson(hits: u64, n: u64, level: f64) -> Interval {
    if n == 0 || hits > n || !is_level(level) {
        return Interval::UNKNOWN;
    }
    let z = normal_quantile(0.5 + 0.5 * level);
    let n = n as f64;
    let p = hits as f64 / n;
    let center = p + z * z / (2.0 * n);
    let reach = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // The ends of no hit and of nothing but hits are exact.
    Interval {
        low: if hits == 0 { 0.0 } else { (center - reach) / scale },
        high: if p == 1.0 { 1.0 } else { (center + reach) / scale },
    }
}

/// The mid-P interval of a proportion: every p under which more hits than were seen, plus half of
/// exactly as many, have more than half the chance that `level` leaves, and fewer likewise.
///
/// `hits` and `n` need not be whole, so that `n` can be an effective number of images. `level` is
/// in `(0, 1)`. Without a draw, with hits outside `[0, n]`, or with another level the interval is
/// `[0, 1]`.
///
/// It stays honest for few images: at 95 %, for 5 to 20 images and p from 0.6 to 0.995, it holds
/// p in 96.3 to 98.2 % of draws on average over p, and in 91.2 % at worst.
///
/// # Source
///
/// Lancaster, "Significance tests in discrete distributions", 1961. The chance of at least k hits
/// is the incomplete beta function `I_p(k, n - k + 1)`, which continues it to fractions.
#[must_use]
pub fn mid_p(hits: f64, n: f64, level: f64) -> Interval {
    if !(n > 0.0 && (0.0..=n).contains(&hits) && is_level(level)) {
        return Interval::UNKNOWN;
    }
    let chance_of_more = |p: f64| {
        let at_least = if hits > 0.0 { beta_cdf(hits, n - hits + 1.0, p) } else { 1.0 };
        let more = if hits < n { beta_cdf(hits + 1.0, n - hits, p) } else { 0.0 };
        0.5 * (at_least + more)
    };
    let tail = 0.5 * (1.0 - level);
    Interval {
        low: if hits > 0.0 { bisect(0.0, 1.0, |p| chance_of_more(p) < tail) } else { 0.0 },
        high: if hits < n { bisect(0.0, 1.0, |p| chance_of_more(p) < 1.0 - tail) } else { 1.0 },
    }
}

/// The interval of a proportion whose images come in groups (slides, patients), which are alike
/// within: [`mid_p`] with an effective number of images.
///
/// The variance of the proportion is measured between groups,
/// `G / (G - 1) * sum_g (hits_g - p n_g)^2 / n^2`, and is at least `p (1 - p) / n`;
/// `n_effective = p (1 - p) / variance * (z / t)^2`, at most n, where t is Student's with `G - 1`
/// degrees of freedom. Where every image is a hit, or none is, nothing is known of how alike
/// images of a group are, and they are taken for the same image: `n_effective <= n^2 / sum n_g^2`.
///
/// `counts` has (hits, images) of every group; groups without images are ignored. `level` is in
/// `(0, 1)`. With fewer than two groups, or more hits than images, the interval is `[0, 1]`.
///
/// # Source
///
/// Korn and Graubard, "Confidence intervals for proportions with small expected number of positive
/// counts estimated from survey data", 1998, with mid-P limits in place of exact ones.
#[must_use]
pub fn proportion_by_group(counts: &[(u64, u64)], level: f64) -> Interval {
    let counts: Vec<(f64, f64)> =
        counts.iter().filter(|(_, n)| *n > 0).map(|&(hits, n)| (hits as f64, n as f64)).collect();
    let n: f64 = counts.iter().map(|(_, n)| n).sum();
    let hits: f64 = counts.iter().map(|(hits, _)| hits).sum();
    if counts.len() < 2 || hits > n || !is_level(level) {
        return Interval::UNKNOWN;
    }
    let p = hits / n;
    let n_groups = counts.len() as f64;
    let design_effect = if hits == 0.0 || hits == n {
        counts.iter().map(|(_, n)| n * n).sum::<f64>() / n
    } else {
        let squares: f64 = counts.iter().map(|(hits, n)| (hits - p * n).powi(2)).sum();
        (n_groups / (n_groups - 1.0) * squares / (n * p * (1.0 - p))).max(1.0)
    };
    let n_effective = n / design_effect * small_sample_factor(n_groups - 1.0, level);
    mid_p(p * n_effective, n_effective, level)
}

/// `(z / t)^2`: by how much fewer images there seem to be when the variance itself is known from
/// `df` degrees of freedom only; 0 without one.
pub(super) fn small_sample_factor(df: f64, level: f64) -> f64 {
    (normal_quantile(0.5 + 0.5 * level) / student_two_sided(df, level)).powi(2)
}

/// Whether it is a chance that an interval can be made for.
fn is_level(level: f64) -> bool {
    level > 0.0 && level < 1.0
}

/// Refuses a level of confidence that no interval can have.
pub(super) fn checked_level(level: f64) -> Result<(), EvalError> {
    if is_level(level) {
        return Ok(());
    }
    Err(EvalError::OutOfRange { what: "level", value: level, range: "between 0 and 1, as 0.95" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few roundings, and the roots that scipy was asked for to 1e-15.
    const TOLERANCE: f64 = 1e-12;

    #[track_caller]
    fn assert_close(found: Interval, low: f64, high: f64) {
        let distance = (found.low - low).abs().max((found.high - high).abs());
        assert!(distance < TOLERANCE, "{found:?} is not {low} to {high}");
    }

    // from scipy.stats import binomtest
    // [binomtest(k, n).proportion_ci(.95, "wilson") for k, n in ((0,5), (4,5), (18,20), (170,200))]
    // binomtest(18, 20).proportion_ci(.99, "wilson")
    #[test]
    fn wilson_equals_scipy() {
        assert_close(wilson(0, 5, 0.95), 0.0, 0.434_482_464_783_174_76);
        assert_close(wilson(4, 5, 0.95), 0.375_534_629_762_525_3, 0.963_775_891_367_569_8);
        assert_close(wilson(18, 20, 0.95), 0.698_966_354_771_512_8, 0.972_133_518_786_231_9);
        assert_close(wilson(170, 200, 0.95), 0.793_944_207_158_333_4, 0.892_864_064_377_58);
        assert_close(wilson(18, 20, 0.99), 0.620_502_213_471_295_7, 0.980_213_465_649_771_4);
    }

    // from scipy.stats import binom; from scipy.optimize import brentq
    // f = lambda p, a: binom.sf(k, n, p) + .5 * binom.pmf(k, n, p) - a
    // [brentq(f, 0, 1, args=(a,), xtol=1e-15) for a in (.025, .975)]
    #[test]
    fn mid_p_equals_the_roots_of_the_binomial_tail() {
        assert_close(mid_p(0.0, 5.0, 0.95), 0.0, 0.450_719_728_346_941_2);
        assert_close(mid_p(4.0, 5.0, 0.95), 0.334_439_541_536_122_5, 0.989_998_018_766_819_6);
        assert_close(mid_p(5.0, 5.0, 0.95), 0.549_280_271_653_059_1, 1.0);
        assert_close(mid_p(18.0, 20.0, 0.95), 0.707_137_759_016_573_9, 0.982_881_574_463_367_3);
        assert_close(mid_p(170.0, 200.0, 0.95), 0.795_384_626_156_816_8, 0.894_543_506_267_466_3);
    }

    #[test]
    fn mid_p_of_a_fractional_number_lies_between_its_neighbors() {
        let width = |n: f64| {
            let interval = mid_p(0.8 * n, n, 0.95);
            interval.high - interval.low
        };
        assert!(width(10.0) > width(10.5) && width(10.5) > width(11.0));
    }

    #[test]
    fn proportion_by_group_of_equal_groups_counts_groups() {
        // Every group is all hits or all misses: five images of it say no more than one.
        let counts: Vec<(u64, u64)> = (0..20).map(|group| (u64::from(group < 15) * 5, 5)).collect();
        let found = proportion_by_group(&counts, 0.95);
        // variance = 20 / 19 * p (1 - p) / 20, so that 19 groups count, less Student's factor.
        let n_effective = 19.0 * small_sample_factor(19.0, 0.95);
        let expected = mid_p(0.75 * n_effective, n_effective, 0.95);
        assert_close(found, expected.low, expected.high);
    }

    #[test]
    fn proportion_by_group_is_never_surer_than_independent_images() {
        // Every group has the same hits, less spread than chance would leave.
        let found = proportion_by_group(&[(8, 10); 30], 0.95);
        let independent = mid_p(240.0, 300.0, 0.95);
        assert!(found.low <= independent.low && found.high >= independent.high);
    }

    #[test]
    fn proportion_by_group_without_an_error_counts_groups() {
        let found = proportion_by_group(&[(50, 50); 6], 0.95);
        let n_groups = 6.0 * small_sample_factor(5.0, 0.95);
        assert_close(found, mid_p(n_groups, n_groups, 0.95).low, 1.0);
    }

    #[test]
    fn proportions_of_what_cannot_be_known_are_everything() {
        for found in [
            wilson(0, 0, 0.95),
            wilson(3, 2, 0.95),
            wilson(1, 2, 1.0),
            mid_p(0.0, 0.0, 0.95),
            mid_p(f64::NAN, 2.0, 0.95),
            mid_p(1.0, 2.0, f64::NAN),
            proportion_by_group(&[(3, 5)], 0.95),
            proportion_by_group(&[(3, 5), (0, 0)], 0.95),
        ] {
            assert_eq!(found, Interval::UNKNOWN);
        }
    }

    #[test]
    fn interval_is_a_pair_in_json() {
        let interval = Interval { low: 0.25, high: 0.5 };
        let json = serde_json::to_string(&interval).unwrap();
        assert_eq!(json, "[0.25,0.5]");
        assert_eq!(serde_json::from_str::<Interval>(&json).unwrap(), interval);
        assert!(interval.contains(0.5) && !interval.contains(0.51));
    }
}
