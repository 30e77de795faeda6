//! Two models on the same images.

use std::collections::BTreeMap;

use anyhow::Result;
use s5cl_eval::{RunComparison, TestRun, compare_runs};

use super::predictions::{INTERVAL_LEVEL, JudgedImages};
use crate::failure::BadInput;

/// Figures of the first less those of the second, image by image, whatever their order.
pub(crate) fn compare(first: &JudgedImages, second: &JudgedImages) -> Result<RunComparison> {
    if first.class_names != second.class_names {
        let message = format!(
            "the two have different classes and cannot be compared: {}; and {}",
            first.class_names.join(", "),
            second.class_names.join(", ")
        );
        return Err(BadInput::new(message).into());
    }
    let rows: BTreeMap<&String, usize> =
        second.ids.iter().enumerate().map(|(row, id)| (id, row)).collect();
    let row_of = |id: &String| rows.get(id).copied();
    let order: Option<Vec<usize>> = first.ids.iter().map(row_of).collect();
    let Some(order) = order.filter(|order| order.len() == second.ids.len()) else {
        let message = format!(
            "the two were tested on different images ({} and {}): only results on the same images \
             can be compared",
            first.ids.len(),
            second.ids.len()
        );
        return Err(BadInput::new(message).into());
    };
    let predictions = [first.probabilities()?.predictions(), second.probabilities()?.predictions()];
    let in_order = |values: &[u32]| order.iter().map(|&row| values[row]).collect::<Vec<u32>>();
    let (labels, second_predictions) = (in_order(&second.labels), in_order(&predictions[1]));
    let first_run =
        TestRun { ids: &first.ids, labels: &first.labels, predictions: &predictions[0] };
    let second_run = TestRun { ids: &first.ids, labels: &labels, predictions: &second_predictions };
    Ok(compare_runs(
        &first_run,
        &second_run,
        first.class_names.len(),
        first.group_numbers().as_deref(),
        INTERVAL_LEVEL,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(ids: [&str; 4], labels: [u32; 4], first_class: [f32; 4]) -> JudgedImages {
        JudgedImages {
            class_names: vec!["a".into(), "b".into()],
            ids: ids.map(String::from).to_vec(),
            groups: vec![None; 4],
            labels: labels.to_vec(),
            probabilities: first_class.iter().flat_map(|p| [*p, 1.0 - p]).collect(),
        }
    }

    #[test]
    fn comparison_goes_by_image_and_not_by_order() -> Result<()> {
        let first = judged(["1", "2", "3", "4"], [0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1]);
        let second = judged(["4", "3", "2", "1"], [1, 1, 0, 0], [0.1, 0.9, 0.8, 0.9]);
        let found = compare(&first, &second)?;
        assert_eq!(found.accuracy.difference, 0.25);
        assert_eq!((found.mcnemar.only_first, found.mcnemar.only_second), (1, 0));
        Ok(())
    }

    #[test]
    fn comparison_of_other_images_or_labels_is_refused() {
        let first = judged(["1", "2", "3", "4"], [0, 0, 1, 1], [0.9; 4]);
        let refused = |other: &JudgedImages| compare(&first, other).unwrap_err().to_string();
        let other_images = judged(["1", "2", "3", "5"], [0, 0, 1, 1], [0.9; 4]);
        assert!(refused(&other_images).contains("different images"));
        let other_labels = judged(["1", "2", "3", "4"], [0, 1, 1, 1], [0.9; 4]);
        assert!(refused(&other_labels).contains("labels[1]"));
        let mut other_classes = first.clone();
        other_classes.class_names.reverse();
        assert!(refused(&other_classes).contains("different classes"));
    }
}
