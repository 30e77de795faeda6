//! A whole feed-forward network as one differentiable operation.
//!
//! What candle's graph would hold between the layers never becomes a tensor here: gradients are
//! written and added where they are needed, a ReLU is a mask, a residual sum is the start of the
//! next sum, and memory goes from layer to layer and from step to step. Parameters are ordinary
//! tensors, and their gradients are in candle's store as always.

mod backward;
mod buffers;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod forward;
#[cfg(any(feature = "cuda", test))]
mod gpu;
mod graph;
mod operation;
mod passes;
mod plan;
mod precision;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{Device, Result, Tensor, bail};

use crate::Conv2dConfig;
use crate::activation::Activation;
use crate::batch_norm::passes::Moments;
use crate::tokens::TokenPool;
use crate::values::Values;
use buffers::Store;
use cpu::Cpu;
use graph::{Core, Shared};
use operation::Operation;
use plan::{Kernel, Layer, Normalization, Plan};

pub use precision::Precision;

/// Maps inside of a network: the images, or what a layer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps(usize);

/// A feed-forward network of convolutions, normalizations, attention, activations and pooling layers.
///
/// Layers are added in order, each with the [`Maps`] that it reads; the last one's maps are the
/// result. A layer's parameters are given to each pass, in the order in which the layers were
/// added: a convolution has one, its weight `[out_channels, in_channels / groups, kernel_height,
/// kernel_width]`, and a bias where it is added with one; `[out_channels, in_channels]` is the weight of
/// a linear layer over the channels of each pixel. A normalization has two, weight and bias,
/// `[channels]`. Tokens are pixels of maps of height 1.
///
/// The memory of a pass is kept for the next one over images of the same shape.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use s5cl_kernels::{Conv2dConfig, Network};
///
/// # fn main() -> candle_core::Result<()> {
/// let mut network = Network::new();
/// let maps = network.conv2d(network.images(), Conv2dConfig::same(3));
/// let maps = network.batch_norm(maps, None, true, 1e-5);
/// network.global_average_pool(maps);
///
/// let (f32, cpu) = (DType::F32, Device::Cpu);
/// let weight = Var::ones((8, 3, 3, 3), f32, &cpu)?;
/// let (scale, shift) = (Var::ones(8, f32, &cpu)?, Var::zeros(8, f32, &cpu)?);
/// let images = Tensor::ones((2, 16, 16, 3), f32, &cpu)?;
/// let output = network.train(&images, &[&weight, &scale, &shift])?;
/// assert_eq!(output.maps.dims(), [2, 8]);
/// let gradients = output.maps.sum_all()?.backward()?;
/// assert!(gradients.get(&weight).is_some());
///
/// let statistics = &output.statistics[0];
/// let known = [(&statistics.mean, &statistics.variance)];
/// let maps = network.evaluate(&images, &[&weight, &scale, &shift], &known)?;
/// assert_eq!(maps.dims(), [2, 8]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    layers: Vec<Layer>,
    n_parameters: usize,
    n_statistics: usize,
    precision: Precision,
    buffers: Store<Vec<f32>>,
    #[cfg(feature = "cuda")]
    cuda_buffers: cuda::CudaStore,
}

/// What [`Network::train`] gives.
#[derive(Clone, Debug)]
pub struct NetworkOutput {
    /// The last layer's maps: f32 `[batch, height, width, channels]`, or `[batch, channels]`
    /// behind a pool that leaves one vector an image.
    pub maps: Tensor,
    /// Those of the batch, for each batch normalization in order.
    pub statistics: Vec<BatchStatistics>,
}

/// Statistics of one batch normalization over a batch.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// Mean of each channel, f32 `[channels]`, without gradient.
    pub mean: Tensor,
    /// Unbiased variance of each channel, as PyTorch's running statistics use it, f32
    /// `[channels]`, without gradient; the biased one if a channel has a single value.
    pub variance: Tensor,
}

