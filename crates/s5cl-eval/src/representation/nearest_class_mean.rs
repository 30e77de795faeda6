//! Classification by the nearest mean of a class.

use super::distance::Distance;
use crate::error::{EvalError, classes_in_range, same_length, same_width};
use crate::features::Features;

/// Predicts for every query the class whose mean is nearest.
///
/// With [`Distance::Cosine`] rows are scaled to unit length before the mean is taken. Of equally
/// near means that of the smaller class index wins. Classes without a training sample are not
/// predicted.
///
/// # Shapes
///
/// `train`: `f32 [n, width]`; `labels`: `u32 [n]`, below `n_classes`; `query`: `f32 [m, width]`.
/// Returns `u32 [m]`.
///
/// # Errors
///
/// When there is no training sample, the labels do not fit, or the widths differ.
///
/// # Source
///
/// Mensink et al., "Distance-based image classification", TPAMI 2013, equation 7, without a
/// learned metric; with Euclidean distance scikit-learn's `NearestCentroid`.
///
/// # Example
///
/// ```
/// use s5cl_eval::{Distance, Features, nearest_class_mean_predict};
///
/// let train = Features::new(vec![0.0, 2.0, 9.0], 1)?;
/// let query = Features::new(vec![4.0, 6.0], 1)?;
/// let found = nearest_class_mean_predict(&train, &[0, 0, 1], 2, &query, Distance::Euclidean)?;
/// assert_eq!(found, [0, 1]);
/// # Ok::<(), s5cl_eval::EvalError>(())
/// ```
pub fn nearest_class_mean_predict(
    train: &Features,
    labels: &[u32],
    n_classes: usize,
    query: &Features,
    distance: Distance,
) -> Result<Vec<u32>, EvalError> {
    if train.n() == 0 {
        return Err(EvalError::Empty { what: "train" });
    }
    same_length(("labels", labels.len()), ("train", train.n()))?;
    classes_in_range("labels", labels, n_classes)?;
    same_width(train.width(), query.width())?;
    let means = class_means(&distance.rows(train), labels, n_classes, train.width());
    // The means of unit rows are shorter than one; their direction is compared.
    let means = Features::new(means, train.width())?;
    let (means, query) = (distance.rows(&means), distance.rows(query));
    let is_present: Vec<bool> =
        (0..n_classes).map(|class_idx| labels.contains(&(class_idx as u32))).collect();
    let predict = |row: &[f32]| {
        let classes = (0..n_classes).filter(|&class_idx| is_present[class_idx]);
        let distances = classes.map(|class_idx| {
            (distance.between(&means[class_idx * train.width()..][..train.width()], row), class_idx)
        });
        let nearest = distances.min_by(|left, right| left.0.total_cmp(&right.0));
        nearest.map_or(0, |(_, class_idx)| class_idx as u32)
    };
    Ok(query.chunks_exact(train.width()).map(predict).collect())
}

/// Mean of each class, `[n_classes, width]`; zeros where a class has no row.
fn class_means(rows: &[f32], labels: &[u32], n_classes: usize, width: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; n_classes * width];
    let mut counts = vec![0.0_f64; n_classes];
    for (row, &label) in rows.chunks_exact(width).zip(labels) {
        counts[label as usize] += 1.0;
        for (sum, &value) in sums[label as usize * width..][..width].iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    let sums = sums.iter().enumerate();
    sums.map(|(idx, sum)| (sum / counts[idx / width].max(1.0)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(values: &[f32]) -> Features {
        Features::new(values.to_vec(), 2).unwrap()
    }

    #[test]
    fn nearest_class_mean_depends_on_the_distance() {
        let train = plane(&[1.0, 0.1, 1.0, -0.1, 10.0, 9.0]);
        let query = plane(&[9.0, 1.0, 0.5, 0.4]);
        let predict =
            |distance| nearest_class_mean_predict(&train, &[2, 2, 1], 3, &query, distance).unwrap();
        assert_eq!(predict(Distance::Cosine), [2, 1]);
        assert_eq!(predict(Distance::Euclidean), [1, 2]);
    }

    #[test]
    fn nearest_class_mean_never_predicts_a_class_without_samples() {
        // Class 0 would have its mean at the origin, beside the query.
        let found = nearest_class_mean_predict(
            &plane(&[5.0, 5.0, -5.0, 5.0]),
            &[2, 1],
            3,
            &plane(&[0.0, 0.0]),
            Distance::Euclidean,
        );
        assert_eq!(found.unwrap(), [1]);
    }

    #[test]
    fn nearest_class_mean_refuses_bad_input() {
        let (train, query) = (plane(&[1.0, 0.0]), plane(&[1.0, 0.0]));
        let ask = |train: &Features, labels: &[u32], n_classes| {
            nearest_class_mean_predict(train, labels, n_classes, &query, Distance::Cosine)
        };
        assert!(ask(&train, &[0, 1], 2).is_err());
        assert!(ask(&train, &[2], 2).is_err());
        assert_eq!(ask(&plane(&[]), &[], 2), Err(EvalError::Empty { what: "train" }));
        let narrow = Features::new(vec![1.0], 1).unwrap();
        assert_eq!(ask(&narrow, &[0], 2), Err(EvalError::WidthMismatch { expected: 1, found: 2 }));
    }
}
