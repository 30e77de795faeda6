//! What many seeds say together.

use serde::{Deserialize, Serialize};

/// A figure over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OverSeeds {
    pub(super) mean: f64,
    /// Sample standard deviation; 0 for one seed.
    pub(super) deviation: f64,
    /// Of the mean, 95 %; none where nothing is known of it.
    pub(super) interval: Option<[f64; 2]>,
    pub(super) n: usize,
}

/// The difference of two methods, seed by seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Paired {
    pub(super) mean: f64,
    /// Of the mean, 95 %.
    pub(super) interval: Option<[f64; 2]>,
    pub(super) p_value: Option<f64>,
}

/// Mean and spread of one value a seed.
pub(super) fn over_seeds(values: &[f64]) -> OverSeeds {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (n as f64 - 1.0).max(1.0)).sqrt();
    OverSeeds { mean, deviation, interval: None, n }
}

/// How far `values` are above `others`, both in the order of the seeds: a seed has the same split
/// in both.
pub(super) fn paired(values: &[f64], others: &[f64]) -> Paired {
    let differences: Vec<f64> = values.iter().zip(others).map(|(a, b)| a - b).collect();
    Paired { mean: over_seeds(&differences).mean, interval: None, p_value: None }
}

impl OverSeeds {
    /// For a table.
    pub(super) fn text(&self) -> String {
        let Self { mean, deviation, .. } = self;
        format!("{mean:.3} ± {deviation:.3}")
    }
}

impl Paired {
    /// For a table.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{:+.3}", self.mean);
        if let Some([low, high]) = self.interval {
            text += &format!(" [{low:+.3}, {high:+.3}]");
        }
        if let Some(p) = self.p_value {
            text += &format!(", p {p:.3}");
        }
        text
    }
}

/// An interval for a table; nothing where there is none.
pub(super) fn interval_text(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(String::new, |[low, high]| format!("{low:.3} to {high:.3}"))
}

#[cfg(test)]
mod tests {
    use super::{over_seeds, paired};

    #[test]
    fn spread_is_the_sample_deviation() {
        assert_eq!(over_seeds(&[0.4, 0.6]).text(), "0.500 ± 0.141");
        assert_eq!(over_seeds(&[0.4]).text(), "0.400 ± 0.000");
    }

    #[test]
    fn paired_is_the_mean_of_the_differences() {
        assert_eq!(paired(&[0.5, 0.75], &[0.25, 0.25]).mean, 0.375);
    }
}
