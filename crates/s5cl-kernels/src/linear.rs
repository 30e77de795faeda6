//! A linear layer with all three passes.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::gemm::{Matrix, Output, matmul};
use crate::values::{Values, operand};

/// Rows of one product; every part is computed on one thread.
const PART_ROWS: usize = 64;

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
/// If the shapes do not fit, `in` or `out` is 0, a tensor is not f32, or one is not on the CPU.
pub fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if let Some(bias) = bias
        && weight.dims().get(..1) != Some(bias.dims())
    {
        bail!("linear: bias {:?} does not fit weight {:?}", bias.shape(), weight.shape())
    }
    let op = Linear { has_bias: bias.is_some(), needs_input_gradient: input.track_op() };
    // candle's operations have a fixed number of operands: an empty one stands for none.
    let bias = match bias {
        Some(bias) => bias.contiguous()?,
        None => Tensor::zeros(0, input.dtype(), input.device())?,
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
        let mut out = vec![0.0; input.len() / in_dim * out_dim];
        out.par_chunks_mut(PART_ROWS * out_dim).zip(input.par_chunks(PART_ROWS * in_dim)).for_each(
            |(out, input)| {
                let rows = input.len() / in_dim;
                let input = Matrix::row_major(input, rows, in_dim);
                let weight = Matrix::row_major(weight, out_dim, in_dim).transposed();
                if self.has_bias {
                    out.chunks_exact_mut(out_dim).for_each(|row| row.copy_from_slice(bias));
                    matmul(out, input, weight, Output::Accumulate);
                } else {
                    matmul(out, input, weight, Output::Overwrite);
                }
            },
        );
        let mut shape = input_layout.dims().to_vec();
        shape.pop();
        shape.push(out_dim);
        Ok((CpuStorage::F32(out), shape.into()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (in_dim, out_dim) = dims(input.shape(), weight.shape())?;
        let gradient = gradient.contiguous()?;
        let gradient = Values::of(&gradient)?;
        let device = input.device();
        let input_gradient = self.needs_input_gradient.then(|| {
            let values = input_gradient(&gradient, &Values::of(weight)?, in_dim, out_dim);
            Tensor::from_vec(values, input.shape(), device)
        });
        let weight_gradient = weight_gradient(&gradient, &Values::of(input)?, in_dim, out_dim);
        let bias_gradient = self
            .has_bias
            .then(|| Tensor::from_vec(column_sums(&gradient, out_dim), bias.shape(), device));
        Ok((
            input_gradient.transpose()?,
            Some(Tensor::from_vec(weight_gradient, weight.shape(), device)?),
            bias_gradient.transpose()?,
        ))
    }
}

/// `gradient * weight`.
fn input_gradient(gradient: &[f32], weight: &[f32], in_dim: usize, out_dim: usize) -> Vec<f32> {
    let mut out = vec![0.0; gradient.len() / out_dim * in_dim];
    out.par_chunks_mut(PART_ROWS * in_dim).zip(gradient.par_chunks(PART_ROWS * out_dim)).for_each(
        |(out, gradient)| {
            let gradient = Matrix::row_major(gradient, gradient.len() / out_dim, out_dim);
            matmul(out, gradient, Matrix::row_major(weight, out_dim, in_dim), Output::Overwrite);
        },
    );
    out
}

/// `gradient^T * input`: a product for each part of the rows, and their sum in order.
fn weight_gradient(gradient: &[f32], input: &[f32], in_dim: usize, out_dim: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = gradient
        .par_chunks(PART_ROWS * out_dim)
        .zip(input.par_chunks(PART_ROWS * in_dim))
        .map(|(gradient, input)| {
            let rows = input.len() / in_dim;
            let gradient = Matrix::row_major(gradient, rows, out_dim).transposed();
            let mut part = vec![0.0; out_dim * in_dim];
            matmul(&mut part, gradient, Matrix::row_major(input, rows, in_dim), Output::Overwrite);
            part
        })
        .collect();
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_else(|| vec![0.0; out_dim * in_dim]);
    for part in parts {
        for (sum, value) in sum.iter_mut().zip(part) {
            *sum += value;
        }
    }
    sum
}

/// The sum of all rows, in f64 and in order.
fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; width];
    for row in rows.chunks_exact(width) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor, Var};

    use super::{PART_ROWS, linear};
    use crate::checks::{drawn, gradient, refusal, same_everywhere, values};

    #[test]
    fn linear_is_a_product_and_a_sum() -> Result<()> {
        let input = Tensor::new(&[[1_f32, 2.0], [3.0, 4.0], [0.0, -1.0]], &Device::Cpu)?;
        let weight = Tensor::new(&[[1_f32, 0.0], [10.0, 1.0]], &Device::Cpu)?;
        let bias = Tensor::new(&[0.5_f32, -0.5], &Device::Cpu)?;
        let out = linear(&input, &weight, Some(&bias))?;
        assert_eq!(out.to_vec2::<f32>()?, [[1.5, 11.5], [3.5, 33.5], [0.5, -1.5]]);
        let out = linear(&input.get(1)?, &weight, None)?;
        assert_eq!(out.to_vec1::<f32>()?, [3.0, 34.0]);
        assert_eq!(linear(&input.narrow(0, 0, 0)?, &weight, None)?.dims(), [0, 2]);
        Ok(())
    }

    #[test]
    fn linear_takes_operands_of_any_strides() -> Result<()> {
        let (input, weight) = (drawn(1, &[4, 3, 5])?, drawn(2, &[6, 5])?);
        let plain = values(&linear(&input, &weight, None)?)?;
        let (input, weight) = (input.transpose(0, 2)?.contiguous()?, weight.t()?.contiguous()?);
        let strided = linear(&input.transpose(0, 2)?, &weight.t()?, None)?;
        assert_eq!(strided.dims(), [4, 3, 6]);
        assert_eq!(values(&strided)?, plain);
        Ok(())
    }

    #[test]
    fn linear_has_the_same_bits_on_any_number_of_threads() -> Result<()> {
        // More than one part, the last one not full.
        let rows = 2 * PART_ROWS + 9;
        let (weight, bias) = (drawn(4, &[11, 37])?, drawn(5, &[11])?);
        same_everywhere(|| {
            let variables = [drawn(3, &[rows, 37])?, weight.clone(), bias.clone()];
            let [input, weight, bias] = variables.each_ref().map(Var::from_tensor);
            let (input, weight, bias) = (input?, weight?, bias?);
            let out = linear(&input, &weight, Some(&bias))?;
            let gradients = out.sqr()?.sum_all()?.backward()?;
            let mut told = values(&out)?;
            for variable in [&input, &weight, &bias] {
                told.extend(gradient(&gradients, variable)?);
            }
            Ok(told)
        });
        Ok(())
    }

    #[test]
    fn linear_of_constant_input_makes_no_gradient_for_it() -> Result<()> {
        let (input, weight) = (drawn(6, &[3, 4])?, Var::from_tensor(&drawn(7, &[2, 4])?)?);
        let gradients = linear(&input, &weight, None)?.sum_all()?.backward()?;
        assert!(gradients.get(&input).is_none() && gradients.get(&weight).is_some());
        Ok(())
    }

    #[test]
    fn linear_refuses_what_does_not_fit() -> Result<()> {
        let (input, weight) = (drawn(8, &[3, 4])?, drawn(9, &[2, 5])?);
        let message = refusal(linear(&input, &weight, None));
        assert!(message.contains("linear: input [3, 4] does not fit weight [2, 5]"), "{message}");
        let message = refusal(linear(&drawn(8, &[3, 5])?, &weight, Some(&drawn(9, &[3])?)));
        assert!(message.contains("linear: bias [3] does not fit weight [2, 5]"), "{message}");
        Ok(())
    }
}
