//! What many seeds say together.

use anyhow::Result;
use s5cl_eval::{Interval, PairedDifference, SeedSummary};

/// Chance with which an interval over seeds holds the truth.
const LEVEL: f64 = 0.95;

/// Mean, spread and interval of one value a seed.
pub(super) fn over_seeds(values: &[f64]) -> Result<SeedSummary> {
    Ok(s5cl_eval::over_seeds(values, LEVEL)?)
}

/// How far `values` are above `others`, both in the order of the seeds: a seed has the same split
/// in both.
pub(super) fn paired(values: &[f64], others: &[f64]) -> Result<PairedDifference> {
    Ok(s5cl_eval::paired_over_seeds(values, others, LEVEL)?)
}

/// Mean and spread for a table; of a single seed, which has no spread, the mean alone.
pub(super) fn spread_text(summary: &SeedSummary) -> String {
    let spread = summary.deviation.map_or_else(String::new, |spread| format!(" ± {spread:.3}"));
    format!("{:.3}{spread}", summary.mean)
}

/// A difference for a table.
pub(super) fn difference_text(difference: &PairedDifference) -> String {
    let mut text = format!("{:+.3}", difference.mean);
    if let Some(Interval { low, high }) = difference.interval {
        text += &format!(" [{low:+.3}, {high:+.3}]");
    }
    if let Some(p) = difference.p_value {
        text += &format!(", p {p:.3}");
    }
    text
}

/// What of the interval of a share can be: Student's t knows no ends.
pub(super) fn possible(Interval { low, high }: Interval) -> Interval {
    Interval { low: low.clamp(0.0, 1.0), high: high.clamp(0.0, 1.0) }
}

/// The interval of a share for a table; nothing where there is none.
pub(super) fn interval_text(interval: Option<Interval>) -> String {
    interval
        .map(possible)
        .map_or_else(String::new, |Interval { low, high }| format!("{low:.3} to {high:.3}"))
}

#[cfg(test)]
mod tests {
    use super::{difference_text, interval_text, over_seeds, paired, spread_text};

    #[test]
    fn seeds_are_shown_with_spread_interval_and_test() -> anyhow::Result<()> {
        // scipy.stats: t.interval(.95, 1, .5, .1) and ttest_rel
        let seeds = over_seeds(&[0.4, 0.6])?;
        assert_eq!(spread_text(&seeds), "0.500 ± 0.141");
        assert_eq!(seeds.interval.map(|ends| ends.low < -0.77), Some(true));
        // A share is between 0 and 1.
        assert_eq!(interval_text(seeds.interval), "0.000 to 1.000");
        let difference = paired(&[0.5, 0.75, 0.5], &[0.25, 0.25, 0.25])?;
        assert_eq!(difference_text(&difference), "+0.333 [-0.025, +0.692], p 0.057");
        let one = over_seeds(&[0.4])?;
        assert_eq!(
            (spread_text(&one), interval_text(one.interval)),
            ("0.400".into(), String::new())
        );
        Ok(())
    }
}
