//! Principal components.

use crate::error::{EvalError, at_least, same_width};
use crate::features::Features;
use crate::singular::singular;
use crate::vectors::{column_means, dot_f64};

/// The directions in which features vary most.
///
/// # Source
///
/// scikit-learn's `PCA`, with its signs: the entry of a component with the largest absolute value
/// is positive, of equal ones the first.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Features, Pca};
///
/// let rows = Features::new(vec![0.0, 0.0, 3.0, 4.0, 6.0, 8.0], 2)?;
/// let pca = Pca::fit(&rows, 1)?;
/// assert!((pca.explained_variance_ratio()[0] - 1.0).abs() < 1e-6);
/// assert_eq!(pca.transform(&rows)?.as_slice(), [-5.0, 0.0, 5.0]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    mean: Vec<f64>,
    /// `[n_components, width]`.
    components: Vec<f64>,
    explained_variance: Vec<f64>,
    total_variance: f64,
}

impl Pca {
    /// Finds the first components.
    ///
    /// # Shapes
    ///
    /// `features`: `f32 [n, width]`, n at least 2; `n_components` from 1 to `min(n, width)`.
    ///
    /// # Errors
    ///
    /// When there are fewer rows or columns than that.
    pub fn fit(features: &Features, n_components: usize) -> Result<Self, EvalError> {
        at_least("rows", features.n(), n_components.max(2))?;
        at_least("columns", features.width(), n_components)?;
        at_least("components", n_components, 1)?;
        let (n, width) = (features.n() as f64, features.width());
        let mean = column_means(features);
        let centered: Vec<f64> = features.rows().flat_map(|row| center(row, &mean)).collect();
        let total_variance = dot_f64(&centered, &centered) / (n - 1.0);
        let found = singular(&centered, width);
        let mut components = found.vectors;
        components.truncate(n_components * width);
        components.chunks_exact_mut(width).for_each(fix_sign);
        let variances = found.values.iter().take(n_components);
        let explained_variance = variances.map(|value| value * value / (n - 1.0)).collect();
        Ok(Self { mean, components, explained_variance, total_variance })
    }

    /// Coordinates along the components, `f32 [m, n_components]`.
    ///
    /// # Errors
    ///
    /// When the width is not that of the features it was fitted on, or a coordinate leaves the
    /// range of f32.
    pub fn transform(&self, features: &Features) -> Result<Features, EvalError> {
        let width = self.mean.len();
        same_width(width, features.width())?;
        let mut coordinates = Vec::with_capacity(features.n() * self.explained_variance.len());
        for row in features.rows() {
            let centered: Vec<f64> = center(row, &self.mean).collect();
            let components = self.components.chunks_exact(width);
            coordinates.extend(components.map(|component| dot_f64(&centered, component) as f32));
        }
        Features::new(coordinates, self.explained_variance.len())
    }

    /// The components, `[n_components, width]`, row after row, each of unit length; zeros where
    /// nothing varies.
    #[must_use]
    pub fn components(&self) -> &[f64] {
        &self.components
    }

    /// Variance (of a sample, divided by n - 1) along each component, descending.
    #[must_use]
    pub fn explained_variance(&self) -> &[f64] {
        &self.explained_variance
    }

    /// Share of the whole variance along each component, in `[0, 1]`; 0 if nothing varies.
    #[must_use]
    pub fn explained_variance_ratio(&self) -> Vec<f64> {
        let total = if self.total_variance > 0.0 { self.total_variance } else { 1.0 };
        self.explained_variance.iter().map(|variance| variance / total).collect()
    }
}

fn center<'a>(row: &'a [f32], mean: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    row.iter().zip(mean).map(|(&value, mean)| f64::from(value) - mean)
}

fn fix_sign(component: &mut [f64]) {
    let larger =
        |largest: f64, &value: &f64| if value.abs() > largest.abs() { value } else { largest };
    if component.iter().fold(0.0, larger) < 0.0 {
        component.iter_mut().for_each(|value| *value = -*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pca_of_equal_rows_is_zero() {
        let rows = Features::new([0.1, 0.7].repeat(5), 2).unwrap();
        let pca = Pca::fit(&rows, 2).unwrap();
        // The rounded mean of equal values leaves a variance above 0.
        assert!(pca.explained_variance().iter().all(|&variance| variance < 1e-30));
        let found = pca.transform(&rows).unwrap();
        assert!(found.as_slice().iter().all(|value| value.abs() < 1e-15));
    }

    #[test]
    fn pca_has_no_component_where_nothing_varies() {
        // Two columns and the first again; then five rows, of which the mean takes one direction.
        let wave = |i: u32, step: f32| (i as f32 * step).sin();
        let copied = (0..40).flat_map(|i| [wave(i, 1.3), 2.0 * wave(i, 0.7), wave(i, 1.3)]);
        let few = (0..40).map(|i| wave(i * i, 0.37) + 3.0);
        for (values, width, n_components, rank) in
            [(copied.collect::<Vec<f32>>(), 3, 3, 2), (few.collect(), 8, 5, 4)]
        {
            let rows = Features::new(values, width).unwrap();
            let pca = Pca::fit(&rows, n_components).unwrap();
            assert!(pca.explained_variance()[rank - 1] > 1e-3);
            assert_eq!(pca.explained_variance()[rank..], [0.0]);
            assert_eq!(pca.components()[rank * width..], vec![0.0; width]);
            let coordinates = pca.transform(&rows).unwrap();
            assert!(coordinates.rows().all(|row| row[rank] == 0.0));
        }
    }

    #[test]
    fn pca_refuses_bad_input() {
        let rows = Features::new(vec![0.0; 6], 2).unwrap();
        let error = |n_components| Pca::fit(&rows, n_components).unwrap_err().to_string();
        assert_eq!(error(3), "there are 2 columns, but at least 3 are needed");
        assert_eq!(error(4), "there are 3 rows, but at least 4 are needed");
        assert_eq!(error(0), "there are 0 components, but at least 1 are needed");
        let one = Features::new(vec![0.0; 2], 2).unwrap();
        assert!(Pca::fit(&one, 1).is_err());
        let pca = Pca::fit(&rows, 1).unwrap();
        assert!(pca.transform(&Features::new(vec![0.0], 1).unwrap()).is_err());
    }
}
