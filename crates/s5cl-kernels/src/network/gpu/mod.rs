//! The passes of a network on a GPU.
//!
//! Maps and weights are of a type `T` of 16 or 32 bits; what candle sees, parameters, gradients and
//! statistics, is f32. Nothing here waits for the device.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

mod backward;
mod linear;
mod on_gpu;
mod operands;
mod operations;
mod passes;
mod room;
mod sizes;

use candle_core::Result;

use super::backward::{Wanted, backward};
use super::buffers::Buffers;
use super::forward::{self, Tape};
use super::operation::Operation;
use super::plan::{Layer, Plan};
use crate::batch_norm::launch::{Known, Parameters, Rows, Scratch, Statistics, known};
use crate::cuda::library::Library;
use crate::cuda::maps::{self, Channels};
use crate::cuda::stored::Stored;
use crate::cuda::{Gpu, Memory, Pointer};
use on_gpu::{Gradients, Norms, OnGpu};
use operations::Left;
use room::Room;
use sizes::Sizes;

/// A pass over a network: shapes, operands, and memory that is used again.
pub(super) struct Run<'a, G: Gpu> {
    pub(super) gpu: &'a G,
    pub(super) plan: &'a Plan,
    /// In the plan's order and shapes.
    pub(super) parameters: &'a [Pointer<f32>],
    /// Whether convolutions may round f32 to TF32.
    pub(super) rounds_factors: bool,
    pub(super) buffers: &'a mut Buffers<Memory<G, u8>>,
}

/// What a pass that learns leaves.
pub(super) struct Trained<G: Gpu> {
    /// The last layer's maps.
    pub(super) result: Memory<G, f32>,
    /// Mean and unbiased variance of each normalization.
    pub(super) statistics: Memory<G, f32>,
    /// Where each mean begins; its variance follows.
    pub(super) starts: Vec<usize>,
    pub(super) kept: Kept<G>,
}

/// What is kept for the way back.
pub(super) struct Kept<G: Gpu> {
    tape: Tape<Room<G>, Room<G>, Room<G>, Left<G>>,
    weights: Room<G>,
}

/// The gradients that were wanted.
pub(super) struct OfParameters<G: Gpu> {
    pub(super) images: Option<Memory<G, f32>>,
    pub(super) parameters: Memory<G, f32>,
    /// Where each parameter's begins, if it was read and wanted.
    pub(super) starts: Vec<Option<usize>>,
}

