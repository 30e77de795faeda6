//! What the driver says of devices, and how one is opened.
#![expect(unsafe_code, reason = "a driver is asked through raw pointers")]

use std::ffi::c_void;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, DriverError, result,
    sys::{self, CUdevice_attribute, CUmemPool_attribute, CUresult},
};
use candle_core::{CudaDevice, Device, Result, bail};

use super::{CudaDeviceInfo, DeviceMemory};

/// The devices that answer.
pub(super) fn devices() -> Result<Vec<CudaDeviceInfo>> {
    let n = match CudaContext::device_count() {
        Ok(n) => n,
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
        Err(error) => bail!("the NVIDIA driver cannot be used: {error}"),
    };
    (0..n).map(info).collect()
}

fn info(ordinal: i32) -> Result<CudaDeviceInfo> {
    let device = result::device::get(ordinal).w()?;
    let attribute = |which| {
        // SAFETY: the driver has just given the device.
        unsafe { result::device::get_attribute(device, which) }.w()
    };
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(CudaDeviceInfo {
        ordinal: ordinal as usize,
        name: result::device::get_name(device).w()?,
        compute_capability: (major as u32, minor as u32),
    })
}

/// A device with one stream.
pub(super) fn open(ordinal: usize) -> Result<Device> {
    // candle's other way gives every thread a stream of its own.
    let device = CudaDevice::new_with_stream(ordinal)?;
    // SAFETY: there is one stream, so that no event is needed to order the uses of memory.
    unsafe { device.disable_event_tracking() };
    if let Some(pool) = pool(&device)? {
        // Else every wait for the device gives all free memory back to the system, and the next
        // step has to ask for it again.
        pool.set(CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    }
    Ok(Device::Cuda(device))
}

/// How full the memory is. Memory that the pool keeps for later counts as available.
pub(super) fn memory(device: &CudaDevice) -> Result<DeviceMemory> {
    let (free, total) = device.cuda_stream().context().mem_get_info().w()?;
    let (free, total) = (free as u64, total as u64);
    let Some(pool) = pool(device)? else {
        let used = total - free;
        return Ok(DeviceMemory { total, available: free, used, peak: used });
    };
    let reserved = pool.get(CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
    let used = pool.get(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
    let peak = pool.get(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?;
    let available = free + reserved.saturating_sub(used);
    Ok(DeviceMemory { total, available, used, peak })
}

/// Lets the peak begin at what is used now.
pub(super) fn forget_peak(device: &CudaDevice) -> Result<()> {
    match pool(device)? {
        // Zero is the one value that the driver takes.
        Some(pool) => pool.set(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0),
        None => Ok(()),
    }
}

/// Where a device's memory comes from.
struct Pool(sys::CUmemoryPool);

/// The pool of a device; none on those that have none.
fn pool(device: &CudaDevice) -> Result<Option<Pool>> {
    let stream = device.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(None);
    }
    let mut pool = std::ptr::null_mut();
    // SAFETY: the place is one for a pool, and the device is that of a context in use.
    unsafe { sys::cuDeviceGetMemPool(&mut pool, context.cu_device()) }.result().w()?;
    Ok(Some(Pool(pool)))
}

impl Pool {
    fn get(&self, attribute: CUmemPool_attribute) -> Result<u64> {
        let mut value = 0_u64;
        let place = std::ptr::from_mut(&mut value).cast::<c_void>();
        // SAFETY: the attributes asked for here are numbers of 64 bits.
        unsafe { sys::cuMemPoolGetAttribute(self.0, attribute, place) }.result().w()?;
        Ok(value)
    }

    fn set(&self, attribute: CUmemPool_attribute, mut value: u64) -> Result<()> {
        let place = std::ptr::from_mut(&mut value).cast::<c_void>();
        // SAFETY: the attributes set here are numbers of 64 bits.
        unsafe { sys::cuMemPoolSetAttribute(self.0, attribute, place) }.result().w()
    }
}
