//! The passes of a network's layers on a GPU.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{Result, bail};

use super::linear;
use super::operations::{self, Left};
use super::room::Room;
use super::sizes::Sizes;
use crate::batch_norm::launch::{
    Affine, Coefficients, Parameters, Rows, Scratch, Statistics, apply, moments,
};
use crate::cuda::library::{Convolution, Finish, Library, Operands, Pass};
use crate::cuda::maps::{self, Channels};
use crate::cuda::stored::Stored;
use crate::cuda::{Memory, Pointer};
use crate::global_average_pool::launch::Averaging;
use crate::max_pool2d::launch::Pooling;
use crate::network::backward::Wanted;
use crate::network::buffers::Buffers;
use crate::network::passes::{Passes, Step};
use crate::network::plan::{Kernel, Normalization, Plan};

/// A GPU on its way over a network, whose maps are of type `T`.
pub(super) struct OnGpu<'a, G: Library, T: Stored> {
    pub(super) gpu: &'a G,
    pub(super) sizes: &'a Sizes<'a>,
    pub(super) parameters: &'a [Pointer<f32>],
    /// Of all convolutions, in their order on the device.
    pub(super) weights: Pointer<T>,
    pub(super) rounds_factors: bool,
    pub(super) scratch: Scratch,
    pub(super) norms: Norms<'a, T>,
    /// Whether the gradient of a parameter is wanted and there, on the way back.
    pub(super) has_gradient: Vec<bool>,
    pub(super) buffers: &'a mut Buffers<Memory<G, u8>>,
}

/// What normalizations read or write beside the maps.
#[derive(Clone, Copy)]
pub(super) enum Norms<'a, T> {
    /// Mean and unbiased variance of the batch are written here.
    OfBatch(Pointer<f32>),
    /// Scale and shift are read from here; the shifts also in the type of the maps.
    Known(Pointer<f32>, Pointer<T>),
    /// On the way back.
    Gradients(Gradients<'a, T>),
}

/// Where the gradients of parameters go.
#[derive(Clone, Copy)]
pub(super) struct Gradients<'a, T> {
    pub(super) wanted: &'a Wanted,
    pub(super) of_parameters: Pointer<f32>,
    /// Of all convolutions' weights, in their order on the device.
    pub(super) of_weights: Pointer<T>,
}

impl<T> Gradients<'_, T> {
    /// Of a parameter; null where nobody wants it.
    pub(super) fn of(&self, sizes: &Sizes<'_>, parameter: usize) -> Pointer<f32> {
        if self.wanted.parameters[parameter] {
            self.of_parameters.offset(sizes.parameters[parameter])
        } else {
            Pointer::NULL
        }
    }
}

impl<'a, G: Library, T: Stored> OnGpu<'a, G, T> {
    /// Room for values of a type that is not the maps'.
    pub(super) fn room_for<V>(&mut self, len: usize) -> Result<Room<G>> {
        self.buffers.room::<V>(self.gpu, len)
    }

    /// A weight among those of all convolutions, or its gradient.
    pub(super) fn weight_of(&self, all: Pointer<T>, parameter: usize) -> Result<Pointer<T>> {
        match self.sizes.weight(parameter, Pointer::NULL, all) {
            Some(weight) => Ok(weight.stored),
            None => bail!("network: parameter {parameter} is no convolution's"),
        }
    }

    fn pass(&self, layer: usize, pass: Pass, adds: bool) -> Result<Convolution> {
        let geometry = self.sizes.geometry(layer)?;
        Ok(Convolution { geometry, pass, adds, rounds_factors: self.rounds_factors })
    }

    pub(super) fn convolve(
        &self,
        layer: usize,
        pass: Pass,
        adds: bool,
        [maps, weight, output]: [Pointer<T>; 3],
    ) -> Result<()> {
        let convolution = self.pass(layer, pass, adds)?;
        let operands = Operands { maps, weight, output };
        // SAFETY: all three were allocated for the plan's shapes, as the geometry is.
        unsafe {
            match linear::product(&convolution, operands) {
                Some(product) => self.gpu.multiply(&product),
                None => self.gpu.convolve(&convolution, operands),
            }
        }
    }

    fn norm_parameters(&self, norm: &Normalization) -> Parameters {
        Parameters { weight: self.parameters[norm.weight], bias: self.parameters[norm.bias()] }
    }

