//! The layers of a network, and their shapes for given images and parameters.

use candle_core::{Error, Result, Tensor, bail};

use crate::Conv2dConfig;
use crate::conv2d::geometry::{Geometry, Map};
use crate::max_pool2d;
use crate::window::Window;

/// A layer and the index of the layers that it reads; the indices of its parameters and
/// statistics are among all of the network's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layer {
    Images,
    Conv2d { input: usize, config: Conv2dConfig, weight: usize },
    BatchNorm { input: usize, residual: Option<usize>, norm: Normalization },
    MaxPool2d { input: usize, kernel: usize, stride: usize, padding: usize },
    GlobalAveragePool { input: usize },
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
            Self::BatchNorm { input, residual, .. } => [Some(input), residual],
            Self::Conv2d { input, .. }
            | Self::MaxPool2d { input, .. }
            | Self::GlobalAveragePool { input } => [Some(input), None],
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
            Layer::Conv2d { input, config, weight } => {
                let Map { height, width, channels } = self.maps[input];
                let maps = [self.batch, height, width, channels];
                let geometry = Geometry::new(&maps, parameters[weight].dims(), config)?;
                self.geometries[index] = Some(geometry);
                Ok(geometry.output)
            }
            Layer::BatchNorm { input, residual, norm } => {
                let map = self.maps[input];
                for parameter in &parameters[norm.weight..=norm.bias()] {
                    if parameter.dims() != [map.channels] {
                        bail!("batch_norm of {map:?} got {:?}", parameter.shape())
                    }
                }
                match residual.map(|residual| self.maps[residual]) {
                    Some(residual) if residual != map => {
                        bail!("batch_norm with residual {residual:?} beside {map:?}")
                    }
                    _ => Ok(map),
                }
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
        match self.layers[last] {
            Layer::GlobalAveragePool { .. } => vec![self.batch, channels],
            _ => vec![self.batch, height, width, channels],
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
