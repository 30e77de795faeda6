//! Sums over classes, in time linear in the rows: with them no pair of positives is visited.

use super::accurate::sum;
use super::pack::Embeddings;
use crate::simd::dispatch;

/// The rows of each class, classes by label and rows by index.
pub(super) struct Classes {
    order: Vec<u32>,
    /// Where a class ends in the order.
    ends: Vec<usize>,
}

impl Classes {
    pub(super) fn of(labels: &[u32]) -> Self {
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_unstable_by_key(|&row| (labels[row as usize], row));
        let is_last = |i: &usize| {
            let label = |at: usize| order.get(at).map(|&row| labels[row as usize]);
            label(*i) != label(i + 1)
        };
        let ends = (0..order.len()).filter(is_last).map(|i| i + 1).collect();
        Self { order, ends }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| &self.order[start..end])
    }

    /// Mean similarity of each row to the other rows of its class, if there are any:
    /// `z_i . (C - z_i) / (n - 1)` with the sum `C` of the unit rows of a class of `n`, in f64.
    pub(super) fn mean_similarities(&self, embeddings: Embeddings<'_>) -> Vec<Option<f64>> {
        let mut means = vec![None; embeddings.len()];
        let mut total = vec![0.0; embeddings.dim];
        dispatch(
            #[inline(always)]
            || {
                for class in self.iter().filter(|class| class.len() > 1) {
                    total.fill(0.0);
                    for row in class.iter().map(|&row| row as usize) {
                        let factor = embeddings.factors[row];
                        for (total, value) in total.iter_mut().zip(embeddings.row(row)) {
                            *total += f64::from(value * factor);
                        }
                    }
                    let others = (class.len() - 1) as f64;
                    for row in class.iter().map(|&row| row as usize) {
                        let factor = embeddings.factors[row];
                        let product = sum(&total, embeddings.row(row), |total, value| {
                            // The f32 value that the tiles see.
                            let z = f64::from(value * factor);
                            (total - z) * z
                        });
                        means[row] = Some(product / others);
                    }
                }
            },
        );
        means
    }
}

#[cfg(test)]
mod tests {
    use super::Classes;
    use crate::similarity::pack::Embeddings;

    #[test]
    fn classes_hold_their_rows_in_order() {
        let classes = Classes::of(&[7, 3, 7, 9, 3, 7]);
        let rows: Vec<&[u32]> = classes.iter().collect();
        assert_eq!(rows, [&[1, 4][..], &[0, 2, 5], &[3]]);
        assert_eq!((classes.len(), Classes::of(&[]).len()), (3, 0));
    }

    #[test]
    fn classes_mean_similarity_leaves_out_the_row_itself() {
        let values = [2.0, 0.0, 0.0, 1.0, 0.6, 0.8, 1.0, 1.0];
        let embeddings = Embeddings { values: &values, dim: 2, factors: &[0.5, 1.0, 1.0, 1.0] };
        let means = Classes::of(&[0, 0, 0, 1]).mean_similarities(embeddings);
        // The rows of f32 0.6 and 0.8 are exact to 3e-8.
        let expected = [Some(0.3), Some(0.4), Some(0.7), None];
        for (mean, expected) in means.into_iter().zip(expected) {
            let difference = mean.unwrap_or(9.0) - expected.unwrap_or(9.0);
            assert!(difference.abs() < 1e-7, "{mean:?} {expected:?}");
        }
    }
}
