//! The bootstrap of a difference between two runs on the same test images.

use serde::Serialize;

use super::bootstrap::{BootstrapConfig, Replicates};
use super::interval::Interval;
use crate::error::EvalError;

/// What [`paired_bootstrap`] gives, in the unit of the statistic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairedBootstrap {
    /// The first run's statistic less the second's.
    pub difference: f64,
    /// Where the true difference lies with the chance asked for.
    pub interval: Interval,
    /// One less the level at which the interval would end at 0, in `[0, 1]`.
    pub p_value: f64,
    /// Replicates on which the statistic of a run was undefined; they are left out.
    pub n_undefined: usize,
}

/// The interval of the difference of a statistic between two runs on the same test images: both
/// see the same drawn images, so that what is hard for both cancels.
///
/// As [`crate::bootstrap`], of `first - second`.
///
/// # Errors
///
/// As [`crate::bootstrap`].
pub fn paired_bootstrap(
    n: usize,
    groups: Option<&[u32]>,
    config: &BootstrapConfig,
    first: impl Fn(&[usize]) -> Option<f64> + Sync,
    second: impl Fn(&[usize]) -> Option<f64> + Sync,
) -> Result<PairedBootstrap, EvalError> {
    let difference = |drawn: &[usize]| Some(first(drawn)? - second(drawn)?);
    let replicates = Replicates::draw(n, groups, config, difference)?;
    Ok(PairedBootstrap {
        difference: replicates.estimate,
        interval: replicates.interval(config.level),
        p_value: replicates.p_value(0.0),
        n_undefined: replicates.n_undefined,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paired_bootstrap_is_the_bootstrap_of_the_differences() {
        let first = [0.9, 0.4, 0.7, 0.8, 0.6, 0.9, 0.5, 0.7];
        let second = [0.7, 0.5, 0.5, 0.7, 0.2, 0.8, 0.4, 0.4];
        let mean = |values: &[f64; 8], drawn: &[usize]| {
            Some(drawn.iter().map(|&i| values[i]).sum::<f64>() / drawn.len() as f64)
        };
        let config = BootstrapConfig::standard(0);
        let of = |a: &[f64; 8], b: &[f64; 8]| {
            let (a, b) = (*a, *b);
            paired_bootstrap(8, None, &config, |d| mean(&a, d), |d| mean(&b, d)).unwrap()
        };
        let found = of(&first, &second);
        assert!((found.difference - 0.1625).abs() < 1e-12);
        assert!(found.interval.low > 0.0 && found.p_value < 0.05, "{found:?}");
        let nothing = of(&first, &first);
        assert_eq!((nothing.difference, nothing.p_value), (0.0, 1.0));
    }
}
