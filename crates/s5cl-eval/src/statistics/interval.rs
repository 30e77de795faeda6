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
/// Wilson's interval at 95 % holds p in 83 to 95 % of draws only.
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
/// p in 92 to 99 % of draws whatever p is, in 96 to 98 % on average over p.
///
/// # Source
///
/// Lancaster, "Significance tests in discrete distributions", 1961. The chance of at least k hits
/// is the incomplete beta function `I_p(k, n - k + 1)`, which continues it to fractions.
#[must_use]
pub fn mid_p(hits: f64, n: f64, level: f64) -> Interval {
    if !(n > 0.0 && (0.0..=n).contains(&hits)) || !is_level(level) {
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
pub(super) fn is_level(level: f64) -> bool {
    level > 0.0 && level < 1.0
}

/// Refuses a level of confidence that no interval can have.
pub(super) fn checked_level(level: f64) -> Result<(), EvalError> {
    if is_level(level) {
        return Ok(());
    }
    Err(EvalError::OutOfRange { what: "level", value: level, range: "between 0 and 1, as 0.95" })
}
