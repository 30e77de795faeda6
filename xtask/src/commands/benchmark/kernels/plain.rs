//! The same work by candle's own operations, as one writes it first.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Linear, Module, Optimizer, linear};
use s5cl_backbone::{Parameters, ResNetConfig};
use s5cl_losses::SupervisedLoss;

use super::ours::{self, Call, SUPCON};
use super::plain_network::Network;
use super::rows::{Images, Row, Work};
use crate::commands::benchmark::figure::{Figure, Kind};

/// A dense formula keeps several matrices of all pairs; beyond this there is no sense in it.
const MOST_ROWS: usize = 4096;
/// Larger images take candle's convolution longer than the comparison is worth.
const LARGEST_SIDE: usize = 28;

/// The row in plain candle, where there is one.
pub(super) fn plain(work: Work) -> Result<Option<Call>> {
    match work {
        Work::Supcon { n, dim } if n <= MOST_ROWS => {
            let (embeddings, labels) = ours::embeddings(n, dim)?;
            Ok(Some(Box::new(move || supcon(&embeddings, &labels)?.backward().map(drop))))
        }
        Work::Inference(images) if images.encoder == "resnet18" && images.size <= LARGEST_SIDE => {
            let parameters = Parameters::new(0);
            ours::model(images, &parameters.builder(&Device::Cpu))?;
            let network = Network::new(&ResNetConfig::resnet18(), &ours::constants(&parameters))?;
            let pixels = ours::pixels(images)?.permute((0, 3, 1, 2))?.contiguous()?;
            Ok(Some(Box::new(move || network.forward(&pixels, false).map(drop))))
        }
        _ => Ok(None),
    }
}

/// A loss of one batch over plain candle's of the same: 1 where both are the same work.
pub(in crate::commands::benchmark) fn agreement(
    row: &str,
    loss: &dyn SupervisedLoss,
    n: usize,
    dim: usize,
) -> Result<Figure> {
    let (embeddings, labels) = ours::embeddings(n, dim)?;
    let ours = loss.forward(&embeddings, &labels)?.to_scalar::<f32>()?;
    let plain = supcon(&embeddings, &labels)?.to_scalar::<f32>()?;
    let name = format!("{row}: loss over plain candle's");
    Ok(Figure { name, kind: Kind::Same, value: f64::from(ours) / f64::from(plain) })
}

/// The agreement of a row with plain candle, where it has a value.
pub(super) fn agreement_of(row: &Row) -> Result<Option<Figure>> {
    match row.work {
        Work::Supcon { n, dim } if n <= MOST_ROWS => {
            agreement(&row.name, &SUPCON, n, dim).map(Some)
        }
        _ => Ok(None),
    }
}

/// Mean over the anchors with a positive of
/// `log sum_{a != i} exp(s_ia / t) - mean_{p in P(i)} s_ip / t`.
fn supcon(embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let n = labels.dim(0)?;
    let units = embeddings.broadcast_div(&embeddings.sqr()?.sum_keepdim(1)?.sqrt()?)?;
    let logits = (units.matmul(&units.t()?)? / SUPCON.temperature)?;
    let itself = Tensor::eye(n, DType::F32, embeddings.device())?;
    let same = labels.reshape((n, 1))?.broadcast_eq(&labels.reshape((1, n))?)?;
    let positives = (same.to_dtype(DType::F32)? - &itself)?;
    let log_sums = (&logits + (itself * -1e9)?)?.log_sum_exp(1)?;
    let counts = positives.sum(1)?;
    let has_positive = counts.gt(0.0)?.to_dtype(DType::F32)?;
    let of_positives = ((logits * positives)?.sum(1)? / counts.maximum(1.0)?)?;
    let losses = ((log_sums - of_positives)? * &has_positive)?;
    losses.sum_all()? / has_positive.sum_all()?.maximum(1.0)?
}

/// A training step as S5CL's on candle's layers: contrast on labels and on instances, cross entropy,
/// and a step of the optimizer that candle has. Its images were made before.
pub(in crate::commands::benchmark) struct Step {
    network: Network,
    classifier: Linear,
    optimizer: AdamW,
    views: Tensor,
    labels: Tensor,
    instances: Tensor,
}

/// How many views of what a [`Step`] sees.
#[derive(Clone, Copy)]
pub(in crate::commands::benchmark) struct StepShape {
    pub(in crate::commands::benchmark) n_labeled: usize,
    pub(in crate::commands::benchmark) n_unlabeled: usize,
    /// In pixels.
    pub(in crate::commands::benchmark) side: usize,
    pub(in crate::commands::benchmark) n_classes: usize,
}

