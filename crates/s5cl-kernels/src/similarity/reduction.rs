//! How the losses of the anchors become one number.

/// How the losses of the anchors become one number. Definitions differ in the wild; each only
/// changes the weight of an anchor. An anchor without positives has no loss of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reduction {
    /// Mean over the anchors that have a positive; 0 where there is none.
    MeanValid,
    /// pytorch-metric-learning's `AvgNonZeroReducer`: mean over the anchors whose loss is above
    /// zero; 0 for a batch without any negative pair.
    PmlAvgNonZero,
    /// The original code's: mean over all anchors, those without positives counting as 0, times
    /// `temperature / base_temperature`.
    SupContrastMeanAll {
        /// The temperature at which the factor is 1.
        base_temperature: f64,
    },
}

impl Reduction {
    /// 1 for each anchor that counts, 0 for the others; `losses` are those of the anchors that
    /// have a positive.
    pub(super) fn anchor_weights(self, losses: &[Option<f64>], n_classes: usize) -> Vec<f64> {
        let counts = |loss: &Option<f64>| match self {
            // pytorch-metric-learning computes in f32, where a small loss is rounded to 0.
            Self::PmlAvgNonZero => n_classes > 1 && loss.is_some_and(|loss| loss as f32 > 0.0),
            Self::MeanValid | Self::SupContrastMeanAll { .. } => loss.is_some(),
        };
        losses.iter().map(|loss| f64::from(u8::from(counts(loss)))).collect()
    }

    /// What the sum over the anchors that count is multiplied with.
    pub(super) fn scale(self, weights: &[f64], temperature: f64) -> f64 {
        match self {
            Self::MeanValid | Self::PmlAvgNonZero => 1.0 / weights.iter().sum::<f64>().max(1.0),
            Self::SupContrastMeanAll { base_temperature } => {
                temperature / base_temperature / weights.len().max(1) as f64
            }
        }
    }

    /// The part of `dL/dt` that does not come through the similarities.
    pub(super) fn temperature_gradient(self, loss: f64, temperature: f64) -> f64 {
        match self {
            Self::MeanValid | Self::PmlAvgNonZero => 0.0,
            Self::SupContrastMeanAll { .. } => loss / temperature,
        }
    }
}
