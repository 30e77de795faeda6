//! What each row calls in the libraries of this workspace.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;
use s5cl_backbone::{EncoderConfig, Mode, Model, ModelConfig, Parameters};
use s5cl_kernels::{
    Conv2dConfig, CrossEntropyConfig, batch_norm_train, conv2d, cross_entropy, max_pool2d,
};
use s5cl_losses::{Reduction, SupCon, SupervisedLoss};
use s5cl_random::named_stream;
use s5cl_trainer::{GradientScale, Optimizer, OptimizerConfig, StepRule};

use super::rows::{Images, Op, Operation, Work};

/// One call of a row.
pub(crate) type Call = Box<dyn FnMut() -> Result<()>>;

/// pytorch-metric-learning averages so by default.
pub(crate) const SUPCON: SupCon = SupCon { temperature: 0.2, reduction: Reduction::PmlAvgNonZero };
/// Classes of the embeddings.
const N_CLASSES: usize = 9;
/// Outputs of a network.
pub(super) const OUTPUTS: usize = 64;
const RATE: f64 = 1e-4;
const WEIGHT_DECAY: f64 = 1e-4;
const PLAIN: CrossEntropyConfig = CrossEntropyConfig { label_smoothing: 0.0 };
/// PyTorch's default.
const EPSILON: f64 = 1e-5;

/// Makes weights and inputs, and gives what works on them.
pub(crate) fn ours(work: Work) -> Result<Call> {
    match work {
        Work::Supcon { n, dim } => supcon(n, dim),
        Work::Train(images) => train(images),
        Work::Inference(images) => inference(images),
        Work::Forward(operation) => {
            let (maps, weights) = operands(operation)?;
            Ok(Box::new(move || apply(operation.op, &maps, &weights).map(drop)))
        }
        Work::Backward(operation) => {
            let (maps, weights) = operands(operation)?;
            let maps = Var::from_tensor(&maps)?;
            let weights: Vec<Tensor> = weights
                .iter()
                .map(|weight| Ok(Var::from_tensor(weight)?.into_inner()))
                .collect::<Result<_>>()?;
            Ok(Box::new(move || apply(operation.op, &maps, &weights)?.backward().map(drop)))
        }
    }
}

fn supcon(n: usize, dim: usize) -> Result<Call> {
    let (embeddings, labels) = embeddings(n, dim)?;
    Ok(Box::new(move || SUPCON.forward(&embeddings, &labels)?.backward().map(drop)))
}

fn train(images: Images) -> Result<Call> {
    let parameters = Parameters::new(0);
    let model = model(images, &parameters.builder(&Device::Cpu))?;
    let rule = StepRule::Adamax { betas: [0.9, 0.999], epsilon: 1e-8 };
    let config = OptimizerConfig { rule, weight_decay: WEIGHT_DECAY };
    let mut optimizer = Optimizer::new(config, parameters.trainable())?;
    let (pixels, labels) = (pixels(images)?, labels(images.batch, OUTPUTS)?);
    Ok(Box::new(move || {
        let outputs = model.forward(&pixels, Mode::Train)?.embeddings;
        let gradients = cross_entropy(&outputs, &labels, PLAIN)?.backward()?;
        let gradients = optimizer.named_gradients(&gradients);
        optimizer.step(&gradients, RATE, GradientScale::Given(1.0))
    }))
}

fn inference(images: Images) -> Result<Call> {
    let parameters = Parameters::new(0);
    model(images, &parameters.builder(&Device::Cpu))?;
    let model = model(images, &constants(&parameters))?;
    let pixels = pixels(images)?;
    Ok(Box::new(move || model.forward(&pixels, Mode::Evaluate).map(drop)))
}

/// A network whose embeddings are the outputs; the classifier behind them is as small as can be.
pub(super) fn model(images: Images, builder: &VarBuilder<'_>) -> Result<Model> {
    let encoder = EncoderConfig::named(images.encoder, images.size)?;
    Model::new(&ModelConfig { encoder, embedding_dim: OUTPUTS, n_classes: 1 }, builder)
}

/// The same weights as constants, for which nothing is kept.
pub(super) fn constants(parameters: &Parameters) -> VarBuilder<'static> {
    let detached = |(name, variable): (String, Var)| (name, variable.as_detached_tensor());
    let weights: HashMap<String, Tensor> = parameters.all().into_iter().map(detached).collect();
    VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu)
}

/// Embeddings that ask for a gradient, and their labels.
pub(super) fn embeddings(n: usize, dim: usize) -> Result<(Var, Tensor)> {
    Ok((Var::from_tensor(&normal(&[n, dim])?)?, labels(n, N_CLASSES)?))
}

/// A batch `[batch, size, size, 3]`.
pub(super) fn pixels(images: Images) -> Result<Tensor> {
    normal(&[images.batch, images.size, images.size, 3])
}

fn labels(n: usize, n_classes: usize) -> Result<Tensor> {
    let labels: Vec<u32> = (0..n).map(|i| (i % n_classes) as u32).collect();
    Tensor::new(labels, &Device::Cpu)
}

fn normal(shape: &[usize]) -> Result<Tensor> {
    let mut random = named_stream(0, "benchmark");
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The maps, and what the operation weighs them with.
fn operands(operation: Operation) -> Result<(Tensor, Vec<Tensor>)> {
    let Operation { op, size, channels, batch } = operation;
    let weights = match op {
        Op::Conv2d => vec![normal(&[channels, channels, 3, 3])?],
        Op::BatchNorm => vec![normal(&[channels])?, normal(&[channels])?],
        Op::MaxPool => Vec::new(),
    };
    Ok((normal(&[batch, size, size, channels])?, weights))
}

fn apply(op: Op, maps: &Tensor, weights: &[Tensor]) -> Result<Tensor> {
    match (op, weights) {
        (Op::Conv2d, [weight]) => conv2d(maps, weight, Conv2dConfig::same(3)),
        (Op::BatchNorm, [weight, bias]) => {
            Ok(batch_norm_train(maps, weight, bias, None, false, EPSILON)?.maps)
        }
        (Op::MaxPool, []) => max_pool2d(maps, 3, 2, 1),
        (op, weights) => candle_core::bail!("{op:?} has no use for {} weights", weights.len()),
    }
}
