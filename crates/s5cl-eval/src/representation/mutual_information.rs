//! How much two divisions of the same samples tell of each other.

use std::collections::BTreeMap;

use crate::error::{EvalError, same_length};

/// Mutual information of two divisions over the mean of their entropies, in `[0, 1]`:
///
/// `I(a, b) / ((H(a) + H(b)) / 2)`
///
/// 1 if they are the same up to names, also if both have a single part; 0 if one tells nothing of
/// the other.
///
/// # Shapes
///
/// `left`, `right`: `u32 [n]`, any numbers, n at least 1.
///
/// # Errors
///
/// When they are empty or differ in length.
///
/// # Source
///
/// scikit-learn's `normalized_mutual_info_score` with the arithmetic mean.
pub fn normalized_mutual_information(left: &[u32], right: &[u32]) -> Result<f64, EvalError> {
    let table = Contingency::new(left, right)?;
    if table.is_bijection() {
        return Ok(1.0);
    }
    let information = table.mutual_information();
    if information <= f64::EPSILON {
        return Ok(0.0);
    }
    Ok(information / table.mean_entropy())
}

/// Mutual information above that of random divisions with parts of the same sizes, at most 1:
///
/// `(I - E[I]) / ((H(a) + H(b)) / 2 - E[I])`
///
/// Around 0 for divisions that have nothing to do with each other, for any number of parts.
///
/// # Shapes
///
/// `left`, `right`: `u32 [n]`, any numbers, n at least 1.
///
/// # Errors
///
/// When they are empty or differ in length.
///
/// # Source
///
/// Vinh et al., "Information theoretic measures for clusterings comparison", JMLR 2010, equation
/// 24 for `E[I]`; scikit-learn's `adjusted_mutual_info_score` with the arithmetic mean.
pub fn adjusted_mutual_information(left: &[u32], right: &[u32]) -> Result<f64, EvalError> {
    let table = Contingency::new(left, right)?;
    if table.is_bijection() {
        return Ok(1.0);
    }
    let expected = table.expected_information();
    Ok((table.mutual_information() - expected) / (table.mean_entropy() - expected))
}

/// How many samples are in each pair of parts.
struct Contingency {
    n: usize,
    cells: BTreeMap<(u32, u32), usize>,
    rows: BTreeMap<u32, usize>,
    columns: BTreeMap<u32, usize>,
}

impl Contingency {
    fn new(left: &[u32], right: &[u32]) -> Result<Self, EvalError> {
        same_length(("left", left.len()), ("right", right.len()))?;
        if left.is_empty() {
            return Err(EvalError::Empty { what: "left" });
        }
        let mut table = Self {
            n: left.len(),
            cells: BTreeMap::new(),
            rows: BTreeMap::new(),
            columns: BTreeMap::new(),
        };
        for (&row, &column) in left.iter().zip(right) {
            *table.cells.entry((row, column)).or_default() += 1;
            *table.rows.entry(row).or_default() += 1;
            *table.columns.entry(column).or_default() += 1;
        }
        Ok(table)
    }

    /// Whether the divisions are the same up to names.
    fn is_bijection(&self) -> bool {
        self.cells.len() == self.rows.len() && self.cells.len() == self.columns.len()
    }

    fn mean_entropy(&self) -> f64 {
        let n = self.n as f64;
        let entropy = |parts: &BTreeMap<u32, usize>| -> f64 {
            -parts
                .values()
                .map(|&count| count as f64 / n)
                .map(|share| share * share.ln())
                .sum::<f64>()
        };
        (entropy(&self.rows) + entropy(&self.columns)) / 2.0
    }

    fn mutual_information(&self) -> f64 {
        let n = self.n as f64;
        let cells = self.cells.iter().map(|((row, column), &count)| {
            let (count, product) =
                (count as f64, self.rows[row] as f64 * self.columns[column] as f64);
            count / n * (count * n / product).ln()
        });
        cells.sum::<f64>().max(0.0)
    }

