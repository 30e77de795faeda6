//! How good the pseudo-labels of a step are: figures for `metrics.jsonl`.

use s5cl_trainer::PseudoLabels;
use serde::Serialize;

/// What is told of the pseudo-labels of one step.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct PseudoLabelHealth {
    /// Mean probability of the likeliest class, 0 to 1.
    pseudo_confidence: f64,
    /// Accepted pseudo-labels of each class.
    pseudo_classes: Vec<u64>,
    /// Share of the accepted ones that are the hidden label; absent where no hidden label is
    /// known or nothing was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pseudo_accuracy: Option<f64>,
}

impl PseudoLabelHealth {
    /// Compares pseudo-labels with the labels that the run hides of the same images.
    pub(crate) fn new(
        pseudo_labels: &PseudoLabels,
        hidden_labels: &[Option<u32>],
        n_classes: usize,
    ) -> Self {
        let PseudoLabels { classes, confidences, is_accepted } = pseudo_labels;
        let sum: f64 = confidences.iter().map(|&confidence| f64::from(confidence)).sum();
        let mut pseudo_classes = vec![0; n_classes];
        let (mut n_known, mut n_right) = (0_u32, 0_u32);
        let images = classes.iter().zip(is_accepted).zip(hidden_labels);
        for ((&class_idx, _), hidden) in images.filter(|((_, is_accepted), _)| **is_accepted) {
            pseudo_classes[class_idx as usize] += 1;
            if let Some(hidden) = hidden {
                n_known += 1;
                n_right += u32::from(class_idx == *hidden);
            }
        }
        Self {
            pseudo_confidence: sum / confidences.len().max(1) as f64,
            pseudo_classes,
            pseudo_accuracy: (n_known > 0).then(|| f64::from(n_right) / f64::from(n_known)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_counts_accepted_pseudo_labels_alone() {
        let pseudo_labels = PseudoLabels {
            classes: vec![0, 2, 2, 1],
            confidences: vec![0.5, 1.0, 1.0, 0.5],
            is_accepted: vec![true, true, true, false],
        };
        let health = PseudoLabelHealth::new(&pseudo_labels, &[Some(0), Some(1), None, Some(1)], 3);
        assert_eq!(
            health,
            PseudoLabelHealth {
                pseudo_confidence: 0.75,
                pseudo_classes: vec![1, 0, 2],
                pseudo_accuracy: Some(0.5),
            }
        );
        let unknown = PseudoLabelHealth::new(&pseudo_labels, &[None; 4], 3);
        assert_eq!(unknown.pseudo_accuracy, None);
    }
}