impl Step {
    /// With weights and images.
    pub(in crate::commands::benchmark) fn new(
        config: &ResNetConfig,
        shape: StepShape,
    ) -> Result<Self> {
        let StepShape { n_labeled, n_unlabeled, side, n_classes } = shape;
        let parameters = Parameters::new(0);
        let builder = parameters.builder(&Device::Cpu);
        let network = Network::new(config, &builder)?;
        let classifier = linear(ours::OUTPUTS, n_classes, builder.pp("classifier"))?;
        let variables: Vec<Var> = parameters.trainable().into_values().collect();
        let batch = 2 * (n_labeled + n_unlabeled);
        let images = Images { encoder: "plain", size: side, batch };
        Ok(Self {
            network,
            classifier,
            optimizer: AdamW::new_lr(variables, 1e-3)?,
            views: ours::pixels(images)?.permute((0, 3, 1, 2))?.contiguous()?,
            labels: Tensor::new(twice(n_labeled, n_classes), &Device::Cpu)?,
            instances: Tensor::new(twice(n_unlabeled, n_unlabeled), &Device::Cpu)?,
        })
    }

    /// One step.
    pub(in crate::commands::benchmark) fn call(&mut self) -> Result<()> {
        let embeddings = self.network.forward(&self.views, true)?;
        let n_labeled = self.labels.dim(0)?;
        let labeled = embeddings.narrow(0, 0, n_labeled)?;
        let unlabeled = embeddings.narrow(0, n_labeled, self.instances.dim(0)?)?;
        let logits = self.classifier.forward(&labeled)?;
        let contrast = (supcon(&labeled, &self.labels)? + supcon(&unlabeled, &self.instances)?)?;
        let loss = (contrast + cross_entropy(&logits, &self.labels)?)?;
        self.optimizer.backward_step(&loss)
    }
}

/// Labels of the weak views, then of the strong ones.
fn twice(n: usize, n_classes: usize) -> Vec<u32> {
    let one: Vec<u32> = (0..n).map(|i| (i % n_classes) as u32).collect();
    [&one[..], &one[..]].concat()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};
    use s5cl_backbone::{Mode, Parameters, ResNetConfig};
    use s5cl_losses::SupervisedLoss;

    use super::super::ours::{self, SUPCON};
    use super::super::plain_network::Network;
    use super::super::rows::Images;
    use super::{Step, StepShape, supcon};

    /// f32 sums in another order, through eighteen layers at most, relative to the largest value.
    const TOLERANCE: f32 = 1e-4;

    fn assert_close(ours: &Tensor, plain: &Tensor) -> Result<()> {
        let largest = plain.abs()?.max_all()?.to_scalar::<f32>()?;
        let difference = (ours - plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(difference <= TOLERANCE * largest, "{difference} of {largest}");
        Ok(())
    }

    #[test]
    fn plain_supcon_is_ours() -> Result<()> {
        let (embeddings, labels) = ours::embeddings(50, 8)?;
        let (fused, dense) = (SUPCON.forward(&embeddings, &labels)?, supcon(&embeddings, &labels)?);
        assert_close(&fused, &dense)?;
        let (fused, dense) = (fused.backward()?, dense.backward()?);
        let pair = (fused.get(&embeddings), dense.get(&embeddings));
        let (Some(fused), Some(dense)) = pair else { panic!("no gradient") };
        assert_close(fused, dense)
    }

    #[test]
    fn plain_resnet18_is_ours() -> Result<()> {
        let parameters = Parameters::new(0);
        let images = Images { encoder: "resnet18", size: 32, batch: 2 };
        ours::model(images, &parameters.builder(&Device::Cpu))?;
        let weights = ours::constants(&parameters);
        let pixels = ours::pixels(images)?;
        let model = ours::model(images, &weights)?;
        let fast = model.forward(&pixels, Mode::Evaluate)?.embeddings;
        let plain = Network::new(&ResNetConfig::resnet18(), &weights)?
            .forward(&pixels.permute((0, 3, 1, 2))?.contiguous()?, false)?;
        assert_close(&fast, &plain)
    }

    #[test]
    fn plain_step_learns() -> Result<()> {
        let config = ResNetConfig { channels: [4, 4, 8, 8], ..ResNetConfig::slim() };
        let shape = StepShape { n_labeled: 6, n_unlabeled: 4, side: 8, n_classes: 3 };
        let mut step = Step::new(&config, shape)?;
        let embeddings = |step: &Step| step.network.forward(&step.views, true);
        let before =
            supcon(&embeddings(&step)?, &Tensor::cat(&[&step.labels, &step.instances], 0)?)?;
        for _ in 0..5 {
            step.call()?;
        }
        let after =
            supcon(&embeddings(&step)?, &Tensor::cat(&[&step.labels, &step.instances], 0)?)?;
        assert!(after.to_scalar::<f32>()? < before.to_scalar::<f32>()?);
        Ok(())
    }
}
