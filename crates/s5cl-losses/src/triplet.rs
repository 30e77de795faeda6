//! Triplet margin loss with batch-hard mining.

use candle_core::{DType, Result, Tensor};

use crate::SupervisedLoss;
use crate::distance::{PairMasks, unit_rows};

/// Moves pairs that are not asked for out of a minimum or maximum: beyond any distance on the
/// unit sphere, which is at most 2.
const FAR: f64 = 10.0;
/// Squared distances below this have no useful direction; keeps the gradient of the root finite.
const SMALLEST_SQUARED_DISTANCE: f64 = 1e-12;

/// Triplet margin loss on the hardest positive and the hardest negative of every anchor.
///
/// ```text
/// loss_i = max(0, max_{p in P(i)} |z_i - z_p| - min_{n in N(i)} |z_i - z_n| + margin)
/// ```
///
/// with unit-length embeddings and Euclidean distances. The mean is over the anchors whose loss
/// is above zero (0 if there is none); an anchor without a positive or without a negative makes
/// no triplet. The choice of the pairs has no gradient, the distances have.
///
/// # Source
///
/// Schroff et al., "FaceNet", 2015, equation 1; mining after Hermans et al., "In Defense of the
/// Triplet Loss", 2017, equation 5. The mean over active triplets is pytorch-metric-learning's,
/// against which golden tests pin values and gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TripletMargin {
    /// By how much the negative should be farther, 0 to 2.
    pub margin: f64,
}

impl TripletMargin {
    /// The name of this loss in configurations.
    pub const NAME: &'static str = "triplet";
}

impl SupervisedLoss for TripletMargin {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let masks = PairMasks::new(embeddings, labels)?;
        let units = unit_rows(embeddings)?;
        // |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, with the norms kept so that a zero row is right too.
        let norms = units.sqr()?.sum_keepdim(1)?;
        let products = (units.matmul(&units.t()?)? * 2.0)?;
        let squared = norms.broadcast_add(&norms.t()?)?.broadcast_sub(&products)?;
        let distances = squared.maximum(SMALLEST_SQUARED_DISTANCE)?.sqrt()?;

        let hidden = |mask: &Tensor| mask.affine(-FAR, FAR);
        let hardest_positive = (&distances - hidden(&masks.positives)?)?.argmax_keepdim(1)?;
        let hardest_negative = (&distances + hidden(&masks.negatives)?)?.argmin_keepdim(1)?;
        let positive = distances.gather(&hardest_positive, 1)?;
        let negative = distances.gather(&hardest_negative, 1)?;
        let has_triplet = (masks.positives.max_keepdim(1)? * masks.negatives.max_keepdim(1)?)?;

        let violations = ((positive - negative)? + self.margin)?;
        let is_active = (violations.detach().gt(0.0)?.to_dtype(DType::F32)? * has_triplet)?;
        let n_active = is_active.sum_all()?.maximum(1.0)?;
        (violations * is_active)?.sum_all()?.div(&n_active)
    }

    fn floor(&self, _labels: &[u32]) -> f64 {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::TripletMargin;
    use crate::SupervisedLoss;

    fn value(embeddings: &[[f32; 2]], labels: &[u32]) -> Result<f32> {
        let embeddings =
            Tensor::from_slice(embeddings.as_flattened(), (embeddings.len(), 2), &Device::Cpu)?;
        let labels = Tensor::new(labels, &Device::Cpu)?;
        TripletMargin { margin: 0.2 }.forward(&embeddings, &labels)?.to_scalar()
    }

    #[test]
    fn triplet_counts_only_active_anchors() -> Result<()> {
        // Anchors 0 and 1 coincide and lie sqrt(2) from 2 and 3, which are 2 apart from each other.
        let embeddings = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]];
        let loss = value(&embeddings, &[0, 0, 1, 1])?;
        let expected = 2.0 - 2_f32.sqrt() + 0.2;
        assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
        Ok(())
    }

    #[test]
    fn triplet_without_negatives_or_positives_is_zero() -> Result<()> {
        let embeddings = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]];
        assert_eq!(value(&embeddings, &[0, 0, 0])?, 0.0);
        assert_eq!(value(&embeddings, &[0, 1, 2])?, 0.0);
        Ok(())
    }
}
