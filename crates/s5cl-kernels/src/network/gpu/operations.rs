//! The passes of the other operations on a GPU.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

mod gradients;

use candle_core::{Result, bail};

use super::on_gpu::{Norms, OnGpu};
use super::room::Room;
use crate::activation::launch::{Gate, gated_unit};
use crate::attention::Attention;
use crate::attention::launch::Attending;
use crate::batch_norm::launch::Parameters;
use crate::cuda::library::Library;
use crate::cuda::maps::{self, Channels};
use crate::cuda::stored::Stored;
use crate::cuda::{Gpu, Pointer};
use crate::layer_norm::KEPT;
use crate::layer_norm::launch::Normalizing;
use crate::network::operation::Operation;
use crate::network::passes::{Passes, Step};
use crate::tokens::launch::{Batch, Embeddings};
use crate::tokens::{Shape, TokenPool};

pub(super) use gradients::backward;

/// What an operation leaves for the way back.
pub(crate) struct Left<G: Gpu> {
    /// Some numbers for each row.
    numbers: Room<G>,
    /// Where the result is, which the tape holds until the way back has passed the layer.
    result: Pointer<u8>,
}

/// Computes an operation.
pub(super) fn forward<G: Library, T: Stored>(
    gpu: &mut OnGpu<'_, G, T>,
    layer: usize,
    step: Step,
    maps: &Room<G>,
    other: Option<&Room<G>>,
    out: &Room<G>,
) -> Result<Left<G>> {
    let (device, len) = (gpu.gpu, gpu.sizes.len(layer));
    let (from, to) = (maps.pointer::<T>(), out.pointer::<T>());
    let mut numbers = Room::Given(Pointer::NULL);
    // SAFETY: everything was allocated for the plan's shapes.
    unsafe {
        match step.operation {
            Operation::LayerNorm { epsilon } => {
                numbers = gpu.kept(gpu.sizes.pixels(layer) * KEPT)?;
                let (norm, kept) = (gpu.normalizing(layer, step, epsilon), numbers.pointer());
                if gpu.sizes.is_float(layer) {
                    norm.forward::<G, f32>(device, maps.pointer(), kept, out.pointer())?;
                } else {
                    norm.forward(device, from, kept, to)?;
                }
            }
            Operation::Activation(activation) => activation.launch(device, from, to, len)?,
            Operation::GatedUnit => gated_unit(device, from, to, gpu.sizes.rows(layer))?,
            Operation::Gate => {
                gpu.gate(layer).forward(device, [from, given(other)?.pointer(), to])?;
            }
            Operation::Sum => maps::sum(device, [from, given(other)?.pointer(), to], len)?,
            Operation::Attention { n_heads } => {
                let attending = gpu.attending(layer, n_heads);
                numbers = gpu.kept(attending.n_rows())?;
                attending.forward(device, from, to, numbers.pointer())?;
            }
            Operation::Tokens => {
                let [prefix, positions] = gpu.own_parameters(step);
                let embeddings = Embeddings { prefix, positions };
                gpu.tokens(layer, step).forward(device, from, embeddings, to)?;
            }
            Operation::PoolTokens { pool, n_prefix } => {
                gpu.pool_tokens(layer, step, pool, n_prefix, maps, out)?;
            }
        }
    }
    Ok(Left { numbers, result: out.pointer() })
}

fn given<G: Gpu>(other: Option<&Room<G>>) -> Result<&Room<G>> {
    match other {
        Some(other) => Ok(other),
        None => bail!("network: an operation has no other maps"),
    }
}

impl<G: Library, T: Stored> OnGpu<'_, G, T> {
    /// Room for numbers that only the way back needs; none where there is no way back.
    fn kept(&mut self, len: usize) -> Result<Room<G>> {
        match self.norms {
            Norms::Known(..) => Ok(Room::Given(Pointer::NULL)),
            Norms::OfBatch(_) | Norms::Gradients(_) => self.room_for::<f32>(len),
        }
    }

    fn channels(&self, layer: usize) -> usize {
        self.sizes.plan.maps[layer].channels
    }

    fn own_parameters(&self, step: Step) -> [Pointer<f32>; 2] {
        [0, 1].map(|index| self.parameters[step.parameters + index])
    }

    /// Where the gradients of an operation's two parameters go, null where they are not wanted.
    fn own_gradients(&mut self, step: Step) -> Result<[Pointer<f32>; 2]> {
        let gradients = self.gradients()?;
        Ok([0, 1].map(|index| {
            let parameter = step.parameters + index;
            self.has_gradient[parameter] = gradients.wanted.parameters[parameter];
            gradients.of(self.sizes, parameter)
        }))
    }

    fn normalizing(&self, layer: usize, step: Step, epsilon: f64) -> Normalizing {
        let [weight, bias] = self.own_parameters(step);
        let parameters = Parameters { weight, bias };
        Normalizing { shape: self.sizes.rows(layer), parameters, epsilon }
    }

    fn gate(&self, layer: usize) -> Gate {
        let (plan, map) = (self.sizes.plan, self.sizes.plan.maps[layer]);
        Gate { batch: plan.batch, pixels: map.pixels(), channels: map.channels }
    }

    fn attending(&self, layer: usize, n_heads: usize) -> Attending {
        let (plan, map) = (self.sizes.plan, self.sizes.plan.maps[layer]);
        let of = Attention { n_tokens: map.pixels(), n_heads, dim: map.channels };
        Attending { batch: plan.batch, of }
    }

    /// Those that an operation makes of patches.
    fn tokens(&self, layer: usize, step: Step) -> Batch {
        let plan = self.sizes.plan;
        let (n_patches, map) = (plan.maps[step.input].pixels(), plan.maps[layer]);
        let n_prefix = map.pixels() - n_patches;
        Batch { batch: plan.batch, shape: Shape { n_prefix, n_patches, dim: map.channels } }
    }

    /// Those that an operation reads.
    fn pooled(&self, step: Step, n_prefix: usize) -> Batch {
        let (plan, map) = (self.sizes.plan, self.sizes.plan.maps[step.input]);
        let n_patches = map.pixels() - n_prefix;
        Batch { batch: plan.batch, shape: Shape { n_prefix, n_patches, dim: map.channels } }
    }

    /// # Safety
    ///
    /// The rooms must be for the plan's shapes.
    unsafe fn pool_tokens(
        &mut self,
        layer: usize,
        step: Step,
        pool: TokenPool,
        n_prefix: usize,
        maps: &Room<G>,
        out: &Room<G>,
    ) -> Result<()> {
        let (batch, from) = (self.pooled(step, n_prefix), maps.pointer::<T>());
        if self.sizes.is_float(layer) {
            // SAFETY: the caller's promise.
            return unsafe { batch.pool(self.gpu, pool, from, out.pointer()) };
        }
        let len = self.sizes.len(layer);
        let vectors = self.room_for::<f32>(len)?;
        // SAFETY: as above, and room for as many vectors.
        unsafe {
            batch.pool(self.gpu, pool, from, vectors.pointer())?;
            let (vectors, out) = (vectors.pointer(), out.pointer::<T>());
            maps::store(self.gpu, vectors, out, Channels::same(len))?;
        }
        self.give(vectors);
        Ok(())
    }
}
