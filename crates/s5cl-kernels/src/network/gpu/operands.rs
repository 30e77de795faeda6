//! What a pass reads and writes beside its layers' maps, between candle's order and type and those of
//! the device.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use super::Run;
use super::on_gpu::Gradients;
use super::room::Room;
use super::sizes::Sizes;
use crate::conv2d::launch::{Weight, pack, unpack};
use crate::cuda::library::Library;
use crate::cuda::maps::{self, Channels};
use crate::cuda::stored::Stored;
use crate::cuda::{Memory, Pointer};
use crate::network::forward::Readers;
use crate::network::plan::{Kernel, Layer};

impl<G: Library> Run<'_, G> {
    /// The weights of all convolutions in their order on the device, with the scale of a known
    /// normalization that is computed with the convolution; and their biases.
    pub(super) fn packed<T: Stored>(
        &mut self,
        sizes: &Sizes<'_>,
        affines: Option<Pointer<f32>>,
    ) -> Result<Room<G>> {
        let weights = self.buffers.room::<T>(self.gpu, sizes.n_weights)?;
        let (layers, readers) = (&self.plan.layers, Readers::of(self.plan));
        let of = |(index, layer): (usize, &Layer)| {
            let Layer::Conv2d { kernel: Kernel { weight, .. }, .. } = *layer else { return None };
            let norm = readers.computed_by(layers, index);
            let scale =
                norm.zip(affines).map(|(norm, all)| all.offset(sizes.norms[norm.statistics]));
            let packed = sizes.weight(weight, self.parameters[weight], weights.pointer())?;
            Some(Weight { scale: scale.unwrap_or(Pointer::NULL), ..packed })
        };
        let bias = |&bias: &usize| sizes.weight(bias, self.parameters[bias], weights.pointer());
        let biases = sizes.biases.iter().filter_map(bias);
        let all: Vec<Weight<T>> = layers.iter().enumerate().filter_map(of).chain(biases).collect();
        // SAFETY: the parameters have the plan's shapes, and there is room for all weights.
        unsafe { pack(self.gpu, &all)? };
        Ok(weights)
    }

    /// The gradients of convolutions' weights in the order in which these are trained.
    pub(super) fn unpack<T: Stored>(
        &self,
        sizes: &Sizes<'_>,
        gradients: &Gradients<'_, T>,
        starts: &[Option<usize>],
    ) -> Result<()> {
        let of = |(index, start): (usize, &Option<usize>)| {
            let trained = gradients.of_parameters.offset((*start)?);
            let is_bias = sizes.biases.binary_search(&index).is_ok();
            sizes.weight(index, trained, gradients.of_weights).filter(|_| !is_bias)
        };
        let all: Vec<Weight<T>> = starts.iter().enumerate().filter_map(of).collect();
        // SAFETY: there is room for the gradients of all parameters in either order.
        unsafe { unpack(self.gpu, &all) }
    }

    /// The images as maps.
    pub(super) fn images<T: Stored>(
        &mut self,
        sizes: &Sizes<'_>,
        images: Pointer<f32>,
    ) -> Result<Room<G>> {
        let room = self.buffers.room::<T>(self.gpu, sizes.len(0))?;
        let channels = Channels {
            rows: sizes.pixels(0),
            from: self.plan.maps[0].channels,
            to: sizes.image_channels,
        };
        // SAFETY: the images have the plan's shape, and there is room for them.
        unsafe { maps::store::<G, T>(self.gpu, images, room.pointer(), channels)? };
        Ok(room)
    }

    /// The result's gradient as that of maps.
    pub(super) fn gradient<T: Stored>(
        &mut self,
        sizes: &Sizes<'_>,
        gradient: Pointer<f32>,
    ) -> Result<Room<G>> {
        let last = self.plan.layers.len() - 1;
        if sizes.is_float(last) {
            return Ok(Room::Given(gradient));
        }
        let len = sizes.len(last);
        let room = self.buffers.room::<T>(self.gpu, len)?;
        let channels = Channels::same(len);
        // SAFETY: the gradient has the result's shape, and there is room for it.
        unsafe { maps::store::<G, T>(self.gpu, gradient, room.pointer(), channels)? };
        Ok(room)
    }

    /// A layer's maps, or their gradient, in f32.
    pub(super) fn floats<T: Stored>(
        &self,
        sizes: &Sizes<'_>,
        layer: usize,
        maps: &Room<G>,
    ) -> Result<Memory<G, f32>> {
        let (rows, to) = (sizes.pixels(layer), self.plan.maps[layer].channels);
        let from = if layer == 0 { sizes.image_channels } else { to };
        let out = self.gpu.allocate::<f32>(rows * to)?;
        let channels = Channels { rows, from, to };
        // SAFETY: the maps have the layer's shape, and there is room for them.
        unsafe { maps::load::<G, T>(self.gpu, maps.pointer(), out.pointer(), channels)? };
        Ok(out)
    }
}