    /// Mean of the mutual information over all ways to deal the samples to parts of these sizes:
    /// a cell's count follows the hypergeometric distribution.
    fn expected_information(&self) -> f64 {
        let mut log_factorials = vec![0.0; self.n + 1];
        for i in 1..=self.n {
            log_factorials[i] = log_factorials[i - 1] + (i as f64).ln();
        }
        let n = self.n;
        let mut expected = 0.0;
        for &row in self.rows.values() {
            for &column in self.columns.values() {
                let fixed = log_factorials[row]
                    + log_factorials[column]
                    + log_factorials[n - row]
                    + log_factorials[n - column]
                    - log_factorials[n];
                for count in 1.max((row + column).saturating_sub(n))..=row.min(column) {
                    let log_probability = fixed
                        - log_factorials[count]
                        - log_factorials[row - count]
                        - log_factorials[column - count]
                        - log_factorials[n + count - row - column];
                    let (count, n) = (count as f64, n as f64);
                    let information = (n * count / (row as f64 * column as f64)).ln();
                    expected += count / n * information * log_probability.exp();
                }
            }
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of logarithms of factorials, whose rounding is relative to a few hundred.
    const TOLERANCE: f64 = 1e-11;

    /// The part of a sample.
    type Part = fn(u32) -> u32;

    fn parts(part: Part) -> Vec<u32> {
        (0..60).map(part).collect()
    }

    // i = np.arange(60)
    // normalized_mutual_info_score(a, b), adjusted_mutual_info_score(a, b) for each a, b below
    #[test]
    fn mutual_information_equals_scikit_learn() {
        let cases: [(Part, Part, f64, f64); 8] = [
            (|i| i % 4, |i| i * i % 7, 0.005_002_697_661_929_342, -0.059_123_982_117_520_416),
            (|i| i % 3, |i| i % 3 + 5, 1.0, 1.0),
            (|i| i % 5, |_| 0, 0.0, 0.0),
            (|i| i, |i| i, 1.0, 1.0),
            (|i| i, |_| 0, 0.0, 0.0),
            (|i| i, |i| i / 2, 0.907_525_408_336_151_8, 0.0),
            (|i| i % 2, |i| i / 2 % 2, 0.0, -0.012_486_324_694_649_22),
            (
                |i| i / 20,
                |i| (i / 20).max(u32::from(i % 9 == 0) * 2),
                0.764_494_906_832_496_9,
                0.756_678_139_207_277_4,
            ),
        ];
        for (case, (left, right, normalized, adjusted)) in cases.into_iter().enumerate() {
            let (left, right) = (parts(left), parts(right));
            let found = normalized_mutual_information(&left, &right).unwrap();
            assert!((found - normalized).abs() < TOLERANCE, "NMI {case}: {found}");
            let found = adjusted_mutual_information(&left, &right).unwrap();
            assert!((found - adjusted).abs() < TOLERANCE, "AMI {case}: {found}");
        }
    }

    #[test]
    fn mutual_information_of_single_parts_is_one() {
        for n in [1, 5] {
            assert_eq!(normalized_mutual_information(&vec![3; n], &vec![9; n]), Ok(1.0));
            assert_eq!(adjusted_mutual_information(&vec![3; n], &vec![9; n]), Ok(1.0));
        }
    }

    #[test]
    fn mutual_information_does_not_depend_on_names_or_sides() {
        let (left, right) = (parts(|i| i % 4), parts(|i| i * i % 7));
        let renamed: Vec<u32> = left.iter().map(|part| 1000 - 7 * part).collect();
        for measure in [normalized_mutual_information, adjusted_mutual_information] {
            let found = measure(&left, &right).unwrap();
            assert!((measure(&renamed, &right).unwrap() - found).abs() < TOLERANCE);
            assert!((measure(&right, &left).unwrap() - found).abs() < TOLERANCE);
        }
    }

    #[test]
    fn mutual_information_refuses_bad_input() {
        for measure in [normalized_mutual_information, adjusted_mutual_information] {
            assert_eq!(measure(&[], &[]), Err(EvalError::Empty { what: "left" }));
            assert!(matches!(measure(&[1], &[]), Err(EvalError::LengthMismatch { .. })));
        }
    }
}
