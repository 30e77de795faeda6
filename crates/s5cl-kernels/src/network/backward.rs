//! From the result's gradient to those of the parameters and the images.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::buffers::Buffers;
use super::forward::Tape;
use super::plan::Layer;
use crate::batch_norm::passes::{Backward, Mask};
use crate::conv2d;
use crate::global_average_pool::global_average_pool_backward;
use crate::max_pool2d::cpu::max_pool2d_backward;
use crate::product::Finish;
use crate::values::Values;

/// Values that one thread adds at a time.
const BLOCK_VALUES: usize = 64 * 1024;

/// Which gradients are wanted.
pub(super) struct Wanted {
    pub(super) images: bool,
    pub(super) parameters: Vec<bool>,
}

/// The gradients that were wanted.
pub(super) struct Gradients {
    pub(super) images: Option<Vec<f32>>,
    pub(super) parameters: Vec<Option<Vec<f32>>>,
}

/// The way back; each layer's values are given back as soon as nothing needs them.
pub(super) fn backward(
    tape: Tape,
    images: &[f32],
    parameters: &[Values<'_>],
    gradient: &[f32],
    wanted: &Wanted,
    buffers: &mut Buffers,
) -> Result<Gradients> {
    let Tape { plan, mut values, moments, affines, winners } = tape;
    let mut of_parameters: Vec<Option<Vec<f32>>> = vec![None; parameters.len()];
    let mut gradients: Vec<Option<Vec<f32>>> = vec![None; plan.layers.len()];
    if let Some(last) = gradients.last_mut() {
        let mut of_result = buffers.take(gradient.len());
        of_result.copy_from_slice(gradient);
        *last = Some(of_result);
    }
    for (index, layer) in plan.layers.iter().enumerate().rev() {
        if matches!(layer, Layer::Images) {
            continue;
        }
        let Some(mut of_layer) = gradients[index].take() else {
            // Nothing reads this layer.
            buffers.give(std::mem::take(&mut values[index]));
            continue;
        };
        let given = |layer: usize| if layer == 0 { images } else { values[layer].as_slice() };
        let is_wanted = |layer: usize| layer != 0 || wanted.images;
        match *layer {
            Layer::Images => {}
            Layer::Conv2d { input, weight, .. } => {
                let geometry = plan.geometry(index)?;
                if wanted.parameters[weight] {
                    let of_weight = conv2d::weight_gradient(geometry, given(input), &of_layer);
                    of_parameters[weight] = Some(of_weight);
                }
                if is_wanted(input) {
                    let (mut of_input, finish) = match gradients[input].take() {
                        Some(sum) => (sum, Finish::ADD),
                        None => (buffers.take(plan.len(input)), Finish::OVERWRITE),
                    };
                    let weight = &parameters[weight];
                    conv2d::input_gradient(geometry, weight, &of_layer, &mut of_input, finish);
                    gradients[input] = Some(of_input);
                }
                buffers.give(of_layer);
            }
            Layer::BatchNorm { input, residual, relu, epsilon, weight, statistics } => {
                let mask = match (relu, residual) {
                    (false, _) => Mask::Open,
                    (true, None) => Mask::Affine(&affines[statistics]),
                    (true, Some(_)) => Mask::Result(&values[index]),
                };
                let norm = Backward {
                    maps: given(input),
                    weight: &parameters[weight],
                    moments: &moments[statistics],
                    epsilon,
                    is_from_batch: true,
                    mask,
                };
                let sums = norm.parameters(&mut of_layer);
                let of_input = if residual.is_some() {
                    let mut of_input = buffers.take(plan.len(input));
                    norm.maps(&sums, &mut of_layer, Some(&mut of_input));
                    of_input
                } else {
                    norm.maps(&sums, &mut of_layer, None);
                    std::mem::take(&mut of_layer)
                };
                for (at, sums) in [(weight, sums.weight), (weight + 1, sums.bias)] {
                    if wanted.parameters[at] {
                        of_parameters[at] = Some(sums.iter().map(|&sum| sum as f32).collect());
                    }
                }
                add(&mut gradients[input], of_input, is_wanted(input), buffers);
                if let Some(residual) = residual {
                    add(&mut gradients[residual], of_layer, is_wanted(residual), buffers);
                }
            }
            Layer::MaxPool2d { input, .. } => {
                let mut of_input = buffers.take(plan.len(input));
                let (window, channels) = (plan.window(index)?, plan.maps[index].channels);
                max_pool2d_backward(&winners[index], &of_layer, &mut of_input, window, channels);
                add(&mut gradients[input], of_input, is_wanted(input), buffers);
                buffers.give(of_layer);
            }
            Layer::GlobalAveragePool { input } => {
                let mut of_input = buffers.take(plan.len(input));
                let channels = plan.maps[index].channels;
                global_average_pool_backward(&of_layer, &mut of_input, channels);
                add(&mut gradients[input], of_input, is_wanted(input), buffers);
                buffers.give(of_layer);
            }
        }
        // Whatever reads this layer came before, on the way back.
        buffers.give(std::mem::take(&mut values[index]));
    }
    let of_images = gradients.first_mut().and_then(Option::take);
    if wanted.images && of_images.is_none() {
        bail!("network: nothing reads the images")
    }
    Ok(Gradients { images: of_images, parameters: of_parameters })
}

/// Adds to what other readers of the same maps gave.
fn add(sum: &mut Option<Vec<f32>>, values: Vec<f32>, is_wanted: bool, buffers: &mut Buffers) {
    match sum {
        _ if !is_wanted => buffers.give(values),
        None => *sum = Some(values),
        Some(sum) => {
            let blocks = sum.par_chunks_mut(BLOCK_VALUES).zip(values.par_chunks(BLOCK_VALUES));
            blocks.for_each(|(sum, values)| {
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum += value;
                }
            });
            buffers.give(values);
        }
    }
}
