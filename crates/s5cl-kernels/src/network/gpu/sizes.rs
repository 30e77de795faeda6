//! How a network lies in a GPU's memory.

use candle_core::Result;

use crate::batch_norm::launch::Rows;
use crate::conv2d::geometry::{Geometry, Map};
use crate::conv2d::launch::Weight;
use crate::cuda::Pointer;
use crate::cuda::stored::{Stored, wide};
use crate::network::operation::Operation;
use crate::network::plan::{Layer, Plan};

/// Values after which a part of a larger memory may start, so that every part is aligned.
const ALIGNED: usize = 64;

/// Where the parts of larger memories start, in values.
pub(super) struct Sizes<'a> {
    pub(super) plan: &'a Plan,
    /// Of the images, filled up with zeros where only convolutions read them: these take whole
    /// vectors of channels.
    pub(super) image_channels: usize,
    /// The gradient of each parameter.
    pub(super) parameters: Vec<usize>,
    pub(super) n_parameters: usize,
    /// By parameter, those of convolutions in their order on the device; biases too.
    weights: Vec<Option<Packed>>,
    pub(super) n_weights: usize,
    /// The parameters that are convolutions' biases, in order.
    pub(super) biases: Vec<usize>,
    /// Two vectors, `[2, channels]`, of each normalization.
    pub(super) norms: Vec<usize>,
    pub(super) n_norms: usize,
    /// See [`Self::is_float`].
    first_float: usize,
}

/// A weight among all weights.
#[derive(Clone, Copy)]
struct Packed {
    start: usize,
    outputs: usize,
    /// Of a group, as the weight is trained.
    inputs: usize,
    taps: usize,
    padded_inputs: usize,
}

/// Takes `len` values behind those that were taken before.
fn take(total: &mut usize, len: usize) -> usize {
    let start = *total;
    *total += len.next_multiple_of(ALIGNED);
    start
}

impl<'a> Sizes<'a> {
    pub(super) fn new<T: Stored>(plan: &'a Plan) -> Result<Self> {
        let mut sizes = Self {
            plan,
            image_channels: image_channels::<T>(plan),
            parameters: Vec::new(),
            n_parameters: 0,
            weights: Vec::new(),
            n_weights: 0,
            biases: Vec::new(),
            norms: Vec::new(),
            n_norms: 0,
            first_float: first_float(&plan.layers),
        };
        // Layers have their parameters and statistics in order.
        for (index, layer) in plan.layers.iter().enumerate() {
            let map = plan.maps[index];
            match *layer {
                Layer::Conv2d { kernel, .. } => {
                    sizes.take_weight(index)?;
                    if kernel.has_bias {
                        sizes.take_bias(map.channels);
                    }
                }
                Layer::BatchNorm { .. } => {
                    sizes.take_parameter(map.channels);
                    sizes.take_parameter(map.channels);
                    sizes.norms.push(take(&mut sizes.n_norms, 2 * map.channels));
                }
                Layer::Operation { operation: Operation::LayerNorm { .. }, .. } => {
                    sizes.take_parameter(map.channels);
                    sizes.take_parameter(map.channels);
                }
                Layer::Operation { input, operation: Operation::Tokens, .. } => {
                    let positions = plan.maps[input].len();
                    sizes.take_parameter(map.len() - positions);
                    sizes.take_parameter(positions);
                }
                Layer::Operation { .. }
                | Layer::Images
                | Layer::MaxPool2d { .. }
                | Layer::GlobalAveragePool { .. } => {}
            }
        }
        Ok(sizes)
    }

    /// Room for a parameter that the device takes as it is.
    fn take_parameter(&mut self, len: usize) {
        self.parameters.push(take(&mut self.n_parameters, len));
        self.weights.push(None);
    }

