//! The passes of a network's layers on the CPU.

mod operations;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::buffers::Buffers;
use super::forward::Tape;
use super::operation::Operation;
use super::passes::{BackwardPasses, Into, Passes, Step};
use super::plan::{Kernel, Normalization, Plan};
use crate::batch_norm::affine::{Affine, Mask};
use crate::batch_norm::passes::{Backward, Moments};
use crate::conv2d;
use crate::global_average_pool::{global_average_pool_backward, global_average_pool_forward};
use crate::max_pool2d::cpu::{max_pool2d_backward, max_pool2d_forward};
use crate::product::{Finish, Start};
use crate::values::{Values, row_sums};

/// Values that one thread adds at a time.
const BLOCK_VALUES: usize = 64 * 1024;

/// A CPU on its way over a network.
pub(super) struct Cpu<'a> {
    plan: &'a Plan,
    parameters: &'a [Values<'a>],
    statistics: &'a [(&'a Tensor, &'a Tensor)],
    buffers: &'a mut Buffers<Vec<f32>>,
    /// Of the parameters, as far as the way back has come.
    pub(super) gradients: Vec<Option<Vec<f32>>>,
}

/// What a pass that learns keeps for the way back.
pub(super) type CpuTape = Tape<Vec<f32>, OfBatch, Vec<u8>, Vec<f32>>;

/// What normalizes by the statistics of a batch.
pub(super) struct OfBatch {
    pub(super) moments: Moments,
    affine: Affine,
}

impl<'a> Cpu<'a> {
    /// The statistics are mean and variance of each normalization, where they are known.
    pub(super) fn new(
        plan: &'a Plan,
        parameters: &'a [Values<'a>],
        statistics: &'a [(&'a Tensor, &'a Tensor)],
        buffers: &'a mut Buffers<Vec<f32>>,
    ) -> Self {
        let gradients = vec![None; parameters.len()];
        Self { plan, parameters, statistics, buffers, gradients }
    }

    /// Room with values in it.
    pub(super) fn copy(&mut self, values: &[f32]) -> Vec<f32> {
        let mut copy = self.buffers.take(values.len());
        copy.copy_from_slice(values);
        copy
    }

    /// By known statistics.
    fn affine(&self, norm: &Normalization) -> Result<Affine> {
        let (mean, variance) = self.statistics[norm.statistics];
        let wide = |tensor: &Tensor| -> Result<Vec<f64>> {
            Ok(tensor.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
        };
        let (weight, bias) = (&self.parameters[norm.weight], &self.parameters[norm.bias()]);
        Ok(Affine::new(weight, bias, &wide(mean)?, &wide(variance)?, norm.epsilon))
    }

    fn channels(&self, layer: usize) -> usize {
        self.plan.maps[layer].channels
    }
}

impl Passes for Cpu<'_> {
    type Maps = Vec<f32>;
    type Norm = OfBatch;
    type Winners = Vec<u8>;
    type Kept = Vec<f32>;

    fn plan(&self) -> &Plan {
        self.plan
    }

    fn room(&mut self, layer: usize) -> Result<Vec<f32>> {
        Ok(self.buffers.take(self.plan.len(layer)))
    }

    fn give(&mut self, maps: Vec<f32>) {
        self.buffers.give(maps);
    }

    fn convolution(
        &mut self,
        layer: usize,
        kernel: Kernel,
        maps: &Vec<f32>,
        residual: Option<&Vec<f32>>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let bias = kernel.bias().map(|bias| Affine::shift(&self.parameters[bias]));
        let finish = Finish { start: start(residual), affine: bias.as_ref(), relu: false };
        let weight = &self.parameters[kernel.weight];
        conv2d::forward(self.plan.geometry(layer)?, maps, weight, out, finish);
        Ok(())
    }

    fn normalization(
        &mut self,
        layer: usize,
        norm: &Normalization,
        maps: &Vec<f32>,
        residual: Option<&Vec<f32>>,
        out: &mut Vec<f32>,
    ) -> Result<OfBatch> {
        let moments = Moments::of(maps, self.channels(layer));
        let (weight, bias) = (&self.parameters[norm.weight], &self.parameters[norm.bias()]);
        let affine = Affine::new(weight, bias, &moments.mean, &moments.variance, norm.epsilon);
        affine.apply(maps, residual.map(Vec::as_slice), norm.relu, out);
        Ok(OfBatch { moments, affine })
    }

    fn known_normalization(
        &mut self,
        _layer: usize,
        norm: &Normalization,
        maps: &Vec<f32>,
        residual: Option<&Vec<f32>>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        self.affine(norm)?.apply(maps, residual.map(Vec::as_slice), norm.relu, out);
        Ok(())
    }

    /// The normalization is applied to the convolution's sums before they are written.
    fn normalized_convolution(
        &mut self,
        (layer, weight): (usize, usize),
        norm: &Normalization,
        maps: &Vec<f32>,
        residual: Option<&Vec<f32>>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let affine = self.affine(norm)?;
        let finish = Finish { start: start(residual), affine: Some(&affine), relu: norm.relu };
        conv2d::forward(self.plan.geometry(layer)?, maps, &self.parameters[weight], out, finish);
        Ok(())
    }

    /// The activation follows the convolution part by part.
    fn activated_convolution(
        &mut self,
        (convolution, kernel): (usize, Kernel),
        (layer, step): (usize, Step),
        maps: &Vec<f32>,
        residual: Option<&Vec<f32>>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let Operation::Activation(activation) = step.operation else {
            bail!("network: layer {layer} is no activation")
        };
        let bias = kernel.bias().map(|bias| Affine::shift(&self.parameters[bias]));
        let finish = Finish { start: start(residual), affine: bias.as_ref(), relu: false };
        let (geometry, weight) =
            (self.plan.geometry(convolution)?, &self.parameters[kernel.weight]);
        conv2d::forward_activated(geometry, maps, weight, out, finish, activation);
        Ok(())
    }

    fn max_pool(&mut self, layer: usize, maps: &Vec<f32>, out: &mut Vec<f32>) -> Result<Vec<u8>> {
        let mut winners = vec![0; out.len()];
        let window = self.plan.window(layer)?;
        max_pool2d_forward(maps, out, Some(&mut winners), window, self.channels(layer));
        Ok(winners)
    }

    fn known_max_pool(&mut self, layer: usize, maps: &Vec<f32>, out: &mut Vec<f32>) -> Result<()> {
        max_pool2d_forward(maps, out, None, self.plan.window(layer)?, self.channels(layer));
        Ok(())
    }

    fn global_average_pool(
        &mut self,
        layer: usize,
        _input: usize,
        maps: &Vec<f32>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        global_average_pool_forward(maps, out, self.channels(layer));
        Ok(())
    }

    fn operation(
        &mut self,
        layer: usize,
        step: Step,
        maps: &Vec<f32>,
        other: Option<&Vec<f32>>,
        out: &mut Vec<f32>,
    ) -> Result<Vec<f32>> {
        operations::forward(self, layer, step, maps, other, out)
    }
}

