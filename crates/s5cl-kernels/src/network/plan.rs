//! The layers of a network, and their shapes for given images and parameters.

use candle_core::{Error, Result, Tensor, bail};

use super::operation::Operation;
use crate::Conv2dConfig;
use crate::conv2d::geometry::{Geometry, Map};
use crate::max_pool2d;
use crate::window::Window;

/// A layer and the index of the layers that it reads; the indices of its parameters and
/// statistics are among all of the network's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layer {
    Images,
    Conv2d { input: usize, residual: Option<usize>, config: Conv2dConfig, kernel: Kernel },
    BatchNorm { input: usize, residual: Option<usize>, norm: Normalization },
    MaxPool2d { input: usize, kernel: usize, stride: usize, padding: usize },
    GlobalAveragePool { input: usize },
    Operation { input: usize, other: Option<usize>, operation: Operation, parameters: usize },
}

/// The parameters of a convolution; a bias follows the weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    pub(super) weight: usize,
    pub(super) has_bias: bool,
}

impl Kernel {
    pub(super) fn bias(self) -> Option<usize> {
        self.has_bias.then_some(self.weight + 1)
    }
}

/// What a batch normalization does beside reading maps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalization {
    pub(super) has_residual: bool,
    pub(super) relu: bool,
    pub(super) epsilon: f64,
    pub(super) weight: usize,
    pub(super) statistics: usize,
}

impl Normalization {
    /// The bias follows the weight.
    pub(super) fn bias(&self) -> usize {
        self.weight + 1
    }
}

impl Layer {
    /// The layers that this one reads.
    pub(super) fn inputs(&self) -> impl Iterator<Item = usize> {
        let inputs = match *self {
            Self::Images => [None, None],
            Self::BatchNorm { input, residual, .. } | Self::Conv2d { input, residual, .. } => {
                [Some(input), residual]
            }
            Self::Operation { input, other, .. } => [Some(input), other],
            Self::MaxPool2d { input, .. } | Self::GlobalAveragePool { input } => {
                [Some(input), None]
            }
        };
        inputs.into_iter().flatten()
    }
}

/// The shapes of one pass.
pub(super) struct Plan {
    pub(super) batch: usize,
    /// What each layer gives for one image.
    pub(super) maps: Vec<Map>,
    pub(super) layers: Vec<Layer>,
    geometries: Vec<Option<Geometry>>,
    windows: Vec<Option<Window>>,
}

impl Plan {
    pub(super) fn new(layers: &[Layer], images: &[usize], parameters: &[&Tensor]) -> Result<Self> {
        let &[batch, height, width, channels] = images else {
            bail!("network: expected images [batch, height, width, channels], got {images:?}")
        };
        if images.contains(&0) {
            bail!("network: images {images:?} are empty")
        }
        let mut plan = Self {
            batch,
            maps: Vec::with_capacity(layers.len()),
            layers: layers.to_vec(),
            geometries: vec![None; layers.len()],
            windows: vec![None; layers.len()],
        };
        for index in 0..layers.len() {
            let images = Map { height, width, channels };
            let map = plan.layer(index, images, parameters);
            let named = |error| Error::Msg(format!("network: layer {index}: {error}"));
            plan.maps.push(map.map_err(named)?);
        }
        Ok(plan)
    }

    /// What a layer gives, once all before it are known.
    fn layer(&mut self, index: usize, images: Map, parameters: &[&Tensor]) -> Result<Map> {
        match self.layers[index] {
            Layer::Images => Ok(images),
            Layer::Conv2d { input, residual, config, kernel } => {
                let geometry = self.convolution(input, config, kernel, parameters)?;
                self.geometries[index] = Some(geometry);
                self.summed(geometry.output, residual, "conv2d")
            }
            Layer::BatchNorm { input, residual, norm } => {
                let map = self.maps[input];
                for parameter in &parameters[norm.weight..=norm.bias()] {
                    if parameter.dims() != [map.channels] {
                        bail!("batch_norm of {map:?} got {:?}", parameter.shape())
                    }
                }
                self.summed(map, residual, "batch_norm")
            }
            Layer::MaxPool2d { input, kernel, stride, padding } => {
                let Map { height, width, channels } = self.maps[input];
                let window = Window { height, width, kernel, stride, padding };
                let window = max_pool2d::checked(window, "max_pool2d")?;
                self.windows[index] = Some(window);
                Ok(Map { height: window.out_height(), width: window.out_width(), channels })
            }
            Layer::GlobalAveragePool { input } => {
                Ok(Map { height: 1, width: 1, channels: self.maps[input].channels })
            }
            Layer::Operation { input, other, operation, parameters: first } => {
                let own = &parameters[first..first + operation.n_parameters()];
                let shapes: Vec<&[usize]> = own.iter().map(|parameter| parameter.dims()).collect();
                operation.output(self.maps[input], other.map(|other| self.maps[other]), &shapes)
            }
        }
    }