impl<G: Library> Run<'_, G> {
    /// A pass that learns, over f32 images.
    ///
    /// # Safety
    ///
    /// Images and parameters must reach as far as the plan says.
    pub(super) unsafe fn train<T: Stored>(&mut self, images: Pointer<f32>) -> Result<Trained<G>> {
        let sizes = Sizes::new::<T>(self.plan)?;
        let weights = self.packed::<T>(&sizes, None)?;
        let statistics = self.gpu.allocate::<f32>(sizes.n_norms)?;
        let norms = Norms::OfBatch(statistics.pointer());
        let images = self.images::<T>(&sizes, images)?;
        let mut tape =
            self.walk::<T, _>(&sizes, &weights, norms, |passes| forward::train(passes, images))?;
        let last = tape.values.len() - 1;
        let result = std::mem::replace(&mut tape.values[last], Room::Given(Pointer::NULL));
        let result = match result {
            Room::Result(memory) => memory,
            // A mask on the way back still reads the values.
            maps => {
                let result = self.floats::<T>(&sizes, last, &maps)?;
                tape.values[last] = maps;
                result
            }
        };
        let (starts, kept) = (sizes.norms, Kept { tape, weights });
        Ok(Trained { result, statistics, starts, kept })
    }

    /// A pass that only computes, with known means and variances.
    ///
    /// # Safety
    ///
    /// As for [`Self::train`], and the statistics must fit the plan.
    pub(super) unsafe fn evaluate<T: Stored>(
        &mut self,
        images: Pointer<f32>,
        statistics: &[Statistics],
    ) -> Result<Memory<G, f32>> {
        let sizes = Sizes::new::<T>(self.plan)?;
        let affines = self.buffers.room::<f32>(self.gpu, sizes.n_norms)?;
        let of_layer = |(layer, of): (&Layer, usize)| match layer {
            Layer::BatchNorm { norm, .. } => Some(Known {
                parameters: Parameters {
                    weight: self.parameters[norm.weight],
                    bias: self.parameters[norm.bias()],
                },
                statistics: statistics[norm.statistics],
                affine: affines.pointer().offset(sizes.norms[norm.statistics]),
                epsilon: norm.epsilon,
                channels: of,
            }),
            _ => None,
        };
        let channels = self.plan.maps.iter().map(|map| map.channels);
        let all: Vec<Known> = self.plan.layers.iter().zip(channels).filter_map(of_layer).collect();
        // SAFETY: the caller's promise, and room for all of them.
        unsafe { known(self.gpu, &all)? };
        let shifts = self.buffers.room::<T>(self.gpu, sizes.n_norms)?;
        if !all.is_empty() {
            let (from, to, len) = (affines.pointer(), shifts.pointer(), sizes.n_norms);
            // SAFETY: there is room for all of them.
            unsafe { maps::store::<G, T>(self.gpu, from, to, Channels::same(len))? };
        }
        let weights = self.packed::<T>(&sizes, Some(affines.pointer()))?;
        let norms = Norms::Known(affines.pointer(), shifts.pointer());
        let images = self.images::<T>(&sizes, images)?;
        let result =
            self.walk::<T, _>(&sizes, &weights, norms, |passes| forward::evaluate(passes, images))?;
        for room in [affines, shifts, weights] {
            self.buffers.put(room);
        }
        match result {
            Room::Result(memory) => Ok(memory),
            maps => {
                let result = self.floats::<T>(&sizes, self.plan.layers.len() - 1, &maps);
                self.buffers.put(maps);
                result
            }
        }
    }

    /// The way back from the result's f32 gradient.
    ///
    /// # Safety
    ///
    /// As for [`Self::train`], whose plan and parameters these must be.
    pub(super) unsafe fn backward<T: Stored>(
        &mut self,
        kept: Kept<G>,
        gradient: Pointer<f32>,
        wanted: &Wanted,
    ) -> Result<OfParameters<G>> {
        let sizes = Sizes::new::<T>(self.plan)?;
        let Kept { tape, weights } = kept;
        let above = self.gradient::<T>(&sizes, gradient)?;
        let of_parameters = self.gpu.allocate::<f32>(sizes.n_parameters)?;
        let of_weights = self.buffers.room::<T>(self.gpu, sizes.n_weights)?;
        let gradients = Gradients {
            wanted,
            of_parameters: of_parameters.pointer(),
            of_weights: of_weights.pointer(),
        };
        let norms = Norms::Gradients(gradients);
        let (of_images, has_gradient) = self.walk::<T, _>(&sizes, &weights, norms, |passes| {
            let of_images = backward(passes, tape, above, wanted)?;
            Ok((of_images, std::mem::take(&mut passes.has_gradient)))
        })?;
        let starts = has_gradient.iter().zip(&sizes.parameters);
        let starts: Vec<Option<usize>> =
            starts.map(|(&has, &start)| has.then_some(start)).collect();
        self.unpack::<T>(&sizes, &gradients, &starts)?;
        let images = match of_images {
            Some(room) => {
                let images = self.floats::<T>(&sizes, 0, &room)?;
                self.buffers.put(room);
                Some(images)
            }
            None => None,
        };
        for room in [weights, of_weights] {
            self.buffers.put(room);
        }
        Ok(OfParameters { images, parameters: of_parameters, starts })
    }

    /// Walks over the layers, with room for sums.
    fn walk<T: Stored, R>(
        &mut self,
        sizes: &Sizes<'_>,
        weights: &Room<G>,
        norms: Norms<'_, T>,
        walk: impl FnOnce(&mut OnGpu<'_, G, T>) -> Result<R>,
    ) -> Result<R> {
        let layers = self.plan.layers.iter().enumerate();
        let summed = layers.filter(|(_, layer)| sums_rows(layer));
        let shapes: Vec<Rows> = summed.map(|(index, _)| sizes.rows(index)).collect();
        let most = |of: fn(Rows) -> usize| shapes.iter().map(|&shape| of(shape)).max().unwrap_or(0);
        let partials = self.buffers.room::<f32>(self.gpu, most(Rows::n_partials))?;
        let mut counters = self.buffers.room::<u32>(self.gpu, most(Rows::n_counters))?;
        counters.clear(self.gpu)?;
        let mut passes = OnGpu {
            gpu: self.gpu,
            sizes,
            parameters: self.parameters,
            weights: weights.pointer(),
            rounds_factors: self.rounds_factors,
            scratch: Scratch { partials: partials.pointer(), counters: counters.pointer() },
            norms,
            has_gradient: vec![false; self.parameters.len()],
            buffers: self.buffers,
        };
        let walked = walk(&mut passes);
        self.buffers.put(partials);
        self.buffers.put(counters);
        walked
    }
}

/// Whether sums over the rows of a layer are taken on the way forth or back.
fn sums_rows(layer: &Layer) -> bool {
    match layer {
        Layer::BatchNorm { .. } => true,
        Layer::Conv2d { kernel, .. } => kernel.has_bias,
        Layer::Operation { operation, .. } => matches!(operation, Operation::LayerNorm { .. }),
        Layer::Images | Layer::MaxPool2d { .. } | Layer::GlobalAveragePool { .. } => false,
    }
}
