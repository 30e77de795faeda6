//! The values of CPU tensors as plain slices.

use std::ops::{Deref, Range};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, bail};
use rayon::prelude::*;

use crate::simd;

/// The values of a contiguous f32 tensor on the CPU, held for reading.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Values<'a> {
    /// Fails, in the name of `op`, when the tensor is not on the CPU, not f32 or not contiguous.
    pub(crate) fn of(tensor: &'a Tensor, op: &str) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
            let (dtype, shape, device) = (tensor.dtype(), tensor.shape(), tensor.device());
            bail!("{op}: expected f32 on the CPU, got {dtype:?} {shape:?} on {device:?}")
        }
        Ok(Self { storage, range: contiguous(layout, op)? })
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("checked when the view was made"),
        }
    }
}

/// The values of a contiguous f32 operand, as a custom operation is handed them.
pub(crate) fn operand<'a>(storage: &'a CpuStorage, layout: &Layout, op: &str) -> Result<&'a [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(&values[contiguous(layout, op)?]),
        other => bail!("{}", not_f32(other, layout, op)),
    }
}

/// [`operand`] for an operation that changes it.
pub(crate) fn operand_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
    op: &str,
) -> Result<&'a mut [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[contiguous(layout, op)?]),
        other => bail!("{}", not_f32(other, layout, op)),
    }
}

fn contiguous(layout: &Layout, op: &str) -> Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => bail!(
            "{op}: expected a contiguous tensor, got {:?} of strides {:?}",
            layout.shape(),
            layout.stride()
        ),
    }
}

fn not_f32(storage: &CpuStorage, layout: &Layout, op: &str) -> String {
    format!("{op}: expected f32 on the CPU, got {:?} {:?}", storage.dtype(), layout.shape())
}

/// The sum of parts of `len` values each, in f64 and in order, so that it does not depend on who
/// computed which.
pub(crate) fn sum_in_order(parts: &[Vec<f32>], len: usize) -> Vec<f32> {
    let mut totals = vec![0.0_f64; len];
    for part in parts {
        for (total, &value) in totals.iter_mut().zip(part) {
            *total += f64::from(value);
        }
    }
    totals.into_iter().map(|total| total as f32).collect()
}

/// The sum of all rows of `width` values.
pub(crate) fn row_sums(rows: &[f32], width: usize) -> Vec<f32> {
    /// Values of a block, whose rows are added in f32.
    const BLOCK_VALUES: usize = 16 * 1024;
    let block = (BLOCK_VALUES / width).max(1) * width;
    let parts: Vec<Vec<f32>> = rows
        .par_chunks(block)
        .map(|rows| {
            let mut sums = vec![0.0_f32; width];
            simd::dispatch(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact(width) {
                        for (sum, value) in sums.iter_mut().zip(row) {
                            *sum += value;
                        }
                    }
                },
            );
            sums
        })
        .collect();
    sum_in_order(&parts, width)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Result};

    use super::Values;
    use crate::checks::{drawn, refusal};

    #[test]
    fn values_refuse_what_is_not_f32_or_contiguous_and_name_op_and_shape() -> Result<()> {
        let tensor = drawn(1, &[2, 3])?;
        assert_eq!(Values::of(&tensor.narrow(0, 1, 1)?, "op")?.len(), 3);
        let message = refusal(Values::of(&tensor.to_dtype(DType::F64)?, "op"));
        assert!(
            message.contains("op: expected f32 on the CPU, got F64 [2, 3] on Cpu"),
            "{message}"
        );
        let message = refusal(Values::of(&tensor.t()?, "op"));
        assert!(message.contains("op: expected a contiguous tensor, got [3, 2]"), "{message}");
        Ok(())
    }
}