    /// A normalization by what is known of each channel.
    fn apply(
        &self,
        layer: usize,
        affine: Affine,
        relu: bool,
        [maps, residual, out]: [Pointer<T>; 3],
    ) -> Result<()> {
        // SAFETY: maps were allocated for the layer's shape, the affine map for its channels.
        unsafe { apply(self.gpu, [maps, residual, out], self.sizes.rows(layer), affine, relu) }
    }

    /// What is known of a normalization: scale and shift, and the shift in the type of the maps.
    fn known(&self, layer: usize, norm: &Normalization) -> Result<(Affine, Pointer<T>)> {
        let Norms::Known(affines, stored) = self.norms else {
            bail!("network: no statistics are known in this pass")
        };
        let (start, channels) =
            (self.sizes.norms[norm.statistics], self.sizes.plan.maps[layer].channels);
        let scale = affines.offset(start);
        let affine = Affine { scale, shift: scale.offset(channels) };
        Ok((affine, stored.offset(start + channels)))
    }

    pub(super) fn gradients(&self) -> Result<Gradients<'a, T>> {
        match self.norms {
            Norms::Gradients(gradients) => Ok(gradients),
            _ => bail!("network: this is no way back"),
        }
    }

    pub(super) fn pooling(&self, layer: usize) -> Result<Pooling<'_>> {
        let plan = self.sizes.plan;
        let (window, channels) = (plan.window(layer)?, plan.maps[layer].channels);
        Ok(Pooling { batch: plan.batch, window, channels })
    }

    pub(super) fn averaging(&self, input: usize) -> Averaging {
        let (plan, map) = (self.sizes.plan, self.sizes.plan.maps[input]);
        Averaging { batch: plan.batch, pixels: map.pixels(), channels: map.channels }
    }

    fn pool(
        &self,
        layer: usize,
        maps: &Room<G>,
        out: &Room<G>,
        winners: Pointer<u8>,
    ) -> Result<()> {
        let (maps, out) = (maps.pointer::<T>(), out.pointer::<T>());
        // SAFETY: all were allocated for the plan's shapes.
        unsafe { self.pooling(layer)?.forward(self.gpu, maps, out, winners) }
    }
}