    /// Room for a convolution's bias, whose gradient is summed where it is trained.
    fn take_bias(&mut self, outputs: usize) {
        self.parameters.push(take(&mut self.n_parameters, outputs));
        let start = take(&mut self.n_weights, outputs);
        let bias = Packed { start, outputs, inputs: 1, taps: 1, padded_inputs: 1 };
        self.weights.push(Some(bias));
        self.biases.push(self.weights.len() - 1);
    }

    /// Room for a convolution's weight.
    fn take_weight(&mut self, layer: usize) -> Result<()> {
        let (trained, geometry) = (self.plan.geometry(layer)?, self.geometry(layer)?);
        let (outputs, taps) = (trained.output.channels, trained.taps());
        let (inputs, padded_inputs) = (trained.group_inputs(), geometry.group_inputs());
        self.parameters.push(take(&mut self.n_parameters, outputs * taps * inputs));
        let start = take(&mut self.n_weights, outputs * taps * padded_inputs);
        self.weights.push(Some(Packed { start, outputs, inputs, taps, padded_inputs }));
        Ok(())
    }

    /// Of a convolution, with the images' channels as they are here.
    pub(super) fn geometry(&self, layer: usize) -> Result<Geometry> {
        let geometry = *self.plan.geometry(layer)?;
        let reads_images = matches!(self.plan.layers[layer], Layer::Conv2d { input: 0, .. });
        let channels = if reads_images { self.image_channels } else { geometry.input.channels };
        Ok(Geometry { input: Map { channels, ..geometry.input }, ..geometry })
    }

    /// Pixels of the batch.
    pub(super) fn pixels(&self, layer: usize) -> usize {
        self.plan.batch * self.plan.maps[layer].pixels()
    }

    /// Values of a layer for the batch.
    pub(super) fn len(&self, layer: usize) -> usize {
        if layer == 0 { self.pixels(0) * self.image_channels } else { self.plan.len(layer) }
    }

    pub(super) fn rows(&self, layer: usize) -> Rows {
        Rows { rows: self.pixels(layer), channels: self.plan.maps[layer].channels }
    }

    /// Whether the layer's values are f32 whatever the type of the maps: vectors that leave the
    /// network, as they are or normalized.
    pub(super) fn is_float(&self, layer: usize) -> bool {
        layer >= self.first_float
    }

    /// The layer that leaves the network.
    pub(super) fn last(&self) -> usize {
        self.plan.layers.len() - 1
    }

    /// A weight in both orders, `trained` at its own place and `stored` at that of all.
    pub(super) fn weight<T>(
        &self,
        parameter: usize,
        trained: Pointer<f32>,
        stored: Pointer<T>,
    ) -> Option<Weight<T>> {
        let Packed { start, outputs, inputs, taps, padded_inputs } = self.weights[parameter]?;
        let stored = stored.offset(start);
        let scale = Pointer::NULL;
        Some(Weight { trained, stored, scale, outputs, inputs, taps, padded_inputs })
    }
}

fn first_float(layers: &[Layer]) -> usize {
    let is_pool = |layer: &Layer| match layer {
        Layer::GlobalAveragePool { .. } => true,
        Layer::Operation { operation, .. } => matches!(operation, Operation::PoolTokens { .. }),
        _ => false,
    };
    match layers {
        // Nothing else can read the pool, as it is the last but one.
        [.., pool, Layer::Operation { input, operation: Operation::LayerNorm { .. }, .. }]
            if is_pool(pool) && input + 2 == layers.len() =>
        {
            layers.len() - 2
        }
        [.., last] if is_pool(last) => layers.len() - 1,
        _ => layers.len(),
    }
}

fn image_channels<T: Stored>(plan: &Plan) -> usize {
    let channels = plan.maps[0].channels;
    let mut readers = plan.layers.iter().filter(|layer| layer.inputs().any(|input| input == 0));
    let fills = readers.all(|layer| {
        matches!(layer, Layer::Conv2d { residual, config, .. }
            if config.groups == 1 && *residual != Some(0))
    });
    let is_read = plan.layers.len() > 1;
    if fills && is_read { channels.next_multiple_of(wide::<T>()) } else { channels }
}
