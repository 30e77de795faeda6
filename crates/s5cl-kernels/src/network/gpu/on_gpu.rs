//! What the passes of all layers share: the operands, and where each lies.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{Result, bail};

use super::linear;
use super::room::Room;
use super::sizes::Sizes;
use crate::batch_norm::launch::{Affine, Parameters, Scratch, apply};
use crate::cuda::library::{Convolution, Library, Operands, Pass};
use crate::cuda::stored::Stored;
use crate::cuda::{Memory, Pointer};
use crate::global_average_pool::launch::Averaging;
use crate::max_pool2d::launch::Pooling;
use crate::network::backward::Wanted;
use crate::network::buffers::Buffers;
use crate::network::plan::Normalization;

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

    pub(super) fn pass(&self, layer: usize, pass: Pass, adds: bool) -> Result<Convolution> {
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

    pub(super) fn norm_parameters(&self, norm: &Normalization) -> Parameters {
        Parameters { weight: self.parameters[norm.weight], bias: self.parameters[norm.bias()] }
    }

    /// A normalization by what is known of each channel.
    pub(super) fn apply(
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
    pub(super) fn known(&self, layer: usize, norm: &Normalization) -> Result<(Affine, Pointer<T>)> {
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

    pub(super) fn pool(
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
