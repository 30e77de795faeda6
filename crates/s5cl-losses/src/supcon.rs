//! Supervised contrastive loss.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use s5cl_kernels::{Reduction, sup_con};

use crate::SupervisedLoss;

/// Supervised contrastive loss on cosine similarities.
///
/// ```text
/// loss_i = -1/|P(i)| * sum_{p in P(i)} ( s_ip / t - log sum_{a != i} exp(s_ia / t) )
/// ```
///
/// with `P(i)` the other rows of anchor i's label and `t` the temperature. The embeddings are
/// normalized inside. An anchor without positives has no loss of its own, whatever the
/// reduction, but is a negative for the others; a batch without any positive gives 0.
///
/// # Source
///
/// Khosla et al., "Supervised Contrastive Learning", 2020, equation 2 (`L_out`). Values and
/// gradients of every reduction are pinned by golden tests against pytorch-metric-learning and
/// against the definition of the authors' own code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SupCon {
    /// Divides the similarities; above 0. Small values look at the nearest negatives only.
    pub temperature: f64,
    /// How the anchors' losses become one number.
    pub reduction: Reduction,
}

impl SupCon {
    /// The name of this loss in configurations.
    pub const NAME: &'static str = "supcon";
}

impl SupervisedLoss for SupCon {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn forward(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        sup_con(embeddings, labels, self.temperature, self.reduction)
    }

    /// The loss when every class is one point and the classes sit on a regular simplex: the
    /// minimum for balanced classes in enough dimensions (Graf et al., "Dissecting Supervised
    /// Contrastive Learning", 2021), a reference value otherwise.
    fn floor(&self, labels: &[u32]) -> f64 {
        let n = labels.len() as f64;
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        for &label in labels {
            *counts.entry(label).or_default() += 1.0;
        }
        let n_classes = counts.len() as f64;
        let negative_cosine = -1.0 / (n_classes - 1.0).max(1.0);
        let negative = ((negative_cosine - 1.0) / self.temperature).exp();
        let (mut sum, mut anchors) = (0.0, 0.0);
        for &count in counts.values().filter(|&&count| count > 1.0) {
            sum += count * (count - 1.0 + (n - count) * negative).ln();
            anchors += count;
        }
        match self.reduction {
            Reduction::MeanValid => sum / f64::max(anchors, 1.0),
            Reduction::PmlAvgNonZero if n_classes < 2.0 => 0.0,
            Reduction::PmlAvgNonZero => sum / f64::max(anchors, 1.0),
            Reduction::SupContrastMeanAll { base_temperature } => {
                sum / n.max(1.0) * self.temperature / base_temperature
            }
        }
    }
}

