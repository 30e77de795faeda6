//! Copies between a CUDA device and memory that the system does not move.
#![expect(unsafe_code, reason = "such memory holds anything at first")]

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaStream, DeviceRepr, PinnedHostSlice, sys,
};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Result, Shape, Storage, Tensor, bail};

/// Memory that a device reads and writes by itself, and where in its work the last copy is.
///
/// The memory would keep such an event too, but not for a device whose events are off.
#[derive(Debug)]
struct Pinned<T> {
    memory: PinnedHostSlice<T>,
    copied: CudaEvent,
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        // A device that fails here has failed before, and copies nothing any more.
        let _ = self.copied.synchronize();
    }
}

impl<T: DeviceRepr> Pinned<T> {
    /// The earlier memory, once its copy is over, where it has this length; else some that holds
    /// anything.
    fn of_length(
        earlier: Option<Self>,
        len: usize,
        stream: &CudaStream,
        flags: u32,
    ) -> Result<Self> {
        match earlier {
            Some(pinned) if pinned.memory.len() == len => {
                pinned.copied.synchronize().w()?;
                Ok(pinned)
            }
            _ => {
                let copied = stream.context().new_event(None).w()?;
                // SAFETY: whoever takes it writes it before reading it.
                let memory = unsafe { stream.context().alloc_pinned_with_flags(len, flags).w()? };
                Ok(Self { memory, copied })
            }
        }
    }
}

/// Memory that the host reads.
const READ: u32 = 0;
/// Memory that the host only writes, which it need not keep in its cache.
const WRITTEN: u32 = sys::CU_MEMHOSTALLOC_WRITECOMBINED;

/// A copy that is under way, or over.
#[derive(Debug)]
pub(super) struct Coming(Pinned<f64>);

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
        let earlier = earlier.map(|Self(pinned)| pinned);
        let mut pinned = Pinned::of_length(earlier, end - start, &stream, READ)?;
        let values = storage.as_cuda_slice::<f64>()?.slice(start..end);
        stream.memcpy_dtoh(&values, &mut pinned.memory).w()?;
        pinned.copied.record(&stream).w()?;
        Ok(Self(pinned))
    }

    /// The values, once they are there.
    pub(super) fn wait(&self) -> Result<Vec<f64>> {
        self.0.copied.synchronize().w()?;
        Ok(self.0.memory.as_slice().w()?.to_vec())
    }
}

/// Bytes from which a copy is under way, or over.
#[derive(Debug)]
pub(super) struct Staged(Pinned<u8>);

impl Staged {
    /// Starts to copy bytes, from the memory of an earlier copy where they fit.
    pub(super) fn send(
        earlier: Option<Self>,
        parts: &[&[u8]],
        shape: Shape,
        device: &CudaDevice,
    ) -> Result<(Self, Tensor)> {
        let stream = device.cuda_stream();
        let earlier = earlier.map(|Self(pinned)| pinned);
        let mut pinned = Pinned::of_length(earlier, shape.elem_count(), &stream, WRITTEN)?;
        let mut place = pinned.memory.as_mut_slice().w()?;
        for part in parts {
            let (head, rest) = place.split_at_mut(part.len());
            head.copy_from_slice(part);
            place = rest;
        }
        let slice = stream.clone_htod(&pinned.memory).w()?;
        pinned.copied.record(&stream).w()?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
        let tensor = Tensor::from_storage(storage, shape, BackpropOp::none(), false);
        Ok((Self(pinned), tensor))
    }
}
