//! The layers of a network with their parameters and running statistics.

mod parameter;
mod parts;

use candle_core::{Result, Tensor, Var, bail};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, VarBuilder};
use s5cl_kernels::{
    Activation, Conv2dConfig, Maps, Network, Precision, TokenPool, running_statistics_step,
};

pub use parts::{Behind, Conv, LayerScale, Prefix};

use crate::{Mode, Trained};
use parameter::{Parameter, Value, full_name};

/// PyTorch's default for batch normalization.
const MOMENTUM: f64 = 0.1;

/// torchvision's initialization of convolutions.
pub(crate) const CONV: Init = Init::Kaiming {
    dist: NormalOrUniform::Normal,
    fan: FanInOut::FanOut,
    non_linearity: NonLinearity::ReLU,
};

/// timm's initialization of vision transformers and ConvNeXt, which cuts values off at 2: at a
/// hundred deviations, so it cuts off nothing.
pub(crate) const TRANSFORMER: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

/// Layers that are added in order, with their weights.
///
/// In training mode, running statistics move by a tenth towards the batch's, the variance in its
/// unbiased form, as PyTorch's do.
pub struct Layers {
    network: Network,
    parameters: Vec<Parameter>,
    statistics: Vec<RunningStatistics>,
}

struct RunningStatistics {
    mean: Var,
    variance: Var,
}

impl Layers {
    /// Only what the network is given; the layers behind it are computed in the precision, which
    /// the device of the images must have.
    #[must_use]
    pub fn new(precision: Precision) -> Self {
        let network = Network::new().with_precision(precision);
        Self { network, parameters: Vec::new(), statistics: Vec::new() }
    }

    /// What the network is given.
    #[must_use]
    pub fn images(&self) -> Maps {
        self.network.images()
    }