    fn convolution(
        &self,
        input: usize,
        config: Conv2dConfig,
        kernel: Kernel,
        parameters: &[&Tensor],
    ) -> Result<Geometry> {
        let Map { height, width, channels } = self.maps[input];
        // A linear layer is a convolution with one tap.
        let weight = match *parameters[kernel.weight].dims() {
            [outputs, inputs] => vec![outputs, inputs, 1, 1],
            ref dims => dims.to_vec(),
        };
        let geometry = Geometry::new(&[self.batch, height, width, channels], &weight, config)?;
        if let Some(bias) = kernel.bias().map(|bias| parameters[bias].dims())
            && *bias != [geometry.output.channels]
        {
            bail!("conv2d: bias {bias:?} does not fit weight {weight:?}")
        }
        Ok(geometry)
    }

    /// Maps to which others are added.
    fn summed(&self, map: Map, residual: Option<usize>, name: &str) -> Result<Map> {
        match residual.map(|residual| self.maps[residual]) {
            Some(residual) if residual != map => {
                bail!("{name} with residual {residual:?} beside {map:?}")
            }
            _ => Ok(map),
        }
    }

    /// Channels of each normalization.
    #[cfg(feature = "cuda")]
    pub(super) fn norm_channels(&self) -> impl Iterator<Item = usize> {
        let layers = self.layers.iter().zip(&self.maps);
        let norms = layers.filter(|(layer, _)| matches!(layer, Layer::BatchNorm { .. }));
        norms.map(|(_, map)| map.channels)
    }

    /// Fails where known statistics do not fit their normalization.
    pub(super) fn check_statistics(&self, statistics: &[(&Tensor, &Tensor)]) -> Result<()> {
        for (layer, map) in self.layers.iter().zip(&self.maps) {
            let Layer::BatchNorm { norm, .. } = layer else { continue };
            let (mean, variance) = statistics[norm.statistics];
            let channels = [map.channels];
            if mean.dims() != channels || variance.dims() != channels {
                let got = [mean.dims(), variance.dims()];
                bail!("network: statistics of shapes {got:?} for {channels:?} channels")
            }
        }
        Ok(())
    }

    /// Values that a layer gives for the batch.
    pub(super) fn len(&self, layer: usize) -> usize {
        self.batch * self.maps[layer].len()
    }

    /// The shape of the result.
    pub(super) fn result(&self) -> Vec<usize> {
        let last = self.layers.len() - 1;
        let Map { height, width, channels } = self.maps[last];
        if self.is_vector(last) {
            vec![self.batch, channels]
        } else {
            vec![self.batch, height, width, channels]
        }
    }

    /// Whether a layer gives one vector an image: a pool, and what is behind one.
    pub(super) fn is_vector(&self, layer: usize) -> bool {
        match self.layers[layer] {
            Layer::GlobalAveragePool { .. }
            | Layer::Operation { operation: Operation::PoolTokens { .. }, .. } => true,
            Layer::Conv2d { input, .. }
            | Layer::BatchNorm { input, .. }
            | Layer::Operation { input, .. } => self.is_vector(input),
            Layer::Images | Layer::MaxPool2d { .. } => false,
        }
    }

    /// Of a convolution.
    pub(super) fn geometry(&self, layer: usize) -> Result<&Geometry> {
        match &self.geometries[layer] {
            Some(geometry) => Ok(geometry),
            None => bail!("network: layer {layer} is no convolution"),
        }
    }

    /// Of a max pool.
    pub(super) fn window(&self, layer: usize) -> Result<&Window> {
        match &self.windows[layer] {
            Some(window) => Ok(window),
            None => bail!("network: layer {layer} is no max pool"),
        }
    }
}
