//! What the classifier says of unlabeled images, on the device and on the host.

use candle_core::{D, Result, Tensor};

/// What the classifier says of the unlabeled images of a step, in the batch's order, from their
/// weak views.
#[derive(Clone, Debug, PartialEq)]
pub struct PseudoLabels {
    /// The likeliest class of each.
    pub classes: Vec<u32>,
    /// Its probability, 0 to 1.
    pub confidences: Vec<f32>,
    /// Whether that is enough to count as a label.
    pub is_accepted: Vec<bool>,
}

impl PseudoLabels {
    /// Accepts what is at least as probable as the threshold.
    pub(crate) fn new(classes: Vec<u32>, confidences: Vec<f32>, threshold: f32) -> Self {
        let is_accepted = confidences.iter().map(|confidence| *confidence >= threshold).collect();
        Self { classes, confidences, is_accepted }
    }

    /// Share of the images whose prediction counts as a label, 0 to 1.
    #[must_use]
    pub fn accepted(&self) -> f64 {
        let n_accepted = self.is_accepted.iter().filter(|accepted| **accepted).count();
        n_accepted as f64 / self.is_accepted.len().max(1) as f64
    }

    /// The labels as contrast takes them: an image without one is a class of its own, with a
    /// number above the classes.
    pub(crate) fn labels(&self, n_classes: usize) -> Vec<u32> {
        let images = self.classes.iter().zip(&self.is_accepted).zip(n_classes as u32..);
        images
            .map(|((&class_idx, &is_accepted), own)| if is_accepted { class_idx } else { own })
            .collect()
    }
}

/// The predictions that [`PseudoLabels`] are made from, on the device of the logits.
pub(crate) struct Predictions {
    /// u32 `[n]`.
    pub(crate) classes: Tensor,
    /// f32 `[n]`.
    pub(crate) confidences: Tensor,
}

impl Predictions {
    /// What logits `[n, n_classes]` say; no gradient goes through it.
    pub(crate) fn of(logits: &Tensor) -> Result<Self> {
        let logits = logits.detach();
        let confidences = candle_nn::ops::softmax(&logits, D::Minus1)?.max(D::Minus1)?;
        Ok(Self { classes: logits.argmax(D::Minus1)?, confidences })
    }

    /// [`PseudoLabels::labels`], without a read back: u32 `[n]`.
    pub(crate) fn labels(&self, threshold: f32, n_classes: usize) -> Result<Tensor> {
        let (first, n) = (n_classes as u32, self.classes.elem_count() as u32);
        let own = Tensor::arange(first, first + n, self.classes.device())?;
        self.confidences.ge(threshold)?.where_cond(&self.classes, &own)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::{Predictions, PseudoLabels};

    #[test]
    fn unsure_predictions_stay_instances() -> Result<()> {
        let logits = Tensor::new(&[[9_f32, 0.0], [0.1, 0.0], [0.0, 9.0]], &Device::Cpu)?;
        let predictions = Predictions::of(&logits)?;
        let (classes, confidences) =
            (predictions.classes.to_vec1()?, predictions.confidences.to_vec1()?);
        // The last threshold is the probability of one of them.
        for (threshold, expected) in
            [(0.9, [0, 3, 1]), (0.0, [0, 0, 1]), (confidences[1], [0, 0, 1])]
        {
            let pseudo = PseudoLabels::new(classes.clone(), confidences.clone(), threshold);
            assert_eq!(pseudo.labels(2), expected, "{threshold}");
            assert_eq!(predictions.labels(threshold, 2)?.to_vec1::<u32>()?, expected);
        }
        let pseudo = PseudoLabels::new(classes, confidences, 0.9);
        assert!((pseudo.accepted() - 2.0 / 3.0).abs() < 1e-6);
        Ok(())
    }
}
