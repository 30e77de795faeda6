//! From images to the last layer's maps.

use candle_core::{Result, Tensor, bail};

use super::Network;
use super::buffers::Buffers;
use super::plan::{Layer, Plan};
use crate::batch_norm::affine::Affine;
use crate::batch_norm::passes::Moments;
use crate::conv2d;
use crate::global_average_pool::global_average_pool_forward;
use crate::max_pool2d::cpu::max_pool2d_forward;
use crate::product::{Finish, Start};
use crate::values::Values;

/// What a pass that learns keeps for the way back.
pub(super) struct Tape {
    pub(super) plan: Plan,
    /// What each layer gave; empty for the images.
    pub(super) values: Vec<Vec<f32>>,
    /// Of each batch normalization.
    pub(super) moments: Vec<Moments>,
    pub(super) affines: Vec<Affine>,
    /// Which place of its window gave each value, for max pools.
    pub(super) winners: Vec<Vec<u8>>,
}

/// A pass that learns. The result is the last of the tape's values.
pub(super) fn train(
    plan: Plan,
    images: &[f32],
    parameters: &[Values<'_>],
    buffers: &mut Buffers,
) -> Result<Tape> {
    let n_layers = plan.layers.len();
    let mut values: Vec<Vec<f32>> = Vec::with_capacity(n_layers);
    let (mut moments, mut affines) = (Vec::new(), Vec::new());
    let mut winners = vec![Vec::new(); n_layers];
    for (index, layer) in plan.layers.iter().enumerate() {
        let mut out = match layer {
            Layer::Images => Vec::new(),
            _ => buffers.take(plan.len(index)),
        };
        let given = |layer: usize| if layer == 0 { images } else { values[layer].as_slice() };
        match *layer {
            Layer::Images => {}
            Layer::Conv2d { input, weight, .. } => {
                let geometry = plan.geometry(index)?;
                let weight = &parameters[weight];
                conv2d::forward(geometry, given(input), weight, &mut out, Finish::OVERWRITE);
            }
            Layer::BatchNorm { input, residual, relu, epsilon, weight, .. } => {
                let of_batch = Moments::of(given(input), plan.maps[index].channels);
                let Moments { mean, variance, .. } = &of_batch;
                let (weight, bias) = (&parameters[weight], &parameters[weight + 1]);
                let affine = Affine::new(weight, bias, mean, variance, epsilon);
                affine.apply(given(input), residual.map(given), relu, &mut out);
                moments.push(of_batch);
                affines.push(affine);
            }
            Layer::MaxPool2d { input, .. } => {
                let mut places = vec![0; out.len()];
                let channels = plan.maps[index].channels;
                let window = plan.window(index)?;
                max_pool2d_forward(given(input), &mut out, Some(&mut places), window, channels);
                winners[index] = places;
            }
            Layer::GlobalAveragePool { input } => {
                let channels = plan.maps[index].channels;
                global_average_pool_forward(given(input), &mut out, channels);
            }
        }
        values.push(out);
    }
    Ok(Tape { plan, values, moments, affines, winners })
}

/// A pass that only computes: each batch normalization that is a convolution's only reader is
/// applied to the convolution's sums before they are written.
pub(super) fn evaluate(
    network: &Network,
    images: &Tensor,
    parameters: &[&Tensor],
    statistics: &[(&Tensor, &Tensor)],
) -> Result<Tensor> {
    let images = images.contiguous()?;
    let plan = Plan::new(&network.layers, images.dims(), parameters)?;
    let mut buffers = network.buffers.take(images.dims());
    let owned: Result<Vec<Tensor>> = parameters.iter().map(|p| p.contiguous()).collect();
    let owned = owned?;
    let parameters: Result<Vec<Values<'_>>> =
        owned.iter().map(|p| Values::of(p, "network")).collect();
    let (parameters, pixels) = (parameters?, Values::of(&images, "network")?);
    let readers = Readers::of(&plan);
    let mut values: Vec<Vec<f32>> = vec![Vec::new(); plan.layers.len()];
    for (index, layer) in plan.layers.iter().enumerate() {
        if readers.is_computed_by_reader(&plan, index) {
            continue;
        }
        let mut out = match layer {
            Layer::Images => continue,
            _ => buffers.take(plan.len(index)),
        };
        let given = |layer: usize| if layer == 0 { &*pixels } else { values[layer].as_slice() };
        match *layer {
            Layer::Images => {}
            Layer::Conv2d { input, weight, .. } => {
                let geometry = plan.geometry(index)?;
                let weight = &parameters[weight];
                conv2d::forward(geometry, given(input), weight, &mut out, Finish::OVERWRITE);
            }
            Layer::BatchNorm { input, residual, relu, epsilon, weight, statistics: of } => {
                let (mean, variance) = statistics[of];
                let channels = [plan.maps[index].channels];
                if mean.dims() != channels || variance.dims() != channels {
                    let got = [mean.dims(), variance.dims()];
                    bail!("network: statistics of shapes {got:?} for {channels:?} channels")
                }
                let wide = |tensor: &Tensor| -> Result<Vec<f64>> {
                    Ok(tensor.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
                };
                let (gain, bias) = (&parameters[weight], &parameters[weight + 1]);
                let affine = Affine::new(gain, bias, &wide(mean)?, &wide(variance)?, epsilon);
                match plan.layers[input] {
                    Layer::Conv2d { input: before, weight, .. }
                        if readers.is_computed_by_reader(&plan, input) =>
                    {
                        let finish = Finish {
                            start: residual.map_or(Start::Zero, |r| Start::Other(given(r))),
                            affine: Some(&affine),
                            relu,
                        };
                        let geometry = plan.geometry(input)?;
                        let weight = &parameters[weight];
                        conv2d::forward(geometry, given(before), weight, &mut out, finish);
                    }
                    _ => affine.apply(given(input), residual.map(given), relu, &mut out),
                }
            }
            Layer::MaxPool2d { input, .. } => {
                let (window, channels) = (plan.window(index)?, plan.maps[index].channels);
                max_pool2d_forward(given(input), &mut out, None, window, channels);
            }
            Layer::GlobalAveragePool { input } => {
                let channels = plan.maps[index].channels;
                global_average_pool_forward(given(input), &mut out, channels);
            }
        }
        values[index] = out;
        for read in readers.last_read_by(index) {
            buffers.give(std::mem::take(&mut values[*read]));
        }
    }
    let result = values.pop();
    network.buffers.give(buffers);
    match result {
        Some(result) if plan.layers.len() > 1 => {
            Tensor::from_vec(result, plan.result(), images.device())
        }
        _ => Ok(images.detach()),
    }
}

/// Who reads the layers' maps.
struct Readers {
    count: Vec<usize>,
    only_reader: Vec<usize>,
    /// By reader: the layers that nothing reads after it.
    last_read: Vec<Vec<usize>>,
}

impl Readers {
    fn of(plan: &Plan) -> Self {
        let n_layers = plan.layers.len();
        let (mut count, mut only_reader) = (vec![0; n_layers], vec![0; n_layers]);
        for (index, layer) in plan.layers.iter().enumerate() {
            for input in layer.inputs() {
                count[input] += 1;
                only_reader[input] = index;
            }
        }
        let mut readers = Self { count, only_reader, last_read: vec![Vec::new(); n_layers] };
        // Indices rise with time, so the last to be noted is the last reader.
        let mut last: Vec<Option<usize>> = vec![None; n_layers];
        for (index, layer) in plan.layers.iter().enumerate() {
            for input in layer.inputs() {
                if readers.is_computed_by_reader(plan, input) {
                    // The convolution is computed by this layer, and so its input read by it.
                    plan.layers[input].inputs().for_each(|before| last[before] = Some(index));
                } else {
                    last[input] = Some(index);
                }
            }
        }
        for (layer, reader) in last.into_iter().enumerate() {
            if let Some(reader) = reader {
                readers.last_read[reader].push(layer);
            }
        }
        readers
    }

    /// Whether a layer is a convolution that only a batch normalization reads.
    fn is_computed_by_reader(&self, plan: &Plan, layer: usize) -> bool {
        let reader = plan.layers[self.only_reader[layer]];
        matches!(plan.layers[layer], Layer::Conv2d { .. })
            && self.count[layer] == 1
            && matches!(reader, Layer::BatchNorm { input, residual, .. }
                if input == layer && residual != Some(layer))
    }

    fn last_read_by(&self, layer: usize) -> &[usize] {
        &self.last_read[layer]
    }
}
