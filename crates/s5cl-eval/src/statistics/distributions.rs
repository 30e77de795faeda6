//! The beta, normal and Student t distributions, as far as the intervals need them.

use std::f64::consts::{PI, TAU};

/// Relative change at which a continued fraction or a series has settled.
const SETTLED: f64 = 1e-15;
/// Stands in for a zero denominator of a continued fraction (Lentz's method).
const TINY: f64 = 1e-300;
/// Bisections that shrink any bracket of `f64` to neighbors.
const N_BISECTIONS: usize = 200;

/// Logarithm of the gamma function for `x > 0`.
///
/// # Source
///
/// Lanczos' approximation with g = 7 and nine coefficients, which is good to 15 digits.
pub(super) fn ln_gamma(x: f64) -> f64 {
    const G: f64 = 7.0;
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // Reflection: the approximation holds to the right of one half.
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    for (k, coefficient) in COEFFICIENTS.iter().enumerate() {
        sum += coefficient / (x + k as f64 + 1.0);
    }
    let t = x + G + 0.5;
    0.5 * TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Regularized incomplete beta function `I_x(a, b)`: the chance that a Beta(a, b) variable is at
/// most `x`, for `a, b > 0` and `x` in `[0, 1]`.
///
/// `I_p(k, n - k + 1)` is the chance of at least k hits in n draws that hit with chance p; it
/// needs no whole k and n.
pub(super) fn beta_cdf(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast on the near side of the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_cdf(b, a, 1.0 - x);
    }
    let log_front =
        a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) - a.ln();
    log_front.exp() * beta_fraction(a, b, x)
}

/// The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const N_STEPS: usize = 10_000;
    let bounded = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / bounded(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..N_STEPS {
        let m = m as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / bounded(1.0 + term * d);
            c = bounded(1.0 + term / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.0).abs() < SETTLED {
            break;
        }
    }
    fraction
}

