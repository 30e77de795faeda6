//! The same work by candle's own operations, as one writes it first.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, batch_norm,
    conv2d_no_bias, linear,
};
use s5cl_backbone::Parameters;

use super::ours::{self, Call, SUPCON};
use super::rows::Work;

/// A dense formula keeps several matrices of all pairs; beyond this there is no sense in it.
const MOST_ROWS: usize = 4096;
/// Larger images take candle's convolution longer than the comparison is worth.
const LARGEST_SIDE: usize = 28;
const STAGES: [usize; 4] = [64, 128, 256, 512];

/// The row in plain candle, where there is one.
pub(super) fn plain(work: Work) -> Result<Option<Call>> {
    match work {
        Work::Supcon { n, dim } if n <= MOST_ROWS => {
            let (embeddings, labels) = ours::embeddings(n, dim)?;
            Ok(Some(Box::new(move || supcon(&embeddings, &labels)?.backward().map(drop))))
        }
        Work::Inference(images) if images.encoder == "resnet18" && images.size <= LARGEST_SIDE => {
            let parameters = Parameters::new(0);
            ours::model(images.encoder, &parameters.builder(&Device::Cpu))?;
            let network = ResNet18::new(&ours::constants(&parameters))?;
            let pixels = ours::pixels(images)?.permute((0, 3, 1, 2))?.contiguous()?;
            Ok(Some(Box::new(move || network.forward(&pixels).map(drop))))
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

/// ResNet-18 over maps `[batch, channels, height, width]`, with torchvision's names.
struct ResNet18 {
    stem: Normalized,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet18 {
    fn new(builder: &VarBuilder<'_>) -> Result<Self> {
        let stem =
            Normalized::new([3, STAGES[0]], (7, 2), &builder.pp("conv1"), &builder.pp("bn1"))?;
        let mut blocks = Vec::new();
        let mut in_channels = STAGES[0];
        for (stage, channels) in STAGES.into_iter().enumerate() {
            let builder = builder.pp(format!("layer{}", stage + 1));
            for block in 0..2 {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Block::new([in_channels, channels], stride, &builder.pp(block))?);
                in_channels = channels;
            }
        }
        let head = linear(in_channels, 64, builder.pp("embedder"))?;
        Ok(Self { stem, blocks, head })
    }

    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let maps = self.stem.forward(images)?.relu()?;
        // Zeros cannot win behind a ReLU, so that they may stand for the padding.
        let padded = maps.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        let mut maps = padded.max_pool2d_with_stride(3, 2)?;
        for block in &self.blocks {
            maps = block.forward(&maps)?;
        }
        self.head.forward(&maps.mean((D::Minus2, D::Minus1))?)
    }
}

/// Two 3x3 convolutions beside a shortcut.
struct Block {
    first: Normalized,
    second: Normalized,
    shortcut: Option<Normalized>,
}

impl Block {
    fn new(channels: [usize; 2], stride: usize, builder: &VarBuilder<'_>) -> Result<Self> {
        let pair = |channels, window, conv: &str, bn: &str| {
            Normalized::new(channels, window, &builder.pp(conv), &builder.pp(bn))
        };
        let shortcut = (channels[0] != channels[1])
            .then(|| pair(channels, (1, stride), "downsample.0", "downsample.1"));
        Ok(Self {
            first: pair(channels, (3, stride), "conv1", "bn1")?,
            second: pair([channels[1]; 2], (3, 1), "conv2", "bn2")?,
            shortcut: shortcut.transpose()?,
        })
    }

    fn forward(&self, maps: &Tensor) -> Result<Tensor> {
        let inner = self.second.forward(&self.first.forward(maps)?.relu()?)?;
        match &self.shortcut {
            Some(shortcut) => (inner + shortcut.forward(maps)?)?.relu(),
            None => (inner + maps)?.relu(),
        }
    }
}

/// A convolution and the batch normalization behind it.
struct Normalized(Conv2d, BatchNorm);

impl Normalized {
    /// With `(kernel, stride)` in pixels.
    fn new(
        [in_channels, channels]: [usize; 2],
        (kernel, stride): (usize, usize),
        conv: &VarBuilder<'_>,
        bn: &VarBuilder<'_>,
    ) -> Result<Self> {
        let config = Conv2dConfig { stride, padding: kernel / 2, ..Conv2dConfig::default() };
        let conv = conv2d_no_bias(in_channels, channels, kernel, config, conv.clone())?;
        Ok(Self(conv, batch_norm(channels, 1e-5, bn.clone())?))
    }

    fn forward(&self, maps: &Tensor) -> Result<Tensor> {
        self.1.forward_t(&self.0.forward(maps)?, false)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};
    use s5cl_backbone::{Mode, Parameters};
    use s5cl_losses::SupervisedLoss;

    use super::super::ours::{self, SUPCON};
    use super::super::rows::Images;
    use super::{ResNet18, supcon};

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
        ours::model("resnet18", &parameters.builder(&Device::Cpu))?;
        let weights = ours::constants(&parameters);
        let images = ours::pixels(Images { encoder: "resnet18", size: 32, batch: 2 })?;
        let model = ours::model("resnet18", &weights)?;
        let fast = model.forward(&images, Mode::Evaluate)?.embeddings;
        let plain =
            ResNet18::new(&weights)?.forward(&images.permute((0, 3, 1, 2))?.contiguous()?)?;
        assert_close(&fast, &plain)
    }
}
