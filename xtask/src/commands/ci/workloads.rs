//! What `ci instructions` counts: a small call of each main operation.

use candle_core::{Device, Result, Tensor, Var};
use s5cl_backbone::{Encoder, EncoderConfig, Mode, Parameters};
use s5cl_kernels::{
    Conv2dConfig, CrossEntropyConfig, GradientScale, Reduction, Slot, StepConfig, StepItem,
    StepRule, batch_norm_train, conv2d, cross_entropy, linear, max_pool2d, optimizer_step, sup_con,
};
use s5cl_random::named_stream;

/// One call of an operation.
pub(super) type Call = Box<dyn FnMut() -> Result<()>>;

/// Makes the inputs of an operation.
pub(super) type Make = fn() -> Result<Call>;

/// Every operation by its name.
pub(super) const WORKLOADS: [(&str, Make); 13] = [
    ("conv2d-direct-forward", || forward(&[2, 32, 32, 16], direct()?)),
    ("conv2d-direct-backward", || backward(&[2, 32, 32, 16], direct()?)),
    ("conv2d-winograd-forward", || forward(&[4, 16, 16, 32], winograd()?)),
    ("conv2d-winograd-backward", || backward(&[4, 16, 16, 32], winograd()?)),
    ("batch-norm-forward", || forward(&[4, 16, 16, 32], batch_norm()?)),
    ("batch-norm-backward", || backward(&[4, 16, 16, 32], batch_norm()?)),
    ("max-pool-forward", || forward(&[4, 16, 16, 32], max_pool)),
    ("max-pool-backward", || backward(&[4, 16, 16, 32], max_pool)),
    ("linear-backward", || backward(&[320, 128], head()?)),
    ("cross-entropy-backward", || backward(&[320, 9], classification()?)),
    ("supcon-320-backward", || backward(&[320, 64], contrast()?)),
    ("adamax-step", adamax),
    ("network-slim-backward", network),
];

fn forward(
    shape: &[usize],
    operation: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Result<Call> {
    let input = drawn(shape)?;
    Ok(Box::new(move || operation(&input).map(drop)))
}

/// Both passes, with the gradient of the input.
fn backward(
    shape: &[usize],
    operation: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Result<Call> {
    let input = Var::from_tensor(&drawn(shape)?)?;
    Ok(Box::new(move || operation(&input)?.backward().map(drop)))
}

/// A stride of 2, which Winograd's algorithm is not for.
fn direct() -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
    let weight = Var::from_tensor(&drawn(&[32, 16, 3, 3])?)?;
    let config = Conv2dConfig { stride: 2, ..Conv2dConfig::same(3) };
    Ok(move |maps: &Tensor| conv2d(maps, &weight, config))
}

fn winograd() -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
    let weight = Var::from_tensor(&drawn(&[32, 32, 3, 3])?)?;
    Ok(move |maps: &Tensor| conv2d(maps, &weight, Conv2dConfig::same(3)))
}

fn batch_norm() -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
    let (weight, bias) = (Var::from_tensor(&drawn(&[32])?)?, Var::from_tensor(&drawn(&[32])?)?);
    Ok(move |maps: &Tensor| Ok(batch_norm_train(maps, &weight, &bias, None, true, 1e-5)?.maps))
}

fn max_pool(maps: &Tensor) -> Result<Tensor> {
    max_pool2d(maps, 3, 2, 1)
}

fn head() -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
    let weight = Var::from_tensor(&drawn(&[64, 128])?)?;
    let bias = Var::from_tensor(&drawn(&[64])?)?;
    Ok(move |encodings: &Tensor| linear(encodings, &weight, Some(&bias)))
}

fn classification() -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
    let labels = labels()?;
    let config = CrossEntropyConfig { label_smoothing: 0.0 };
    Ok(move |logits: &Tensor| cross_entropy(logits, &labels, config))
}

fn contrast() -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
    let labels = labels()?;
    Ok(move |embeddings: &Tensor| sup_con(embeddings, &labels, 0.2, Reduction::MeanValid))
}

fn adamax() -> Result<Call> {
    const LEN: usize = 100_000;
    let (parameter, gradient) = (drawn(&[LEN])?, drawn(&[LEN])?);
    let zeros = || Slot::zeros(LEN, &Device::Cpu);
    let mut slots = [zeros()?, zeros()?];
    let rule = StepRule::Adamax { betas: [0.9, 0.999], epsilon: 1e-8 };
    let config = StepConfig { learning_rate: 1e-3, weight_decay: 1e-4, steps: 1 };
    Ok(Box::new(move || {
        let item = StepItem { parameter: &parameter, gradient: &gradient, slots: &mut slots };
        optimizer_step(rule, config, GradientScale::Given(1.0), &mut [item])
    }))
}

/// The slim encoder in training mode, without gradients of the images.
fn network() -> Result<Call> {
    let parameters = Parameters::new(0);
    let builder = parameters.builder(&Device::Cpu);
    let encoder = Encoder::new(&EncoderConfig::named("resnet-slim", 16)?, &builder)?;
    let images = drawn(&[2, 16, 16, 3])?;
    Ok(Box::new(move || encoder.forward(&images, Mode::Train)?.backward().map(drop)))
}

fn labels() -> Result<Tensor> {
    Tensor::from_vec((0..320_u32).map(|i| i % 9).collect(), 320, &Device::Cpu)
}

fn drawn(shape: &[usize]) -> Result<Tensor> {
    let mut random = named_stream(0, "instructions");
    let values = (0..shape.iter().product()).map(|_| random.uniform_in(-1.0, 1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}