fn start(residual: Option<&Vec<f32>>) -> Start<'_> {
    residual.map_or(Start::Zero, |residual| Start::Other(residual))
}

impl BackwardPasses for Cpu<'_> {
    fn weight_gradient(
        &mut self,
        layer: usize,
        weight: usize,
        maps: &Vec<f32>,
        gradient: &Vec<f32>,
    ) -> Result<()> {
        let of_weight = conv2d::weight_gradient(self.plan.geometry(layer)?, maps, gradient);
        self.gradients[weight] = Some(of_weight);
        Ok(())
    }

    fn bias_gradient(&mut self, layer: usize, bias: usize, gradient: &Vec<f32>) -> Result<()> {
        self.gradients[bias] = Some(row_sums(gradient, self.channels(layer)));
        Ok(())
    }

    fn input_gradient(
        &mut self,
        layer: usize,
        weight: usize,
        gradient: &Vec<f32>,
        to: Into<'_, Vec<f32>>,
    ) -> Result<()> {
        let (out, finish) = match to {
            Into::Room(room) => (room, Finish::OVERWRITE),
            Into::Sum(sum) => (sum, Finish::ADD),
        };
        let weight = &self.parameters[weight];
        conv2d::input_gradient(self.plan.geometry(layer)?, weight, gradient, out, finish);
        Ok(())
    }

    fn normalization_gradient(
        &mut self,
        _layer: usize,
        norm: &Normalization,
        kept: OfBatch,
        maps: &Vec<f32>,
        result: &Vec<f32>,
        mut gradient: Vec<f32>,
    ) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let backward = Backward {
            maps,
            weight: &self.parameters[norm.weight],
            moments: &kept.moments,
            epsilon: norm.epsilon,
            is_from_batch: true,
            mask: match (norm.relu, norm.has_residual) {
                (false, _) => Mask::Open,
                (true, false) => Mask::Affine(&kept.affine),
                (true, true) => Mask::Result(result),
            },
        };
        let sums = backward.parameters(&mut gradient);
        // Without a residual, nothing else needs the gradient: it becomes the input's in place.
        let gradients = if norm.has_residual {
            let mut of_input = self.buffers.take(gradient.len());
            backward.maps(&sums, &mut gradient, Some(&mut of_input));
            (of_input, Some(gradient))
        } else {
            backward.maps(&sums, &mut gradient, None);
            (gradient, None)
        };
        for (parameter, sums) in [(norm.weight, sums.weight), (norm.bias(), sums.bias)] {
            self.gradients[parameter] = Some(sums.iter().map(|&sum| sum as f32).collect());
        }
        Ok(gradients)
    }

    fn max_pool_gradient(
        &mut self,
        layer: usize,
        winners: Vec<u8>,
        gradient: &Vec<f32>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let window = self.plan.window(layer)?;
        max_pool2d_backward(&winners, gradient, out, window, self.channels(layer));
        Ok(())
    }

    fn global_average_pool_gradient(
        &mut self,
        layer: usize,
        _input: usize,
        gradient: &Vec<f32>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        global_average_pool_backward(gradient, out, self.channels(layer));
        Ok(())
    }

    fn operation_gradient(
        &mut self,
        layer: usize,
        step: Step,
        kept: Vec<f32>,
        maps: &Vec<f32>,
        other: Option<&Vec<f32>>,
        gradient: Vec<f32>,
    ) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        operations::backward(self, layer, step, &kept, (maps, other), gradient)
    }

    fn add(&mut self, _layer: usize, sum: &mut Vec<f32>, gradient: &Vec<f32>) -> Result<()> {
        add(sum, gradient);
        Ok(())
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    let blocks = sum.par_chunks_mut(BLOCK_VALUES).zip(values.par_chunks(BLOCK_VALUES));
    blocks.for_each(|(sum, values)| {
        for (sum, value) in sum.iter_mut().zip(values) {
            *sum += value;
        }
    });
}
