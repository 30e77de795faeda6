//! Rows of a matrix times a factor each.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::simd;
use crate::values::{Values, operand};

/// Sums of a row that are taken side by side.
const LANES: usize = 32;

/// Multiplies each row by a factor of its own, as layer scale does with the weight of the layer
/// before it.
///
/// ```text
/// y[r, c] = x[r, c] * factors[r]
/// ```
///
/// # Shapes
///
/// - `rows`: f32 `[n_rows, n_columns]`
/// - `factors`: f32 `[n_rows]`
/// - result: f32 `[n_rows, n_columns]`
///
/// # Errors
///
/// If the shapes do not fit, a tensor is not f32, or they are not on one device.
pub fn scale_rows(rows: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let n_rows = rows.dims2()?.0;
    if factors.dims() != [n_rows] {
        bail!("scale_rows: factors {:?} do not fit rows {:?}", factors.shape(), rows.shape())
    }
    if rows.device().is_cpu() {
        rows.contiguous()?.apply_op2(&factors.contiguous()?, ScaleRows)
    } else {
        rows.broadcast_mul(&factors.unsqueeze(1)?)
    }
}

struct ScaleRows;

impl CustomOp2 for ScaleRows {
    fn name(&self) -> &'static str {
        "scale_rows"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        rows_layout: &Layout,
        factors: &CpuStorage,
        factors_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let values = operand(rows, rows_layout, self.name())?;
        let factors = operand(factors, factors_layout, self.name())?;
        Ok((CpuStorage::F32(scaled(values, factors)), rows_layout.shape().clone()))
    }

    fn bwd(
        &self,
        rows: &Tensor,
        factors: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let gradient = Values::of(&gradient, self.name())?;
        let of_rows = scaled(&gradient, &Values::of(factors, self.name())?);
        let of_factors = products(&Values::of(rows, self.name())?, &gradient, factors.elem_count());
        Ok((
            Some(Tensor::from_vec(of_rows, rows.shape(), rows.device())?),
            Some(Tensor::from_vec(of_factors, factors.shape(), factors.device())?),
        ))
    }
}

fn scaled(rows: &[f32], factors: &[f32]) -> Vec<f32> {
    let n_columns = (rows.len() / factors.len().max(1)).max(1);
    let mut out = vec![0.0; rows.len()];
    let operands = rows.par_chunks(n_columns).zip(factors);
    out.par_chunks_mut(n_columns).zip(operands).for_each(|(out, (row, &factor))| {
        simd::dispatch(
            #[inline(always)]
            || {
                for (out, value) in out.iter_mut().zip(row) {
                    *out = value * factor;
                }
            },
        );
    });
    out
}

/// The inner product of each row with that of another matrix.
fn products(rows: &[f32], others: &[f32], n_rows: usize) -> Vec<f32> {
    let n_columns = (rows.len() / n_rows.max(1)).max(1);
    let pairs = rows.par_chunks(n_columns).zip(others.par_chunks(n_columns));
    let product = |(row, other): (&[f32], &[f32])| {
        simd::dispatch(
            #[inline(always)]
            || {
                let mut sums = [0.0_f32; LANES];
                for (row, other) in row.chunks(LANES).zip(other.chunks(LANES)) {
                    for ((sum, value), other) in sums.iter_mut().zip(row).zip(other) {
                        *sum += value * other;
                    }
                }
                sums.iter().sum::<f32>()
            },
        )
    };
    pairs.map(product).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{Result, Var};

    use super::scale_rows;
    use crate::checks::{assert_close, drawn, gradient, refusal, same_on_any_threads, values};

    /// Sums of some hundred f32 products.
    const TOLERANCE: f64 = 2e-6;

    #[test]
    fn scale_rows_is_candles_product() -> Result<()> {
        for (n_rows, n_columns) in [(1, 1), (5, 7), (33, 130), (64, 1)] {
            let rows = Var::from_tensor(&drawn(1, &[n_rows, n_columns])?)?;
            let factors = Var::from_tensor(&drawn(2, &[n_rows])?)?;
            let above = drawn(3, &[n_rows, n_columns])?;
            let results =
                [scale_rows(&rows, &factors)?, rows.broadcast_mul(&factors.unsqueeze(1)?)?];
            let [ours, theirs] = results.map(|result| -> Result<[Vec<f32>; 3]> {
                let gradients = (&result * &above)?.sum_all()?.backward()?;
                Ok([
                    values(&result)?,
                    gradient(&gradients, &rows)?,
                    gradient(&gradients, &factors)?,
                ])
            });
            for (ours, theirs) in ours?.iter().zip(theirs?) {
                let theirs: Vec<f64> = theirs.into_iter().map(f64::from).collect();
                assert_close(&format!("{n_rows} x {n_columns}"), ours, &theirs, TOLERANCE);
            }
        }
        Ok(())
    }

    #[test]
    fn scale_rows_has_the_same_bits_on_any_threads() -> Result<()> {
        let (rows, factors) = (drawn(1, &[70, 50])?, drawn(2, &[70])?);
        same_on_any_threads(|| {
            let (rows, factors) = (Var::from_tensor(&rows)?, Var::from_tensor(&factors)?);
            let result = scale_rows(&rows, &factors)?;
            let gradients = result.sqr()?.sum_all()?.backward()?;
            let gradients = [gradient(&gradients, &rows)?, gradient(&gradients, &factors)?];
            Ok([values(&result)?, gradients.concat()].concat())
        });
        Ok(())
    }

    #[test]
    fn scale_rows_refuses_factors_that_do_not_fit() -> Result<()> {
        let message = refusal(scale_rows(&drawn(1, &[2, 3])?, &drawn(2, &[3])?));
        assert!(message.contains("[3]") && message.contains("[2, 3]"), "{message}");
        Ok(())
    }
}
