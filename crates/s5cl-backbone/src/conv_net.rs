//! A network of convolutions with its parameters and running statistics.

use candle_core::{Result, Tensor, Var, bail};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, VarBuilder};
use s5cl_kernels::{Conv2dConfig, Maps, Network, Precision, running_statistics_step};

use crate::Mode;

/// PyTorch's defaults, with which every torchvision weight was made.
const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// torchvision's initialization of a ResNet's convolutions.
const CONV: Init = Init::Kaiming {
    dist: NormalOrUniform::Normal,
    fan: FanInOut::FanOut,
    non_linearity: NonLinearity::ReLU,
};

/// Convolutions, batch normalizations and pooling layers, added in order, and their weights.
///
/// In training mode, running statistics move by a tenth towards the batch's, the variance in its
/// unbiased form, as PyTorch's do.
#[derive(Debug)]
pub struct ConvNet {
    layers: Network,
    parameters: Vec<Tensor>,
    statistics: Vec<RunningStatistics>,
}

#[derive(Debug)]
struct RunningStatistics {
    mean: Var,
    variance: Var,
}

impl ConvNet {
    /// Only the images; the layers behind them are computed in the precision, which the device of
    /// the images must have.
    #[must_use]
    pub fn new(precision: Precision) -> Self {
        let layers = Network::new().with_precision(precision);
        Self { layers, parameters: Vec::new(), statistics: Vec::new() }
    }

    /// What the network is given.
    #[must_use]
    pub fn images(&self) -> Maps {
        self.layers.images()
    }

    /// Adds a square convolution without bias that keeps the map's size but for its stride, with
    /// `kernel` (odd) and `stride` in pixels; the parameter is `weight`, `[out_channels,
    /// in_channels, kernel, kernel]`.
    ///
    /// # Errors
    ///
    /// If the kernel is even, or the builder knows the weight with another shape.
    pub fn conv(
        &mut self,
        input: Maps,
        (in_channels, out_channels): (usize, usize),
        (kernel, stride): (usize, usize),
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        if kernel.is_multiple_of(2) {
            bail!("{}: expected an odd kernel, got {kernel}", builder.prefix())
        }
        let shape = (out_channels, in_channels, kernel, kernel);
        self.parameters.push(builder.get_with_hints(shape, "weight", CONV)?);
        Ok(self.layers.conv2d(input, Conv2dConfig { stride, ..Conv2dConfig::same(kernel) }))
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
        residual: Option<Maps>,
        relu: bool,
        builder: &VarBuilder<'_>,
    ) -> Result<Maps> {
        let constant =
            |name: &str, value: f64| builder.get_with_hints(channels, name, Init::Const(value));
        self.parameters.push(constant("weight", 1.0)?);
        self.parameters.push(constant("bias", 0.0)?);
        self.statistics.push(RunningStatistics {
            mean: Var::from_tensor(&constant("running_mean", 0.0)?)?,
            variance: Var::from_tensor(&constant("running_var", 1.0)?)?,
        });
        Ok(self.layers.batch_norm(input, residual, relu, EPSILON))
    }

    /// Adds max pooling with `kernel`, `stride` and `padding` in pixels.
    pub fn max_pool(&mut self, input: Maps, kernel: usize, stride: usize, padding: usize) -> Maps {
        self.layers.max_pool2d(input, kernel, stride, padding)
    }

    /// Adds the mean over all pixels.
    pub fn global_average_pool(&mut self, input: Maps) -> Maps {
        self.layers.global_average_pool(input)
    }

    /// What the last layer gives: f32 `[batch, height, width, channels]`, or `[batch, channels]`
    /// behind a global average pool. In evaluation mode it is detached.
    ///
    /// # Errors
    ///
    /// If the images, f32 `[batch, height, width, channels]`, do not fit.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let parameters: Vec<&Tensor> = self.parameters.iter().collect();
        match mode {
            Mode::Train => {
                let output = self.layers.train(images, &parameters)?;
                let statistics = self.statistics.iter().zip(&output.statistics);
                let pairs = statistics.flat_map(|(running, batch)| {
                    [(&*running.mean, &batch.mean), (&*running.variance, &batch.variance)]
                });
                running_statistics_step(&pairs.collect::<Vec<_>>(), MOMENTUM)?;
                Ok(output.maps)
            }
            Mode::Evaluate => {
                let known = |running: &RunningStatistics| {
                    (running.mean.as_detached_tensor(), running.variance.as_detached_tensor())
                };
                let known: Vec<(Tensor, Tensor)> = self.statistics.iter().map(known).collect();
                let known: Vec<(&Tensor, &Tensor)> = known.iter().map(|(m, v)| (m, v)).collect();
                self.layers.evaluate(images, &parameters, &known)
            }
        }
    }
}
