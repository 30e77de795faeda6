//! The way back over a network's layers on a GPU.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use super::on_gpu::OnGpu;
use super::operations::{self, Left};
use super::room::Room;
use crate::batch_norm::launch::{Backward, Coefficients, Mask, Parameters, Rows};
use crate::conv2d;
use crate::cuda::library::{Library, Pass};
use crate::cuda::maps::{self, Channels};
use crate::cuda::stored::Stored;
use crate::network::passes::{BackwardPasses, Into, Passes, Step};
use crate::network::plan::Normalization;

impl<G: Library, T: Stored> BackwardPasses for OnGpu<'_, G, T> {
    fn weight_gradient(
        &mut self,
        layer: usize,
        weight: usize,
        maps: &Room<G>,
        gradient: &Room<G>,
    ) -> Result<()> {
        let of_weight = self.weight_of(self.gradients()?.of_weights, weight)?;
        let operands = [maps.pointer(), of_weight, gradient.pointer()];
        self.convolve(layer, Pass::WeightGradient, false, operands)?;
        self.has_gradient[weight] = true;
        Ok(())
    }

    fn bias_gradient(&mut self, layer: usize, bias: usize, gradient: &Room<G>) -> Result<()> {
        let (shape, above) = (self.sizes.rows(layer), gradient.pointer::<T>());
        let to = self.gradients()?.of(self.sizes, bias);
        // SAFETY: everything was allocated for the layer's shape or its channels, and the scratch
        // for the largest layer.
        unsafe { conv2d::bias::bias_gradient(self.gpu, above, shape, self.scratch, to)? };
        self.has_gradient[bias] = true;
        Ok(())
    }

    fn input_gradient(
        &mut self,
        layer: usize,
        weight: usize,
        gradient: &Room<G>,
        to: Into<'_, Room<G>>,
    ) -> Result<()> {
        let (out, adds) = match to {
            Into::Room(room) => (room, false),
            Into::Sum(sum) => (sum, true),
        };
        let weight = self.weight_of(self.weights, weight)?;
        let operands = [out.pointer(), weight, gradient.pointer()];
        self.convolve(layer, Pass::InputGradient, adds, operands)
    }

    fn normalization_gradient(
        &mut self,
        layer: usize,
        norm: &Normalization,
        kept: Room<G>,
        maps: &Room<G>,
        result: &Room<G>,
        gradient: Room<G>,
    ) -> Result<(Room<G>, Option<Room<G>>)> {
        let shape @ Rows { channels, .. } = self.sizes.rows(layer);
        let coefficients = Coefficients { all: kept.pointer(), channels };
        let gradients = self.gradients()?;
        let backward = Backward {
            maps: maps.pointer::<T>(),
            shape,
            weight: self.parameters[norm.weight],
            coefficients: coefficients.all,
            is_from_batch: true,
            mask: match (norm.relu, norm.has_residual) {
                (false, _) => Mask::Open,
                (true, false) => Mask::Affine(coefficients.affine()),
                (true, true) => Mask::Result(result.pointer()),
            },
        };
        let into = Parameters {
            weight: gradients.of(self.sizes, norm.weight),
            bias: gradients.of(self.sizes, norm.bias()),
        };
        let line = self.room_for::<f32>(Backward::<T>::line_len(shape))?;
        // Without a residual, nothing else needs the gradient: it becomes the input's in place.
        let of_input =
            norm.has_residual.then(|| self.room_for::<T>(self.sizes.len(layer))).transpose()?;
        let to = of_input.as_ref().unwrap_or(&gradient).pointer();
        let (gpu, above) = (self.gpu, gradient.pointer());
        // SAFETY: everything was allocated for the layer's shape or its channels, and the scratch
        // for the largest layer.
        unsafe {
            backward.parameters(gpu, above, self.scratch, into, line.pointer())?;
            backward.maps(gpu, above, line.pointer(), to)?;
        }
        for parameter in [norm.weight, norm.bias()] {
            self.has_gradient[parameter] = gradients.wanted.parameters[parameter];
        }
        self.give(line);
        self.give(kept);
        Ok(match of_input {
            Some(of_input) => (of_input, Some(gradient)),
            None => (gradient, None),
        })
    }

    fn max_pool_gradient(
        &mut self,
        layer: usize,
        winners: Room<G>,
        gradient: &Room<G>,
        out: &mut Room<G>,
    ) -> Result<()> {
        let (above, to) = (gradient.pointer::<T>(), out.pointer::<T>());
        // SAFETY: all were allocated for the plan's shapes.
        unsafe { self.pooling(layer)?.backward(self.gpu, winners.pointer(), above, to)? };
        self.give(winners);
        Ok(())
    }

    fn global_average_pool_gradient(
        &mut self,
        layer: usize,
        input: usize,
        gradient: &Room<G>,
        out: &mut Room<G>,
    ) -> Result<()> {
        let (gpu, averaging, to) = (self.gpu, self.averaging(input), out.pointer::<T>());
        if self.sizes.is_float(layer) {
            // SAFETY: both were allocated for the plan's shapes.
            return unsafe { averaging.backward(gpu, gradient.pointer(), to) };
        }
        let len = self.sizes.len(layer);
        let above = self.room_for::<f32>(len)?;
        // SAFETY: as above.
        unsafe {
            let from = gradient.pointer::<T>();
            maps::load(gpu, from, above.pointer(), Channels::same(len))?;
            averaging.backward(gpu, above.pointer(), to)?;
        }
        self.give(above);
        Ok(())
    }

    fn operation_gradient(
        &mut self,
        layer: usize,
        step: Step,
        kept: Left<G>,
        maps: &Room<G>,
        other: Option<&Room<G>>,
        gradient: Room<G>,
    ) -> Result<(Room<G>, Option<Room<G>>)> {
        operations::backward(self, layer, step, kept, (maps, other), gradient)
    }

    fn add(&mut self, layer: usize, sum: &mut Room<G>, gradient: &Room<G>) -> Result<()> {
        let (sum, gradient) = (sum.pointer::<T>(), gradient.pointer::<T>());
        // SAFETY: both were allocated for the layer's shape.
        unsafe { maps::add(self.gpu, sum, gradient, self.sizes.len(layer)) }
    }
}
