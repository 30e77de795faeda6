//! A linear layer with all three passes.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod launch;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::batch_norm::affine::Affine;
use crate::conv2d::weight_gradient::{Part, Run, Runs};
use crate::panels::Panels;
use crate::product::{Finish, Product, Segment};
use crate::simd;
use crate::values::{Values, operand, row_sums};

/// Rows of a part of a product, which is computed on one thread; a multiple of the tile's rows.
const PART_ROWS: usize = 48;

/// Outputs of a part of the weight's gradient, a multiple of the tile's rows.
const PART_OUTPUTS: usize = 24;

/// Rows whose contribution to the weight's gradient is summed before it is added to the others':
/// short sums round less, and the inputs of these rows stay in cache.
const CHUNK_ROWS: usize = 256;

/// Inputs whose weights are turned at a time, so that both sides stay in cache.
const PACK_INPUTS: usize = 16;

/// Maps vectors linearly, as `torch.nn.functional.linear`.
///
/// ```text
/// y[.., o] = sum_i(x[.., i] * weight[o, i]) + bias[o]
/// ```
///
/// # Shapes
///
/// - `input`: f32 `[.., in]`, any rank from 1
/// - `weight`: f32 `[out, in]`
/// - `bias`: f32 `[out]`
/// - result: f32 `[.., out]`
///
/// The gradient for `input` is not computed when nothing before it can use it.
///
/// # Errors
///
/// If the shapes do not fit, `in` or `out` is 0, a tensor is not f32, or the tensors are not on one
/// device.
pub fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if let Some(bias) = bias
        && weight.dims().get(..1) != Some(bias.dims())
    {
        bail!("linear: bias {:?} does not fit weight {:?}", bias.shape(), weight.shape())
    }
    let op = Linear { has_bias: bias.is_some(), needs_input_gradient: input.track_op() };
    // candle's operations have a fixed number of operands: a number stands for none.
    let bias = match bias {
        Some(bias) => bias.contiguous()?,
        None => Tensor::zeros(1, input.dtype(), input.device())?,
    };
    input.contiguous()?.apply_op3(&weight.contiguous()?, &bias, op)
}

struct Linear {
    has_bias: bool,
    needs_input_gradient: bool,
}

