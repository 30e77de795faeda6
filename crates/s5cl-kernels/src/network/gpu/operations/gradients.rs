//! The way back through the other operations on a GPU.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{Result, bail};

use super::{Left, given};
use crate::activation::launch::gated_unit_gradient;
use crate::batch_norm::launch::Parameters;
use crate::cuda::Pointer;
use crate::cuda::library::Library;
use crate::cuda::maps::{self, Channels};
use crate::cuda::stored::Stored;
use crate::network::gpu::on_gpu::OnGpu;
use crate::network::gpu::room::Room;
use crate::network::operation::Operation;
use crate::network::passes::{Passes, Step};
use crate::tokens::launch::Embeddings;

/// The gradients of an operation's maps and other maps; those of its parameters go to the GPU's.
pub(in crate::network::gpu) fn backward<G: Library, T: Stored>(
    gpu: &mut OnGpu<'_, G, T>,
    layer: usize,
    step: Step,
    kept: Left<G>,
    (maps, other): (&Room<G>, Option<&Room<G>>),
    gradient: Room<G>,
) -> Result<(Room<G>, Option<Room<G>>)> {
    let (device, len) = (gpu.gpu, gpu.sizes.len(layer));
    let (from, above) = (maps.pointer::<T>(), gradient.pointer::<T>());
    // Where the shapes are the same, the gradient becomes the maps' in place.
    // SAFETY: everything was allocated for the plan's shapes.
    let gradients = unsafe {
        match step.operation {
            Operation::LayerNorm { epsilon } => {
                let of_maps =
                    gpu.layer_norm_gradient(layer, step, epsilon, &kept, maps, gradient)?;
                (of_maps, None)
            }
            Operation::Activation(activation) => {
                activation.launch_gradient(device, from, above, len)?;
                (gradient, None)
            }
            Operation::Gate => {
                let logits = given(other)?.pointer();
                let of_logits = gpu.room_for::<T>(gpu.sizes.plan.batch * gpu.channels(layer))?;
                gpu.gate(layer).backward(device, from, logits, above, of_logits.pointer())?;
                (gradient, Some(of_logits))
            }
            Operation::Sum => {
                let of_other = gpu.room_for::<T>(len)?;
                maps::sum(device, [above, Pointer::NULL, of_other.pointer()], len)?;
                (gradient, Some(of_other))
            }
            Operation::GatedUnit
            | Operation::Attention { .. }
            | Operation::Tokens
            | Operation::PoolTokens { .. } => {
                let of_maps = gpu.room(step.input)?;
                gpu.other_gradient(layer, step, &kept, maps, &gradient, &of_maps)?;
                gpu.give(gradient);
                (of_maps, None)
            }
        }
    };
    gpu.give(kept.numbers);
    Ok(gradients)
}

impl<G: Library, T: Stored> OnGpu<'_, G, T> {
    /// Makes the gradient that of the maps, and writes those of the parameters.
    ///
    /// # Safety
    ///
    /// The rooms must be for the plan's shapes.
    unsafe fn layer_norm_gradient(
        &mut self,
        layer: usize,
        step: Step,
        epsilon: f64,
        kept: &Left<G>,
        maps: &Room<G>,
        gradient: Room<G>,
    ) -> Result<Room<G>> {
        let norm = self.normalizing(layer, step, epsilon);
        let [weight, bias] = self.own_gradients(step)?;
        let into = Parameters { weight, bias };
        let (gpu, scratch, numbers) = (self.gpu, self.scratch, kept.numbers.pointer());
        if !self.sizes.is_float(layer) {
            let (from, above) = ((maps.pointer::<T>(), numbers), gradient.pointer());
            // SAFETY: the caller's promise, and scratch for the largest layer.
            unsafe {
                norm.parameter_gradients(gpu, from, above, scratch, into)?;
                norm.map_gradient(gpu, from, above)?;
            }
            return Ok(gradient);
        }
        // The result's gradient belongs to somebody else: it is changed in a copy.
        let len = self.sizes.len(layer);
        let own = self.room_for::<f32>(len)?;
        let (from, above) = ((maps.pointer::<f32>(), numbers), own.pointer());
        // SAFETY: as above.
        unsafe {
            maps::sum::<G, f32>(gpu, [gradient.pointer(), Pointer::NULL, above], len)?;
            norm.parameter_gradients(gpu, from, above, scratch, into)?;
            norm.map_gradient(gpu, from, above)?;
        }
        self.give(gradient);
        Ok(own)
    }

    /// The gradient of maps that have another shape than the result.
    ///
    /// # Safety
    ///
    /// The rooms must be for the plan's shapes.
    unsafe fn other_gradient(
        &mut self,
        layer: usize,
        step: Step,
        kept: &Left<G>,
        maps: &Room<G>,
        gradient: &Room<G>,
        out: &Room<G>,
    ) -> Result<()> {
        let (gpu, from, above, to) =
            (self.gpu, maps.pointer::<T>(), gradient.pointer::<T>(), out.pointer::<T>());
        // SAFETY: the caller's promise.
        unsafe {
            match step.operation {
                Operation::GatedUnit => {
                    gated_unit_gradient(gpu, [from, above, to], self.sizes.rows(layer))
                }
                Operation::Attention { n_heads } => {
                    let attending = self.attending(layer, n_heads);
                    let deltas = self.room_for::<f32>(attending.n_rows())?;
                    let result = Pointer::at(kept.result.address());
                    let (numbers, room) = (kept.numbers.pointer(), deltas.pointer());
                    attending.backward(gpu, [from, result, above, to], numbers, room)?;
                    self.give(deltas);
                    Ok(())
                }
                Operation::Tokens => {
                    let [prefix, positions] = self.own_gradients(step)?;
                    let into = Embeddings { prefix, positions };
                    self.tokens(layer, step).backward(gpu, above, to, into)
                }
                Operation::PoolTokens { pool, n_prefix } => {
                    let batch = self.pooled(step, n_prefix);
                    if self.sizes.is_float(layer) {
                        return batch.pool_gradient(gpu, pool, gradient.pointer(), to);
                    }
                    let len = self.sizes.len(layer);
                    let vectors = self.room_for::<f32>(len)?;
                    maps::load(gpu, above, vectors.pointer(), Channels::same(len))?;
                    batch.pool_gradient(gpu, pool, vectors.pointer(), to)?;
                    self.give(vectors);
                    Ok(())
                }
                _ => bail!("network: {:?} keeps its maps' shape", step.operation),
            }
        }
    }
}