    /// Full names of all parameters, in the order of the layers.
    pub fn parameter_names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().flat_map(|parameter| &parameter.names).map(String::as_str)
    }

    /// Full names of the parameters that such a training leaves alone.
    pub(crate) fn frozen_names(&self, trained: Trained) -> impl Iterator<Item = &str> {
        let frozen = self.parameters.iter().filter(move |p| trained == Trained::Norm && !p.is_norm);
        frozen.flat_map(|parameter| &parameter.names).map(String::as_str)
    }

    fn variable<S: Into<candle_core::Shape>>(
        &mut self,
        shape: S,
        name: &str,
        init: Init,
        builder: &VarBuilder<'_>,
    ) -> Result<()> {
        self.scaled(shape, name, init, None, builder)
    }

    fn scaled<S: Into<candle_core::Shape>>(
        &mut self,
        shape: S,
        name: &str,
        init: Init,
        scale: Option<&LayerScale>,
        builder: &VarBuilder<'_>,
    ) -> Result<()> {
        let tensor = builder.get_with_hints(shape, name, init)?;
        let mut names = vec![full_name(builder, name)];
        let value = match scale {
            None => Value::Variable(tensor),
            Some(scale) => {
                // Weight and bias share it; it is named with the weight.
                if tensor.rank() > 1 {
                    names.push(scale.name.clone());
                }
                Value::Scaled(tensor, scale.factors.clone())
            }
        };
        self.parameters.push(Parameter { value, names, is_norm: false });
        Ok(())
    }

    /// Adds a convolution without bias; the parameter is `weight`, `[out_channels, in_channels /
    /// groups, kernel, kernel]`.
    ///
    /// # Errors
    ///
    /// If the builder knows the weight with another shape.
    pub fn conv(
        &mut self,
        input: Maps,
        conv: Conv,
        residual: Option<Maps>,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        self.variable(conv.shape(), "weight", CONV, builder)?;
        Ok(match residual {
            Some(residual) => self.network.conv2d_with_residual(input, residual, conv.config()),
            None => self.network.conv2d(input, conv.config()),
        })
    }

    /// Adds a convolution with the bias `[out_channels]` and what follows it.
    ///
    /// # Errors
    ///
    /// If the builder knows one of them with another shape.
    pub fn conv_with_bias(
        &mut self,
        input: Maps,
        conv: Conv,
        init: Init,
        residual: Option<Maps>,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        self.variable(conv.shape(), "weight", init, builder)?;
        self.variable(conv.channels.1, "bias", Init::Const(0.0), builder)?;
        Ok(self.network.conv2d_with_bias(input, residual, conv.config()))
    }

    /// Adds `torch.nn.Linear` over the channels of each pixel and what follows it; the parameters
    /// are `weight`, `[outputs, inputs]`, and `bias`, `[outputs]`.
    ///
    /// # Errors
    ///
    /// If the builder knows one of them with another shape.
    pub fn linear(
        &mut self,
        input: Maps,
        (inputs, outputs): (usize, usize),
        behind: Behind<'_>,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        self.scaled((outputs, inputs), "weight", TRANSFORMER, behind.scale, builder)?;
        self.scaled(outputs, "bias", Init::Const(0.0), behind.scale, builder)?;
        let config = Conv2dConfig { stride: 1, padding: 0, dilation: 1, groups: 1 };
        Ok(self.network.conv2d_with_bias(input, behind.residual, config))
    }

    /// Adds `torch.nn.BatchNorm2d`, with the sum of other maps and a ReLU behind it where asked
    /// for; the parameters are `weight`, `bias`, `running_mean`, `running_var`, all `[channels]`.
    ///
    /// # Errors
    ///
    /// If the builder knows one of them with another shape.
    pub fn batch_norm(
        &mut self,
        input: Maps,
        channels: usize,
        (residual, relu): (Option<Maps>, bool),
        epsilon: f64,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        self.norm(channels, builder)?;
        let constant =
            |name: &str, value: f64| builder.get_with_hints(channels, name, Init::Const(value));
        self.statistics.push(RunningStatistics {
            mean: Var::from_tensor(&constant("running_mean", 0.0)?)?,
            variance: Var::from_tensor(&constant("running_var", 1.0)?)?,
        });
        Ok(self.network.batch_norm(input, residual, relu, epsilon))
    }

    /// Adds `torch.nn.LayerNorm` over the channels of each pixel; the parameters are `weight` and
    /// `bias`, `[channels]`.
    ///
    /// # Errors
    ///
    /// If the builder knows one of them with another shape.
    pub fn layer_norm(
        &mut self,
        input: Maps,
        channels: usize,
        epsilon: f64,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        self.norm(channels, builder)?;
        Ok(self.network.layer_norm(input, epsilon))
    }

    fn norm(&mut self, channels: usize, builder: &VarBuilder<'_>) -> Result<()> {
        for (name, value) in [("weight", 1.0), ("bias", 0.0)] {
            self.variable(channels, name, Init::Const(value), builder)?;
        }
        self.parameters.iter_mut().rev().take(2).for_each(|parameter| parameter.is_norm = true);
        Ok(())
    }

    /// Adds a function of each value.
    pub fn activation(&mut self, input: Maps, activation: Activation) -> Maps {
        self.network.activation(input, activation)
    }

    /// Adds SwiGLU, which halves the channels.
    pub fn gated_unit(&mut self, input: Maps) -> Maps {
        self.network.gated_unit(input)
    }

    /// Adds the multiplication of each channel with the sigmoid of its logit.
    pub fn gate(&mut self, input: Maps, logits: Maps) -> Maps {
        self.network.gate(input, logits)
    }

    /// Adds the sum with other maps.
    pub fn add(&mut self, input: Maps, other: Maps) -> Maps {
        self.network.sum(input, other)
    }

    /// Adds self-attention of tokens `[query, key, value]`.
    pub fn attention(&mut self, input: Maps, n_heads: usize) -> Maps {
        self.network.attention(input, n_heads)
    }

    /// Adds what makes tokens of `n_patches` pixels; the parameters have timm's names,
    /// `cls_token`, `reg_token`, `pos_embed`.
    ///
    /// # Errors
    ///
    /// If the builder knows one of them with another shape.
    pub fn tokens(
        &mut self,
        input: Maps,
        (n_patches, dim): (usize, usize),
        prefix: Prefix,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        let first = prefix.n_positioned;
        let class = builder.get_with_hints((1, 1, dim), "cls_token", TRANSFORMER)?;
        let rows = (1, first + n_patches, dim);
        let positions = builder.get_with_hints(rows, "pos_embed", TRANSFORMER)?;
        let mut names = vec!["cls_token"];
        let registers = if prefix.n_registers > 0 {
            names.push("reg_token");
            Some(builder.get_with_hints((1, prefix.n_registers, dim), "reg_token", TRANSFORMER)?)
        } else {
            None
        };
        let named = |names: &[&str]| names.iter().map(|name| full_name(builder, name)).collect();
        let n_positioned = first;
        let of_prefix =
            Value::Prefix { class, registers, positions: positions.clone(), n_positioned };
        let values =
            [(of_prefix, named(&names)), (Value::Rows(positions, first), named(&["pos_embed"]))];
        for (value, names) in values {
            self.parameters.push(Parameter { value, names, is_norm: false });
        }
        Ok(self.network.tokens(input))
    }

    /// Adds what makes one vector of an image's tokens.
    pub fn pool_tokens(&mut self, input: Maps, pool: TokenPool, prefix: Prefix) -> Maps {
        self.network.pool_tokens(input, pool, prefix.len())
    }

    /// Adds max pooling with `kernel`, `stride` and `padding` in pixels.
    pub fn max_pool(&mut self, input: Maps, kernel: usize, stride: usize, padding: usize) -> Maps {
        self.network.max_pool2d(input, kernel, stride, padding)
    }

    /// Adds the mean over all pixels.
    pub fn global_average_pool(&mut self, input: Maps) -> Maps {
        self.network.global_average_pool(input)
    }

    /// What the last layer gives: f32 `[batch, height, width, channels]`, or `[batch, channels]`
    /// behind a pool. In evaluation mode it is detached.
    ///
    /// # Errors
    ///
    /// If the images, f32 `[batch, height, width, channels]`, do not fit.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_trained(images, mode, Trained::All)
    }

    /// [`Self::forward`], in which only what is trained has a gradient.
    pub(crate) fn forward_trained(
        &self,
        images: &Tensor,
        mode: Mode,
        trained: Trained,
    ) -> Result<Tensor> {
        let has_gradient = |parameter: &Parameter| match trained {
            Trained::Norm => parameter.is_norm,
            Trained::All | Trained::Last(_) => true,
            Trained::None => false,
        };
        let compute = |parameter: &Parameter| {
            let value = parameter.value.compute()?;
            Ok(if has_gradient(parameter) { value } else { value.detach() })
        };
        let parameters: Vec<Tensor> = self.parameters.iter().map(compute).collect::<Result<_>>()?;
        let parameters: Vec<&Tensor> = parameters.iter().collect();
        match mode {
            Mode::Train => {
                let output = self.network.train(images, &parameters)?;
                self.move_statistics(&output.statistics)?;
                Ok(output.maps)
            }
            Mode::Evaluate => {
                let known = |running: &RunningStatistics| {
                    (running.mean.as_detached_tensor(), running.variance.as_detached_tensor())
                };
                let known: Vec<(Tensor, Tensor)> = self.statistics.iter().map(known).collect();
                let known: Vec<(&Tensor, &Tensor)> = known.iter().map(|(m, v)| (m, v)).collect();
                self.network.evaluate(images, &parameters, &known)
            }
        }
    }

    fn move_statistics(&self, of_batch: &[s5cl_kernels::BatchStatistics]) -> Result<()> {
        if of_batch.len() != self.statistics.len() {
            bail!("{} statistics of {} normalizations", of_batch.len(), self.statistics.len())
        }
        let pairs = self.statistics.iter().zip(of_batch).flat_map(|(running, batch)| {
            [(&*running.mean, &batch.mean), (&*running.variance, &batch.variance)]
        });
        running_statistics_step(&pairs.collect::<Vec<_>>(), MOMENTUM)
    }
}