/// Lengths of the vectors before and behind the layer.
fn dims(input: &Shape, weight: &Shape) -> Result<(usize, usize)> {
    match (input.dims(), weight.dims()) {
        ([.., in_dim], [out_dim, weight_dim]) if in_dim == weight_dim && in_dim * out_dim > 0 => {
            Ok((*in_dim, *out_dim))
        }
        _ => bail!("linear: input {input:?} does not fit weight {weight:?} [out, in]"),
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (in_dim, out_dim) = dims(input_layout.shape(), weight_layout.shape())?;
        let input = operand(input, input_layout, self.name())?;
        let weight = operand(weight, weight_layout, self.name())?;
        let bias = operand(bias, bias_layout, self.name())?;
        let affine = self.has_bias.then(|| Affine::shift(bias));
        let out = product(input, &turned(weight, in_dim, out_dim), affine.as_ref());
        let mut shape = input_layout.dims().to_vec();
        shape.pop();
        shape.push(out_dim);
        Ok((CpuStorage::F32(out), shape.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        input: &CudaStorage,
        input_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::forward(self, [(input, input_layout), (weight, weight_layout), (bias, bias_layout)])
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if input.device().is_cuda() {
            return cuda::backward(self, [input, weight, bias], gradient).map(Into::into);
        }
        let (in_dim, out_dim) = dims(input.shape(), weight.shape())?;
        let gradient = gradient.contiguous()?;
        let gradient = Values::of(&gradient, self.name())?;
        let device = input.device();
        let input_gradient = self.needs_input_gradient.then(|| {
            let weight = upright(&Values::of(weight, self.name())?, in_dim, out_dim);
            Tensor::from_vec(product(&gradient, &weight, None), input.shape(), device)
        });
        let weight_gradient =
            weight_gradient(&gradient, &Values::of(input, self.name())?, in_dim, out_dim);
        let bias_gradient = self
            .has_bias
            .then(|| Tensor::from_vec(row_sums(&gradient, out_dim), bias.shape(), device));
        Ok((
            input_gradient.transpose()?,
            Some(Tensor::from_vec(weight_gradient, weight.shape(), device)?),
            bias_gradient.transpose()?,
        ))
    }
}

/// `lhs * rhs`, with an affine map of its columns if there is one; rows of `lhs` are contiguous.
fn product(lhs: &[f32], rhs: &Panels, affine: Option<&Affine>) -> Vec<f32> {
    let (depth, cols) = (rhs.depth(), rhs.cols());
    let segments = [Segment { lhs: 0, rhs: 0, depth }];
    let mut out = vec![0.0; lhs.len() / depth * cols];
    let parts = out.par_chunks_mut(PART_ROWS * cols).zip(lhs.par_chunks(PART_ROWS * depth));
    parts.for_each(|(out, lhs)| {
        let starts = |len: usize| (0..lhs.len() / depth).map(|row| row * len).collect::<Vec<_>>();
        Product {
            lhs,
            lhs_rows: &starts(depth),
            segments: &segments,
            rhs,
            out,
            out_rows: &starts(cols),
            finish: Finish { affine, ..Finish::OVERWRITE },
            first_affine: 0,
        }
        .run();
    });
    out
}

/// The weight with rows by input and columns by output.
pub(crate) fn turned(weight: &[f32], in_dim: usize, out_dim: usize) -> Panels {
    packed(in_dim, out_dim, |first, n_cols, width, panel| {
        for block in (0..in_dim).step_by(PACK_INPUTS) {
            let block = block..(block + PACK_INPUTS).min(in_dim);
            for col in 0..n_cols {
                let weights = &weight[(first + col) * in_dim..][..in_dim];
                for input in block.clone() {
                    panel[input * width + col] = weights[input];
                }
            }
        }
    })
}

/// The weight as it is, with rows by output and columns by input.
pub(crate) fn upright(weight: &[f32], in_dim: usize, out_dim: usize) -> Panels {
    packed(out_dim, in_dim, |first, n_cols, width, panel| {
        for (row, weights) in panel.chunks_exact_mut(width).zip(weight.chunks_exact(in_dim)) {
            row[..n_cols].copy_from_slice(&weights[first..first + n_cols]);
        }
    })
}

/// Panels that `pack` writes in parallel, given the first column, the number of columns, the
/// panel's width and its values.
fn packed(
    depth: usize,
    cols: usize,
    pack: impl Fn(usize, usize, usize, &mut [f32]) + Sync,
) -> Panels {
    let mut panels = Panels::new(simd::arch(), depth, cols);
    let width = panels.width();
    let parts: Vec<(usize, &mut [f32])> = panels.panels_mut().collect();
    parts.into_par_iter().for_each(|(first, panel)| {
        pack(first, width.min(cols - first), width, panel);
    });
    panels
}

/// `gradient^T * input`.
///
/// The tile loop of the convolution is given the layer's gradient as the maps and its input as the
/// gradient, so that the sums lie as the weight does.
fn weight_gradient(gradient: &[f32], input: &[f32], in_dim: usize, out_dim: usize) -> Vec<f32> {
    let n_rows = input.len() / in_dim;
    let mut weight = vec![0.0; out_dim * in_dim];
    weight.par_chunks_mut(PART_OUTPUTS * in_dim).enumerate().for_each(|(part, sums)| {
        for first in (0..n_rows).step_by(CHUNK_ROWS) {
            let len = CHUNK_ROWS.min(n_rows - first);
            let run = Run { maps: first * out_dim, gradient: first * in_dim, len };
            let runs = Runs { runs: vec![run], maps_step: out_dim, gradient_step: in_dim };
            simd::dispatch(Part {
                maps: gradient,
                gradient: input,
                first_input: part * PART_OUTPUTS,
                first_output: 0,
                runs,
                sums: &mut *sums,
                outputs: in_dim,
            });
        }
    });
    weight
}