impl BatchStatistics {
    fn on_cpu(moments: &Moments) -> Result<Self> {
        let mean: Vec<f32> = moments.mean.iter().map(|&m| m as f32).collect();
        let variance: Vec<f32> = moments.unbiased_variance().map(|v| v as f32).collect();
        let device = &Device::Cpu;
        Ok(Self { mean: Tensor::new(mean, device)?, variance: Tensor::new(variance, device)? })
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// Only the images.
    #[must_use]
    pub fn new() -> Self {
        Self {
            layers: vec![Layer::Images],
            n_parameters: 0,
            n_statistics: 0,
            precision: Precision::F32,
            buffers: Store::default(),
            #[cfg(feature = "cuda")]
            cuda_buffers: Store::default(),
        }
    }

    /// The same layers, computed in another type on CUDA devices. On the CPU its passes fail unless
    /// it is [`Precision::F32`], with which a network is made.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// What the network is given: f32 `[batch, height, width, channels]`.
    #[must_use]
    pub fn images(&self) -> Maps {
        Maps(0)
    }

    /// Adds [`crate::conv2d`]; its parameter is the weight.
    pub fn conv2d(&mut self, input: Maps, config: Conv2dConfig) -> Maps {
        self.add_conv2d(input, None, config, false)
    }

    /// Adds [`crate::conv2d`] with a bias, and with the sum of another layer's maps behind it where
    /// asked for; its parameters are the weight and the bias, `[out_channels]`.
    pub fn conv2d_with_bias(
        &mut self,
        input: Maps,
        residual: Option<Maps>,
        config: Conv2dConfig,
    ) -> Maps {
        self.add_conv2d(input, residual, config, true)
    }

    /// Adds [`crate::conv2d`] with the sum of another layer's maps behind it; its parameter is the
    /// weight.
    pub fn conv2d_with_residual(
        &mut self,
        input: Maps,
        residual: Maps,
        config: Conv2dConfig,
    ) -> Maps {
        self.add_conv2d(input, Some(residual), config, false)
    }

    fn add_conv2d(
        &mut self,
        input: Maps,
        residual: Option<Maps>,
        config: Conv2dConfig,
        has_bias: bool,
    ) -> Maps {
        let kernel = Kernel { weight: self.n_parameters, has_bias };
        self.n_parameters += 1 + usize::from(has_bias);
        let residual = residual.map(|maps| maps.0);
        self.add(Layer::Conv2d { input: input.0, residual, config, kernel })
    }

    /// Adds [`crate::batch_norm_train`], with the sum of another layer's maps and a ReLU behind it
    /// where asked for; its parameters are weight and bias.
    pub fn batch_norm(
        &mut self,
        input: Maps,
        residual: Option<Maps>,
        relu: bool,
        epsilon: f64,
    ) -> Maps {
        let (weight, statistics) = (self.n_parameters, self.n_statistics);
        self.n_parameters += 2;
        self.n_statistics += 1;
        let has_residual = residual.is_some();
        let norm = Normalization { has_residual, relu, epsilon, weight, statistics };
        let residual = residual.map(|maps| maps.0);
        self.add(Layer::BatchNorm { input: input.0, residual, norm })
    }

    /// Adds [`crate::max_pool2d`].
    pub fn max_pool2d(
        &mut self,
        input: Maps,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Maps {
        self.add(Layer::MaxPool2d { input: input.0, kernel, stride, padding })
    }

    /// Adds [`crate::global_average_pool`].
    pub fn global_average_pool(&mut self, input: Maps) -> Maps {
        self.add(Layer::GlobalAveragePool { input: input.0 })
    }

    /// Adds layer normalization over the channels of each pixel, as `torch.nn.LayerNorm`; its
    /// parameters are weight and bias, `[channels]`.
    pub fn layer_norm(&mut self, input: Maps, epsilon: f64) -> Maps {
        self.operation(input, None, Operation::LayerNorm { epsilon })
    }

    /// Adds a function of each value.
    pub fn activation(&mut self, input: Maps, activation: Activation) -> Maps {
        self.operation(input, None, Operation::Activation(activation))
    }

    /// Adds SwiGLU: `silu(a) * b`, where `a` is the first half of the channels and `b` the second
    /// (Shazeer, "GLU variants improve Transformer", 2020).
    pub fn gated_unit(&mut self, input: Maps) -> Maps {
        self.operation(input, None, Operation::GatedUnit)
    }

    /// Adds the multiplication of each channel with the sigmoid of its logit; `logits` has one pixel
    /// an image (the last step of squeeze and excitation, Hu et al., 2018).
    pub fn gate(&mut self, input: Maps, logits: Maps) -> Maps {
        self.operation(input, Some(logits), Operation::Gate)
    }

    /// Adds the sum with other maps of the same shape.
    pub fn sum(&mut self, input: Maps, other: Maps) -> Maps {
        self.operation(input, Some(other), Operation::Sum)
    }

    /// Adds self-attention over the pixels of one row, the tokens. Channels are query, key and
    /// value, each cut into `n_heads` heads; a third of them leave. On CUDA devices a head has up to
    /// 128 channels.
    ///
    /// ```text
    /// out_i = sum_j softmax_j(q_i . k_j / sqrt(head_dim)) v_j
    /// ```
    pub fn attention(&mut self, input: Maps, n_heads: usize) -> Maps {
        self.operation(input, None, Operation::Attention { n_heads })
    }

    /// Adds what makes tokens of an image's patches, which are pixels: tokens that are the same for
    /// every image come first, then the patches plus their positions. Its parameters are these
    /// first tokens, `[n_prefix, channels]`, and the positions, `[pixels, channels]`.
    pub fn tokens(&mut self, input: Maps) -> Maps {
        self.operation(input, None, Operation::Tokens)
    }

    /// Adds what makes one vector of an image's tokens, of which `n_prefix` come before those of
    /// the patches.
    pub fn pool_tokens(&mut self, input: Maps, pool: TokenPool, n_prefix: usize) -> Maps {
        self.operation(input, None, Operation::PoolTokens { pool, n_prefix })
    }

    fn operation(&mut self, input: Maps, other: Option<Maps>, operation: Operation) -> Maps {
        let parameters = self.n_parameters;
        self.n_parameters += operation.n_parameters();
        let other = other.map(|maps| maps.0);
        self.add(Layer::Operation { input: input.0, other, operation, parameters })
    }

    fn add(&mut self, layer: Layer) -> Maps {
        self.layers.push(layer);
        Maps(self.layers.len() - 1)
    }

    /// A pass that learns: batch normalization by the batch's own statistics, and gradients for
    /// every parameter, and for the images where something before them can use it.
    ///
    /// The backward pass uses up the values between the layers, so it can be run once.
    ///
    /// # Errors
    ///
    /// If the number of parameters or a shape does not fit, a tensor is not f32, the tensors are not
    /// on one device, or this does not have the network's precision.
    pub fn train(&self, images: &Tensor, parameters: &[&Tensor]) -> Result<NetworkOutput> {
        self.check_counts(parameters.len(), self.n_statistics)?;
        let parameters: Result<Vec<Tensor>> = parameters.iter().map(|p| p.contiguous()).collect();
        let parameters = parameters?;
        let shared = Arc::new(Shared::default());
        self.precision.check(images.device())?;
        let token = graph::attached(&parameters, &shared, images.device())?;
        let statistics = Arc::new(OnceLock::new());
        let core = Core {
            network: self.clone(),
            needs_images: images.track_op(),
            parameters,
            shared,
            statistics: statistics.clone(),
            kept: Mutex::default(),
        };
        let maps = images.contiguous()?.apply_op2(&token, core)?;
        match statistics.get() {
            Some(statistics) => Ok(NetworkOutput { maps, statistics: statistics.clone() }),
            None => bail!("network: {:?} has no implementation here", images.device()),
        }
    }

    /// A pass that only computes, with known statistics, mean and variance of each batch
    /// normalization in order; the result is detached.
    ///
    /// # Errors
    ///
    /// If the number of parameters or statistics or a shape does not fit, a tensor is not f32, the
    /// tensors are not on one device, or this does not have the network's precision.
    pub fn evaluate(
        &self,
        images: &Tensor,
        parameters: &[&Tensor],
        statistics: &[(&Tensor, &Tensor)],
    ) -> Result<Tensor> {
        self.check_counts(parameters.len(), statistics.len())?;
        self.precision.check(images.device())?;
        let images = images.contiguous()?;
        let plan = Plan::new(&self.layers, images.dims(), parameters)?;
        plan.check_statistics(statistics)?;
        let parameters: Result<Vec<Tensor>> = parameters.iter().map(|p| p.contiguous()).collect();
        let parameters = parameters?;
        #[cfg(feature = "cuda")]
        if images.device().is_cuda() {
            return cuda::evaluate(self, &plan, &images, &parameters, statistics);
        }
        self.evaluate_on_cpu(&plan, &images, &parameters, statistics)
    }

    fn evaluate_on_cpu(
        &self,
        plan: &Plan,
        images: &Tensor,
        parameters: &[Tensor],
        statistics: &[(&Tensor, &Tensor)],
    ) -> Result<Tensor> {
        let parameters: Result<Vec<Values<'_>>> =
            parameters.iter().map(|p| Values::of(p, "network")).collect();
        let (parameters, pixels) = (parameters?, Values::of(images, "network")?);
        let mut buffers = self.buffers.take(images.dims());
        let mut cpu = Cpu::new(plan, &parameters, statistics, &mut buffers);
        let pixels = cpu.copy(&pixels);
        let result = forward::evaluate(&mut cpu, pixels)?;
        self.buffers.give(buffers);
        Tensor::from_vec(result, plan.result(), images.device())
    }

    fn check_counts(&self, n_parameters: usize, n_statistics: usize) -> Result<()> {
        if n_parameters != self.n_parameters || n_statistics != self.n_statistics {
            bail!(
                "network: expected {} parameters and {} statistics, got {n_parameters} and {n_statistics}",
                self.n_parameters,
                self.n_statistics
            )
        }
        Ok(())
    }
}