/// The labels that make each image of two concatenated views its own class: `0..n, 0..n`, u32
/// `[2 n]`. With them [`SupCon`] is NT-Xent (Chen et al., SimCLR, 2020).
///
/// # Errors
///
/// If the device has no memory left.
pub fn instance_labels(n_images: usize, device: &Device) -> Result<Tensor> {
    let labels = Tensor::arange(0, n_images as u32, device)?;
    Tensor::cat(&[&labels, &labels], 0)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor};

    use super::{SupCon, instance_labels};
    use crate::distance::{PairMasks, unit_rows};
    use crate::{Reduction, SupervisedLoss};

    const LOSS: SupCon = SupCon { temperature: 0.2, reduction: Reduction::MeanValid };
    /// f32 sums of a few dozen terms.
    const TOLERANCE: f32 = 1e-5;

    /// The formula in plain operations of candle: what [`SupCon`] is, without what makes it fast.
    fn plain(loss: SupCon, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let masks = PairMasks::new(embeddings, labels)?;
        let units = unit_rows(embeddings)?;
        let logits = (units.matmul(&units.t()?)? / loss.temperature)?;
        let identity = Tensor::eye(labels.dim(0)?, DType::F32, &Device::Cpu)?;
        let others = (&logits + (identity * -1e9)?)?;
        let largest = others.max_keepdim(1)?;
        let sums = others.broadcast_sub(&largest)?.exp()?.sum(1)?;
        let log_sums = (sums.log()? + largest.squeeze(1)?)?;
        let counts = masks.positives.sum(1)?;
        let positives = (logits * &masks.positives)?.sum(1)?;
        let losses = (log_sums - (positives / counts.maximum(1.0)?)?)?;
        let has_positive = counts.gt(0.0)?.to_dtype(DType::F32)?;
        let mean = |counted: Tensor| counted.broadcast_div(&counted.sum_all()?.maximum(1.0)?);
        let weights = match loss.reduction {
            Reduction::MeanValid => mean(has_positive)?,
            Reduction::PmlAvgNonZero => {
                let above_zero = losses.gt(0.0)?.to_dtype(DType::F32)?;
                mean((has_positive * above_zero)?)?.broadcast_mul(&masks.negatives.max_all()?)?
            }
            Reduction::SupContrastMeanAll { base_temperature } => {
                (has_positive * (loss.temperature / base_temperature / labels.dim(0)? as f64))?
            }
        };
        (losses * weights)?.sum_all()
    }

    #[test]
    fn supcon_is_the_formula_in_plain_operations() -> Result<()> {
        let values: Vec<f32> =
            (0..45 * 6).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
        let embeddings = candle_core::Var::from_vec(values, (45, 6), &Device::Cpu)?;
        let labels =
            Tensor::new((0..45_u32).map(|i| i * i % 13).collect::<Vec<_>>(), &Device::Cpu)?;
        for reduction in [
            Reduction::MeanValid,
            Reduction::PmlAvgNonZero,
            Reduction::SupContrastMeanAll { base_temperature: 0.07 },
        ] {
            let loss = SupCon { reduction, ..LOSS };
            let gradient = |value: &Tensor| -> Result<Vec<f32>> {
                let gradients = value.backward()?;
                gradients.get(&embeddings).expect("a gradient").flatten_all()?.to_vec1()
            };
            let found = loss.forward(&embeddings, &labels)?;
            let expected = plain(loss, &embeddings, &labels)?;
            let difference = found.to_scalar::<f32>()? - expected.to_scalar::<f32>()?;
            assert!(difference.abs() < TOLERANCE, "{reduction:?}: {difference}");
            for (found, expected) in gradient(&found)?.into_iter().zip(gradient(&expected)?) {
                assert!((found - expected).abs() < TOLERANCE, "{reduction:?}: {found} {expected}");
            }
        }
        Ok(())
    }

    fn value(loss: SupCon, embeddings: &[[f32; 2]], labels: &[u32]) -> Result<f32> {
        let embeddings =
            Tensor::from_slice(embeddings.as_flattened(), (embeddings.len(), 2), &Device::Cpu)?;
        loss.forward(&embeddings, &Tensor::new(labels, &Device::Cpu)?)?.to_scalar()
    }

    #[test]
    fn supcon_without_positives_is_zero() -> Result<()> {
        let embeddings = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]];
        assert_eq!(value(LOSS, &embeddings, &[0, 1, 2])?, 0.0);
        assert_eq!(value(LOSS, &embeddings[..1], &[0])?, 0.0);
        Ok(())
    }

    #[test]
    fn supcon_of_collapsed_embeddings_is_the_logarithm_of_the_others() -> Result<()> {
        let loss = value(LOSS, &[[3.0, 4.0]; 6], &[0, 0, 1, 1, 2, 2])?;
        assert!((loss - 5_f32.ln()).abs() < TOLERANCE, "{loss}");
        Ok(())
    }

    #[test]
    fn supcon_of_a_zero_row_is_finite_with_finite_gradient() -> Result<()> {
        let embeddings =
            candle_core::Var::new(&[[0_f32, 0.0], [1.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let labels = Tensor::new(&[0_u32, 0, 1], &Device::Cpu)?;
        let loss = LOSS.forward(&embeddings, &labels)?;
        assert!(loss.to_scalar::<f32>()?.is_finite());
        let gradients = loss.backward()?;
        let gradient = gradients.get(&embeddings).map(Tensor::to_vec2::<f32>).transpose()?;
        assert!(gradient.is_some_and(|rows| rows.into_iter().flatten().all(f32::is_finite)));
        Ok(())
    }

    #[test]
    fn supcon_survives_a_temperature_that_underflows() -> Result<()> {
        let sharp = SupCon { temperature: 0.005, ..LOSS };
        let loss = value(sharp, &[[1.0, 0.0], [-1.0, 0.1], [-1.0, -0.1]], &[0, 0, 1])?;
        assert!(loss.is_finite() && loss > 100.0, "{loss}");
        Ok(())
    }

    #[test]
    fn supcon_floor_is_reached_by_the_simplex() -> Result<()> {
        let third = 3_f32.sqrt() / 2.0;
        let simplex =
            [[1.0, 0.0], [1.0, 0.0], [-0.5, third], [-0.5, third], [-0.5, -third], [-0.5, -third]];
        let labels = [0, 0, 1, 1, 2, 2];
        let loss = value(LOSS, &simplex, &labels)?;
        assert!((f64::from(loss) - LOSS.floor(&labels)).abs() < 1e-5, "{loss}");
        Ok(())
    }

    #[test]
    fn supcon_floor_is_the_reference_protocols() {
        let labels: Vec<u32> = (0..64).map(|i| i / 8).collect();
        assert!((LOSS.floor(&labels) - 1.97).abs() < 0.005);
    }

    #[test]
    fn instance_labels_pair_the_views() -> Result<()> {
        let labels = instance_labels(3, &Device::Cpu)?.to_vec1::<u32>()?;
        assert_eq!(labels, [0, 1, 2, 0, 1, 2]);
        Ok(())
    }
}
