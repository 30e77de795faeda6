//! Brings every feature to mean 0 and standard deviation 1.

use crate::error::EvalError;
use crate::features::Features;

/// Mean and spread of every column of the training features.
///
/// Fit it on the training features only and use it on all others, so that nothing of the test
/// set leaks into the distances.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardizer {
    means: Vec<f64>,
    spreads: Vec<f64>,
}

impl Standardizer {
    /// Measures mean and standard deviation (of the population, divided by n) of every column.
    ///
    /// A column without spread gets 1, so that it turns into zeros.
    ///
    /// # Shapes
    ///
    /// `train`: `[n, width]`, n at least 1.
    ///
    /// # Errors
    ///
    /// When `train` has no row.
    pub fn fit(train: &Features) -> Result<Self, EvalError> {
        if train.n() == 0 {
            return Err(EvalError::Empty { what: "train" });
        }
        let (means, spreads) = (0..train.width())
            .map(|column| {
                let values = || train.rows().map(move |row| f64::from(row[column]));
                let n = train.n() as f64;
                let mean = values().sum::<f64>() / n;
                let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
                // Compared by value: the rounded mean of equal values leaves a variance above 0.
                let first = values().next().unwrap_or(mean);
                let is_constant = values().all(|value| value == first);
                if is_constant { (first, 1.0) } else { (mean, variance.sqrt()) }
            })
            .unzip();
        Ok(Self { means, spreads })
    }

    /// `(features - mean) / spread`, column by column, `[n, width]`.
    ///
    /// # Errors
    ///
    /// When the width is not that of the training features, or a value is so far outside them
    /// that its quotient is not finite.
    pub fn transform(&self, features: &Features) -> Result<Features, EvalError> {
        if features.width() != self.means.len() {
            return Err(EvalError::WidthMismatch {
                expected: self.means.len(),
                found: features.width(),
            });
        }
        let standardized = features.rows().flat_map(|row| {
            let columns = row.iter().zip(self.means.iter().zip(&self.spreads));
            columns.map(|(&value, (mean, spread))| ((f64::from(value) - mean) / spread) as f32)
        });
        Features::new(standardized.collect(), features.width())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardizer_gives_mean_zero_and_spread_one() {
        let train = Features::new(vec![1.0, 10.0, 2.0, 30.0, 6.0, 80.0], 2).unwrap();
        let out = Standardizer::fit(&train).unwrap().transform(&train).unwrap();
        for column in 0..2 {
            let mean = out.rows().map(|row| f64::from(row[column])).sum::<f64>() / 3.0;
            let variance = out.rows().map(|row| f64::from(row[column]).powi(2)).sum::<f64>() / 3.0;
            assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-6, "{mean} {variance}");
        }
    }

    #[test]
    fn standardizer_leaves_a_constant_column_at_zero() {
        // 0.1 is not a binary fraction: its mean over ten rows is rounded.
        let train = Features::new(vec![0.1; 10], 1).unwrap();
        let standardizer = Standardizer::fit(&train).unwrap();
        assert_eq!(standardizer.transform(&train).unwrap().as_slice(), [0.0; 10]);
        let other = Features::new(vec![1.1], 1).unwrap();
        assert!((standardizer.transform(&other).unwrap().as_slice()[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn standardizer_refuses_no_rows_and_other_widths() {
        let train = Features::new(vec![1.0, 2.0], 2).unwrap();
        let other = Features::new(vec![1.0], 1).unwrap();
        let standardizer = Standardizer::fit(&train).unwrap();
        assert_eq!(
            standardizer.transform(&other),
            Err(EvalError::WidthMismatch { expected: 2, found: 1 })
        );
        assert!(Standardizer::fit(&Features::new(Vec::new(), 2).unwrap()).is_err());
    }
}