/// Chance that a normal variable with mean 0 and deviation 1 is at most `x`.
pub(super) fn normal_cdf(x: f64) -> f64 {
    /// From here on the fraction of the tail needs fewer terms than the series.
    const TAIL: f64 = 3.0;
    /// Terms of the tail's fraction that settle it to 15 digits at `TAIL`.
    const N_TERMS: i32 = 120;
    let density = (-0.5 * x * x).exp() / TAU.sqrt();
    if x.abs() > TAIL {
        let fraction = (1..=N_TERMS).rev().fold(x.abs(), |rest, k| x.abs() + f64::from(k) / rest);
        let tail = density / fraction;
        return if x > 0.0 { 1.0 - tail } else { tail };
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > SETTLED * sum.abs() {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + density * sum
}

/// The `x` of which [`normal_cdf`] is `p`; infinite at 0 and 1.
pub(super) fn normal_quantile(p: f64) -> f64 {
    /// Beyond it the chance is below the smallest positive `f64`.
    const FARTHEST: f64 = 40.0;
    if p <= 0.0 {
        f64::NEG_INFINITY
    } else if p >= 1.0 {
        f64::INFINITY
    } else if p > 0.5 {
        -normal_quantile(1.0 - p)
    } else {
        bisect(-FARTHEST, 0.0, |x| normal_cdf(x) < p)
    }
}

/// Chance that a Student t variable with `df > 0` degrees of freedom is at most `t`.
pub(super) fn student_cdf(df: f64, t: f64) -> f64 {
    let tail = 0.5 * beta_cdf(0.5 * df, 0.5, df / (df + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The `t` that a Student t variable leaves inside `[-t, t]` with chance `level`; infinite without
/// a degree of freedom.
pub(super) fn student_two_sided(df: f64, level: f64) -> f64 {
    if df <= 0.0 {
        return f64::INFINITY;
    }
    let tail = 0.5 * (1.0 - level);
    let mut low = 1.0;
    while student_cdf(df, -low) > tail && low < f64::MAX / 4.0 {
        low *= 2.0;
    }
    bisect(0.0, low, |t| student_cdf(df, -t) > tail)
}

/// The point between `low` and `high` where `is_below` turns from true to false.
pub(super) fn bisect(mut low: f64, mut high: f64, is_below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..N_BISECTIONS {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if is_below(middle) { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lanczos' approximation and a few hundred roundings.
    const TOLERANCE: f64 = 1e-12;

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        let scale = expected.abs().max(1e-3);
        assert!((found - expected).abs() < TOLERANCE * scale.max(1.0), "{found} {expected}");
    }

    // from scipy.special import betainc, gammaln
    // [gammaln(x) for x in (0.1, 0.5, 1, 3.3, 200.5)]
    // [betainc(*v) for v in ((2, 3, .4), (.5, 4.5, .01), (95.5, 6, .9), (3000, 500, .86), (1, 1, .25))]
    #[test]
    fn beta_equals_scipy() {
        let gammas = [
            (0.1, 2.252712651734206),
            (0.5, 0.5723649429247),
            (1.0, 0.0),
            (3.3, 0.9870985778947343),
            (200.5, 860.5822035097824),
        ];
        for (x, expected) in gammas {
            assert_close(ln_gamma(x), expected);
        }
        let betas = [
            (2.0, 3.0, 0.4, 0.5247999999999999),
            (0.5, 4.5, 0.01, 0.2301250001078634),
            (95.5, 6.0, 0.9, 0.05586059797418212),
            (3000.0, 500.0, 0.86, 0.6823254453687306),
            (1.0, 1.0, 0.25, 0.25),
        ];
        for (a, b, x, expected) in betas {
            assert_close(beta_cdf(a, b, x), expected);
        }
    }

    // from scipy.stats import norm
    // [norm.cdf(x) for x in (-8, -3.01, -2.99, -1.96, 0, .5, 3.5)]
    // [norm.ppf(p) for p in (1e-10, .025, .3, .5, .975)]
    #[test]
    fn normal_equals_scipy() {
        let chances = [
            (-8.0, 6.22096057427174e-16),
            (-3.01, 0.0013062384487694675),
            (-2.99, 0.0013948872354922468),
            (-1.96, 0.024997895148220435),
            (0.0, 0.5),
            (0.5, 0.6914624612740131),
            (3.5, 0.9997673709209645),
        ];
        for (x, expected) in chances {
            assert_close(normal_cdf(x), expected);
        }
        let quantiles = [
            (1e-10, -6.361340902404056),
            (0.025, -1.9599639845400545),
            (0.3, -0.5244005127080409),
            (0.5, 0.0),
            (0.975, 1.959963984540054),
        ];
        for (p, expected) in quantiles {
            assert_close(normal_quantile(p), expected);
        }
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
    }

    // from scipy.stats import t
    // [t.cdf(v, d) for d, v in ((1, -1.5), (2, 4.3), (19, 2.1), (4.5, -.2))]
    // [t.ppf(.975, d) for d in (1, 2, 4, 19, 500)], t.ppf(.995, 2)
    #[test]
    fn student_equals_scipy() {
        let chances = [
            (1.0, -1.5, 0.18716704181099886),
            (2.0, 4.3, 0.9749714229414542),
            (19.0, 2.1, 0.9753428008783632),
            (4.5, -0.2, 0.42509980594753105),
        ];
        for (df, value, expected) in chances {
            assert_close(student_cdf(df, value), expected);
        }
        let quantiles = [
            (1.0, 12.706204736174694),
            (2.0, 4.302652729749462),
            (4.0, 2.7764451051977934),
            (19.0, 2.0930240544083087),
            (500.0, 1.9647198374673676),
        ];
        for (df, expected) in quantiles {
            assert_close(student_two_sided(df, 0.95), expected);
        }
        assert_close(student_two_sided(2.0, 0.99), 9.924843200918287);
        assert_eq!(student_two_sided(0.0, 0.95), f64::INFINITY);
    }
}
