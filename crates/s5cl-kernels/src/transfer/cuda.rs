//! Copies between a CUDA device and memory that the system does not move.
#![expect(unsafe_code, reason = "such memory holds anything at first")]

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PinnedHostSlice;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Result, Shape, Storage, Tensor, bail};

/// A copy that is under way, or over.
#[derive(Debug)]
pub(super) struct Coming(PinnedHostSlice<f64>);

impl Coming {
    /// Starts to copy contiguous values, into the memory of an earlier copy where it fits.
    pub(super) fn send(
        earlier: Option<Self>,
        values: &Tensor,
        device: &CudaDevice,
    ) -> Result<Self> {
        let (storage, layout) = values.storage_and_layout();
        let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            bail!("readback: expected contiguous values on a GPU, got {layout:?}")
        };
        let stream = device.cuda_stream();
        let mut memory = match earlier {
            Some(Self(memory)) if memory.len() == end - start => memory,
            // SAFETY: nobody reads it before the copy into it is over.
            _ => unsafe { stream.context().alloc_pinned_with_flags(end - start, 0).w()? },
        };
        let values = storage.as_cuda_slice::<f64>()?.slice(start..end);
        // The memory keeps an event behind the copy, for which it waits before it is read or freed.
        stream.memcpy_dtoh(&values, &mut memory).w()?;
        Ok(Self(memory))
    }

    /// The values, once they are there.
    pub(super) fn wait(&self) -> Result<Vec<f64>> {
        Ok(self.0.as_slice().w()?.to_vec())
    }
}

/// Bytes from which a copy is under way, or over.
#[derive(Debug)]
pub(super) struct Staged(PinnedHostSlice<u8>);

impl Staged {
    /// Starts to copy bytes, from the memory of an earlier copy where they fit.
    pub(super) fn send(
        earlier: Option<Self>,
        parts: &[&[u8]],
        shape: Shape,
        device: &CudaDevice,
    ) -> Result<(Self, Tensor)> {
        let stream = device.cuda_stream();
        let len = shape.elem_count();
        let mut memory = match earlier {
            Some(Self(memory)) if memory.len() == len => memory,
            // SAFETY: it is written as a whole before anything is copied from it.
            _ => unsafe { stream.context().alloc_pinned(len).w()? },
        };
        // Waits for the earlier copy, which lies before a whole step and is over.
        let mut place = memory.as_mut_slice().w()?;
        for part in parts {
            let (head, rest) = place.split_at_mut(part.len());
            head.copy_from_slice(part);
            place = rest;
        }
        let storage = CudaStorage::wrap_cuda_slice(stream.clone_htod(&memory).w()?, device.clone());
        let tensor = Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false);
        Ok((Self(memory), tensor))
    }
}
