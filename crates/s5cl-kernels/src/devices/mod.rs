//! The CUDA devices of a machine, and how full their memory is.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Device, Error, Result};

/// A CUDA device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaDeviceInfo {
    /// Its number, from 0.
    pub ordinal: usize,
    /// Its maker's name for it.
    pub name: String,
    /// Major and minor number of what its processors can do.
    pub compute_capability: (u32, u32),
}

/// What the operations of this crate need at least.
pub const LEAST_COMPUTE_CAPABILITY: (u32, u32) = (8, 0);

/// Memory of a device in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// All there is.
    pub total: u64,
    /// What this process could still use.
    pub available: u64,
    /// What tensors of this process use.
    pub used: u64,
    /// The most that they used since [`forget_peak_memory`].
    pub peak: u64,
}

/// The CUDA devices that answer; none where this crate is built without the feature `cuda`.
///
/// # Errors
///
/// If there is a driver that cannot be used.
pub fn cuda_devices() -> Result<Vec<CudaDeviceInfo>> {
    #[cfg(feature = "cuda")]
    return cuda::devices();
    #[cfg(not(feature = "cuda"))]
    Ok(Vec::new())
}

/// A CUDA device by its number. All of its work is in one order, whichever threads start it, and
/// memory that was given back is kept for the next step.
///
/// # Errors
///
/// If there is no such device, or this crate is built without the feature `cuda`.
pub fn open_cuda_device(ordinal: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return cuda::open(ordinal);
    #[cfg(not(feature = "cuda"))]
    candle_core::bail!("there is no cuda:{ordinal} without the feature cuda")
}

/// The memory of a CUDA device; none for the CPU.
///
/// # Errors
///
/// If the driver does not tell.
pub fn device_memory(device: &Device) -> Result<Option<DeviceMemory>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::memory(device).map(Some),
        _ => Ok(None),
    }
}

/// Lets the peak of [`device_memory`] begin at what is used now.
///
/// # Errors
///
/// If the driver fails.
pub fn forget_peak_memory(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::forget_peak(device),
        _ => Ok(()),
    }
}

/// Whether a computation failed because a CUDA device has no memory left.
#[must_use]
pub fn is_out_of_memory(error: &Error) -> bool {
    /// The names of the driver, cuBLAS and cuDNN for it.
    const NAMES: [&str; 3] =
        ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"];
    // Errors are wrapped in several ways, by candle and by the operations here; all are quoted.
    let message = error.to_string();
    NAMES.iter().any(|name| message.contains(name))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Error, Result};

    use super::{device_memory, forget_peak_memory, is_out_of_memory};

    #[test]
    fn is_out_of_memory_knows_the_error_however_it_is_wrapped() {
        let message = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let cuda = || Error::Cuda(message.into());
        assert!(is_out_of_memory(&cuda()) && is_out_of_memory(&cuda().context("conv2d").bt()));
        assert!(is_out_of_memory(&Error::Msg("workspace: CUDNN_STATUS_ALLOC_FAILED".into())));
        assert!(!is_out_of_memory(&Error::Cuda("CUDA_ERROR_ILLEGAL_ADDRESS".into())));
    }

    #[test]
    fn device_memory_is_that_of_a_gpu() -> Result<()> {
        assert_eq!(device_memory(&Device::Cpu)?, None);
        forget_peak_memory(&Device::Cpu)
    }
}
