//! The values of CPU tensors as plain slices.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, bail};

/// The values of a contiguous f32 tensor on the CPU, held for reading.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Values<'a> {
    /// Fails when the tensor is not on the CPU, not f32 or not contiguous.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, got strides {:?}", layout.stride())
        };
        if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
            bail!("expected an f32 tensor on the CPU, got {:?}", tensor.dtype())
        }
        Ok(Self { storage, range: start..end })
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
    let CpuStorage::F32(values) = storage else {
        bail!("{op}: expected f32 values, got {:?}", storage_dtype(storage))
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("{op}: expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

/// [`operand`] for an operation that changes it.
pub(crate) fn operand_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
    op: &str,
) -> Result<&'a mut [f32]> {
    let dtype = storage_dtype(storage);
    let CpuStorage::F32(values) = storage else {
        bail!("{op}: expected f32 values, got {dtype:?}")
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut values[start..end]),
        None => bail!("{op}: expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

fn storage_dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}
