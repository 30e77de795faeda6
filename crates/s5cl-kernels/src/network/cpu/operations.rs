//! The passes of the other operations on the CPU.

use candle_core::{Result, bail};

use super::{Cpu, add};
use crate::activation;
use crate::attention::Attention;
use crate::layer_norm::LayerNorm;
use crate::network::operation::Operation;
use crate::network::passes::{Passes, Step};
use crate::tokens::{Shape, tokens_backward, tokens_forward};

/// Computes an operation, and returns what the way back needs beside its inputs.
pub(super) fn forward(
    cpu: &Cpu<'_>,
    layer: usize,
    step: Step,
    maps: &[f32],
    other: Option<&Vec<f32>>,
    out: &mut [f32],
) -> Result<Vec<f32>> {
    let channels = cpu.channels(layer);
    match step.operation {
        Operation::LayerNorm { epsilon } => {
            return Ok(layer_norm(cpu, step, epsilon).forward(maps, out));
        }
        Operation::Activation(activation) => activation.forward(maps, out),
        Operation::GatedUnit => activation::gated_unit_forward(maps, out, channels),
        Operation::Gate => activation::gate_forward(maps, given(other)?, out, channels),
        Operation::Sum => {
            out.copy_from_slice(maps);
            add(out, given(other)?);
        }
        Operation::Attention { n_heads } => attention(cpu, layer, n_heads).forward(maps, out),
        Operation::Tokens => {
            let [prefix, positions] = [0, 1].map(|index| &cpu.parameters[step.parameters + index]);
            tokens_forward(maps, prefix, positions, out);
        }
        Operation::PoolTokens { pool, n_prefix } => {
            pool.forward(maps, out, shape(cpu, step, n_prefix));
        }
    }
    Ok(Vec::new())
}

/// The gradients of an operation's maps and other maps; those of its parameters go to the CPU's.
pub(super) fn backward(
    cpu: &mut Cpu<'_>,
    layer: usize,
    step: Step,
    kept: &[f32],
    (maps, other): (&[f32], Option<&Vec<f32>>),
    mut gradient: Vec<f32>,
) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
    let channels = cpu.channels(layer);
    // Where the shapes are the same, the gradient becomes the maps' in place.
    match step.operation {
        Operation::LayerNorm { epsilon } => {
            let sums = layer_norm(cpu, step, epsilon).backward(maps, kept, &mut gradient);
            give(cpu, step, [sums.weight, sums.bias]);
            return Ok((gradient, None));
        }
        Operation::Activation(activation) => {
            activation.backward(maps, &mut gradient);
            return Ok((gradient, None));
        }
        Operation::Gate => {
            let logits = given(other)?;
            let mut of_logits = cpu.buffers.take(logits.len());
            activation::gate_backward(maps, logits, &mut gradient, &mut of_logits, channels);
            return Ok((gradient, Some(of_logits)));
        }
        Operation::Sum => {
            let of_other = cpu.copy(&gradient);
            return Ok((gradient, Some(of_other)));
        }
        Operation::GatedUnit
        | Operation::Attention { .. }
        | Operation::Tokens
        | Operation::PoolTokens { .. } => {}
    }
    let mut of_maps = cpu.room(step.input)?;
    match step.operation {
        Operation::GatedUnit => {
            activation::gated_unit_backward(maps, &gradient, &mut of_maps, channels);
        }
        Operation::Attention { n_heads } => {
            attention(cpu, layer, n_heads).backward(maps, &gradient, &mut of_maps);
        }
        Operation::Tokens => {
            let lengths = [0, 1].map(|index| cpu.parameters[step.parameters + index].len());
            let (prefix, positions) =
                tokens_backward(&gradient, (lengths[0], lengths[1]), &mut of_maps);
            give(cpu, step, [prefix, positions]);
        }
        Operation::PoolTokens { pool, n_prefix } => {
            pool.backward(&gradient, &mut of_maps, shape(cpu, step, n_prefix));
        }
        Operation::LayerNorm { .. }
        | Operation::Activation(_)
        | Operation::Gate
        | Operation::Sum => {}
    }
    cpu.give(gradient);
    Ok((of_maps, None))
}

fn layer_norm<'a>(cpu: &Cpu<'a>, step: Step, epsilon: f64) -> LayerNorm<'a> {
    let [weight, bias] = [0, 1].map(|index| &*cpu.parameters[step.parameters + index]);
    LayerNorm { weight, bias, epsilon }
}

fn attention(cpu: &Cpu<'_>, layer: usize, n_heads: usize) -> Attention {
    let map = cpu.plan.maps[layer];
    Attention { n_tokens: map.pixels(), n_heads, dim: map.channels }
}

/// Of the tokens that a step reads.
fn shape(cpu: &Cpu<'_>, step: Step, n_prefix: usize) -> Shape {
    let map = cpu.plan.maps[step.input];
    Shape { n_prefix, n_patches: map.pixels() - n_prefix, dim: map.channels }
}

fn given(other: Option<&Vec<f32>>) -> Result<&[f32]> {
    match other {
        Some(other) => Ok(other),
        None => bail!("network: an operation has no other maps"),
    }
}

fn give(cpu: &mut Cpu<'_>, step: Step, gradients: [Vec<f32>; 2]) {
    for (index, gradient) in gradients.into_iter().enumerate() {
        cpu.gradients[step.parameters + index] = Some(gradient);
    }
}
