//! From the result's gradient to those of the parameters and the images.

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::buffers::Buffers;
use super::forward::Tape;
use super::plan::Layer;
use crate::batch_norm::affine::Mask;
use crate::batch_norm::passes::Backward;
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
    let n_layers = tape.plan.layers.len();
    let mut gradients = vec![None; n_layers];
    let mut of_result = buffers.take(gradient.len());
    of_result.copy_from_slice(gradient);
    gradients[n_layers - 1] = Some(of_result);
    let of_parameters = vec![None; parameters.len()];
    let mut pass = Pass { tape, images, parameters, wanted, buffers, gradients, of_parameters };
    for layer in (1..n_layers).rev() {
        // A layer without a gradient is one that nothing reads.
        if let Some(gradient) = pass.gradients[layer].take() {
            pass.layer(layer, gradient)?;
        }
        // Whatever reads this layer came before, on the way back.
        pass.buffers.give(std::mem::take(&mut pass.tape.values[layer]));
    }
    let of_images = pass.gradients[0].take();
    if wanted.images && of_images.is_none() {
        bail!("network: nothing reads the images")
    }
    Ok(Gradients { images: of_images, parameters: pass.of_parameters })
}

struct Pass<'a> {
    tape: Tape,
    images: &'a [f32],
    parameters: &'a [Values<'a>],
    wanted: &'a Wanted,
    buffers: &'a mut Buffers,
    /// Of what each layer gives, as far as its readers have been passed.
    gradients: Vec<Option<Vec<f32>>>,
    of_parameters: Vec<Option<Vec<f32>>>,
}

impl Pass<'_> {
    /// From the gradient of what a layer gives to those of what it reads.
    fn layer(&mut self, index: usize, gradient: Vec<f32>) -> Result<()> {
        match self.tape.plan.layers[index] {
            Layer::Images => Ok(()),
            Layer::Conv2d { input, weight, .. } => self.convolution(index, input, weight, gradient),
            Layer::BatchNorm { .. } => {
                self.normalization(index, gradient);
                Ok(())
            }
            Layer::MaxPool2d { input, .. } => {
                let mut of_input = self.buffers.take(self.tape.plan.len(input));
                let window = self.tape.plan.window(index)?;
                let channels = self.tape.plan.maps[index].channels;
                let winners = &self.tape.winners[index];
                max_pool2d_backward(winners, &gradient, &mut of_input, window, channels);
                self.add(input, of_input);
                self.buffers.give(gradient);
                Ok(())
            }
            Layer::GlobalAveragePool { input } => {
                let mut of_input = self.buffers.take(self.tape.plan.len(input));
                let channels = self.tape.plan.maps[index].channels;
                global_average_pool_backward(&gradient, &mut of_input, channels);
                self.add(input, of_input);
                self.buffers.give(gradient);
                Ok(())
            }
        }
    }

    fn convolution(
        &mut self,
        index: usize,
        input: usize,
        weight: usize,
        gradient: Vec<f32>,
    ) -> Result<()> {
        let geometry = self.tape.plan.geometry(index)?;
        if self.wanted.parameters[weight] {
            let maps = given(&self.tape, self.images, input);
            self.of_parameters[weight] = Some(conv2d::weight_gradient(geometry, maps, &gradient));
        }
        if self.is_wanted(input) {
            let (mut of_input, finish) = match self.gradients[input].take() {
                Some(sum) => (sum, Finish::ADD),
                None => (self.buffers.take(self.tape.plan.len(input)), Finish::OVERWRITE),
            };
            let weight = &self.parameters[weight];
            conv2d::input_gradient(geometry, weight, &gradient, &mut of_input, finish);
            self.gradients[input] = Some(of_input);
        }
        self.buffers.give(gradient);
        Ok(())
    }

    fn normalization(&mut self, index: usize, mut gradient: Vec<f32>) {
        let Layer::BatchNorm { input, residual, relu, epsilon, weight, statistics } =
            self.tape.plan.layers[index]
        else {
            return;
        };
        let backward = Backward {
            maps: given(&self.tape, self.images, input),
            weight: &self.parameters[weight],
            moments: &self.tape.moments[statistics],
            epsilon,
            is_from_batch: true,
            mask: match (relu, residual) {
                (false, _) => Mask::Open,
                (true, None) => Mask::Affine(&self.tape.affines[statistics]),
                (true, Some(_)) => Mask::Result(&self.tape.values[index]),
            },
        };
        let sums = backward.parameters(&mut gradient);
        // Without a residual, nothing else needs the gradient: it becomes the input's in place.
        let (of_input, of_residual) = if residual.is_some() {
            let mut of_input = self.buffers.take(gradient.len());
            backward.maps(&sums, &mut gradient, Some(&mut of_input));
            (of_input, Some(gradient))
        } else {
            backward.maps(&sums, &mut gradient, None);
            (gradient, None)
        };
        for (parameter, sums) in [(weight, sums.weight), (weight + 1, sums.bias)] {
            if self.wanted.parameters[parameter] {
                let sums = sums.iter().map(|&sum| sum as f32).collect();
                self.of_parameters[parameter] = Some(sums);
            }
        }
        self.add(input, of_input);
        if let (Some(residual), Some(of_residual)) = (residual, of_residual) {
            self.add(residual, of_residual);
        }
    }

    /// Whether the gradient of what a layer gives is of use.
    fn is_wanted(&self, layer: usize) -> bool {
        layer != 0 || self.wanted.images
    }

    /// Adds to what other readers of the same maps gave.
    fn add(&mut self, layer: usize, values: Vec<f32>) {
        if !self.is_wanted(layer) {
            return self.buffers.give(values);
        }
        match &mut self.gradients[layer] {
            None => self.gradients[layer] = Some(values),
            Some(sum) => {
                let blocks = sum.par_chunks_mut(BLOCK_VALUES).zip(values.par_chunks(BLOCK_VALUES));
                blocks.for_each(|(sum, values)| {
                    for (sum, value) in sum.iter_mut().zip(values) {
                        *sum += value;
                    }
                });
                self.buffers.give(values);
            }
        }
    }
}

/// What a layer gave on the way forth.
fn given<'a>(tape: &'a Tape, images: &'a [f32], layer: usize) -> &'a [f32] {
    if layer == 0 { images } else { &tape.values[layer] }
}
