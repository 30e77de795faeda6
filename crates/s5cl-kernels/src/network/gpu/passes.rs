//! The passes of a network's layers on a GPU.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{Result, bail};

use super::linear;
use super::on_gpu::{Norms, OnGpu};
use super::operations::{self, Left};
use super::room::Room;
use crate::batch_norm::launch::{Affine, Coefficients, Rows, Statistics, moments};
use crate::cuda::Pointer;
use crate::cuda::library::{Finish, Library, Operands, Pass};
use crate::cuda::maps::{self, Channels};
use crate::cuda::stored::Stored;
use crate::network::passes::{Passes, Step};
use crate::network::plan::{Kernel, Normalization, Plan};

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
        let (sums, residual) = (out.pointer::<T>(), residual.map(Room::pointer::<T>));
        let operands = Operands { maps: maps.pointer(), weight, output: sums };
        let product = linear::product(&self.pass(layer, Pass::Forward, false)?, operands);
        if let (Some(bias), Some(product)) = (kernel.bias(), product) {
            let bias = self.weight_of(self.weights, bias)?;
            let residual = residual.unwrap_or(Pointer::NULL);
            let finish = Finish { bias, residual, relu: false };
            // SAFETY: all were allocated for the plan's shapes, as the product is.
            if unsafe { self.gpu.multiply_finished(&product, finish)? } {
                return Ok(());
            }
        }
        self.convolve(layer, Pass::Forward, false, [maps.pointer(), weight, sums])?;
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