impl<G: Library, T: Stored> Passes for OnGpu<'_, G, T> {
    type Maps = Room<G>;
    /// Its [`Coefficients`].
    type Norm = Room<G>;
    type Winners = Room<G>;
    type Kept = Left<G>;

    fn plan(&self) -> &Plan {
        self.sizes.plan
    }

    fn room(&mut self, layer: usize) -> Result<Room<G>> {
        let len = self.sizes.len(layer);
        match self.sizes.is_float(layer) {
            true if layer == self.sizes.last() => Ok(Room::Result(self.gpu.allocate(len)?)),
            true => self.room_for::<f32>(len),
            false => self.room_for::<T>(len),
        }
    }

    fn give(&mut self, maps: Room<G>) {
        self.buffers.put(maps);
    }

    fn convolution(
        &mut self,
        layer: usize,
        kernel: Kernel,
        maps: &Room<G>,
        residual: Option<&Room<G>>,
        out: &mut Room<G>,
    ) -> Result<()> {
        let weight = self.weight_of(self.weights, kernel.weight)?;
        self.convolve(layer, Pass::Forward, false, [maps.pointer(), weight, out.pointer()])?;
        let (sums, residual) = (out.pointer::<T>(), residual.map(Room::pointer::<T>));
        match (kernel.bias(), residual) {
            (Some(bias), residual) => {
                let affine = Affine { scale: Pointer::NULL, shift: self.parameters[bias] };
                let operands = [sums, residual.unwrap_or(Pointer::NULL), sums];
                self.apply(layer, affine, false, operands)
            }
            // SAFETY: both were allocated for the layer's shape.
            (None, Some(residual)) => unsafe {
                maps::add(self.gpu, sums, residual, self.sizes.len(layer))
            },
            (None, None) => Ok(()),
        }
    }

    fn normalization(
        &mut self,
        layer: usize,
        norm: &Normalization,
        maps: &Room<G>,
        residual: Option<&Room<G>>,
        out: &mut Room<G>,
    ) -> Result<Room<G>> {
        let Norms::OfBatch(statistics) = self.norms else {
            bail!("network: no statistics are taken in this pass")
        };
        let shape @ Rows { channels, .. } = self.sizes.rows(layer);
        let mean = statistics.offset(self.sizes.norms[norm.statistics]);
        let statistics = Statistics { mean, variance: mean.offset(channels) };
        let room = self.room_for::<f32>(Coefficients::PARTS * channels)?;
        let coefficients = Coefficients { all: room.pointer(), channels };
        let (parameters, epsilon) = (self.norm_parameters(norm), norm.epsilon);
        let (gpu, scratch, pointer) = (self.gpu, self.scratch, maps.pointer::<T>());
        // SAFETY: everything was allocated for the layer's shape or its channels, and the scratch
        // for the largest layer.
        unsafe {
            moments(gpu, pointer, shape, parameters, epsilon, scratch, coefficients, statistics)?;
        }
        let residual = residual.map_or(Pointer::NULL, Room::pointer);
        let operands = [maps.pointer(), residual, out.pointer()];
        self.apply(layer, coefficients.affine(), norm.relu, operands)?;
        Ok(room)
    }

    fn known_normalization(
        &mut self,
        layer: usize,
        norm: &Normalization,
        maps: &Room<G>,
        residual: Option<&Room<G>>,
        out: &mut Room<G>,
    ) -> Result<()> {
        let residual = residual.map_or(Pointer::NULL, Room::pointer);
        let operands = [maps.pointer(), residual, out.pointer()];
        self.apply(layer, self.known(layer, norm)?.0, norm.relu, operands)
    }

    /// The weight has the normalization's scale in it already.
    fn normalized_convolution(
        &mut self,
        (layer, weight): (usize, usize),
        norm: &Normalization,
        maps: &Room<G>,
        residual: Option<&Room<G>>,
        out: &mut Room<G>,
    ) -> Result<()> {
        let (Affine { shift, .. }, bias) = self.known(layer, norm)?;
        let residual = residual.map_or(Pointer::NULL, Room::pointer);
        let of_weight = self.weight_of(self.weights, weight)?;
        let convolution = self.pass(layer, Pass::Forward, false)?;
        let operands =
            Operands { maps: maps.pointer(), weight: of_weight, output: out.pointer::<T>() };
        let finish = Finish { bias, residual, relu: norm.relu };
        // SAFETY: all were allocated for the plan's shapes, as the geometry is.
        if unsafe { self.gpu.convolve_finished(&convolution, operands, finish)? } {
            return Ok(());
        }
        self.convolution(layer, Kernel { weight, has_bias: false }, maps, None, out)?;
        let affine = Affine { scale: Pointer::NULL, shift };
        self.apply(layer, affine, norm.relu, [out.pointer(), residual, out.pointer()])
    }

    fn max_pool(&mut self, layer: usize, maps: &Room<G>, out: &mut Room<G>) -> Result<Room<G>> {
        let winners = self.room_for::<u8>(self.sizes.len(layer))?;
        self.pool(layer, maps, out, winners.pointer())?;
        Ok(winners)
    }

    fn known_max_pool(&mut self, layer: usize, maps: &Room<G>, out: &mut Room<G>) -> Result<()> {
        self.pool(layer, maps, out, Pointer::NULL)
    }

    fn global_average_pool(
        &mut self,
        layer: usize,
        input: usize,
        maps: &Room<G>,
        out: &mut Room<G>,
    ) -> Result<()> {
        let (gpu, averaging, maps) = (self.gpu, self.averaging(input), maps.pointer::<T>());
        if self.sizes.is_float(layer) {
            // SAFETY: both were allocated for the plan's shapes.
            return unsafe { averaging.forward(gpu, maps, out.pointer()) };
        }
        let len = self.sizes.len(layer);
        let means = self.room_for::<f32>(len)?;
        // SAFETY: as above.
        unsafe {
            averaging.forward(gpu, maps, means.pointer())?;
            let (means, out) = (means.pointer(), out.pointer::<T>());
            maps::store(gpu, means, out, Channels::same(len))?;
        }
        self.give(means);
        Ok(())
    }

    fn operation(
        &mut self,
        layer: usize,
        step: Step,
        maps: &Room<G>,
        other: Option<&Room<G>>,
        out: &mut Room<G>,
    ) -> Result<Left<G>> {
        operations::forward(self, layer, step, maps, other, out)
    }
}
