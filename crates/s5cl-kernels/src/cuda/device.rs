//! A CUDA device of candle as a [`Gpu`].
#![expect(unsafe_code, reason = "a driver is asked for memory and kernels by raw pointers")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits, result, sys,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDType, DeviceId, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Error, Layout, Result, Shape, Storage, Tensor, bail};

use super::{Argument, Gpu, Launch, Memory, Plain, Pointer};

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Shared memory that a kernel has without asking.
const SHARED_BYTES: u32 = 48 * 1024;

/// A CUDA device.
#[derive(Clone)]
pub(crate) struct CudaGpu {
    device: CudaDevice,
}

impl CudaGpu {
    /// The device of an operand.
    pub(crate) fn of(device: &CudaDevice) -> Self {
        Self { device: device.clone() }
    }

    /// candle's handle.
    pub(crate) fn device(&self) -> &CudaDevice {
        &self.device
    }

    /// Values as the result of an operation.
    pub(crate) fn storage<T: CudaDType + Plain + DeviceRepr>(
        &self,
        values: Memory<Self, T>,
    ) -> CudaStorage {
        let len = values.len;
        let address = values._owned.leak();
        // SAFETY: the memory was allocated on this stream for so many values, and has no other
        // owner now.
        let slice = unsafe { self.device.cuda_stream().upgrade_device_ptr::<T>(address, len) };
        CudaStorage::wrap_cuda_slice(slice, self.device.clone())
    }

    /// Values as a tensor without history.
    pub(crate) fn tensor<T: CudaDType + Plain + DeviceRepr>(
        &self,
        values: Memory<Self, T>,
        shape: impl Into<Shape>,
    ) -> Tensor {
        let storage = Storage::Cuda(self.storage(values));
        Tensor::from_storage(storage, shape, BackpropOp::none(), false)
    }
}

impl Gpu for CudaGpu {
    type Memory = CudaSlice<u8>;

    fn allocate_bytes(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: whoever asks for room writes it before reading it.
        unsafe { self.device.alloc::<u8>(bytes.max(1)) }
    }

    fn address(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.device.cuda_stream()).0
    }

    fn upload<T: Plain>(&self, values: &[T]) -> Result<Memory<Self, T>> {
        let mut memory = self.allocate::<T>(values.len())?;
        // SAFETY: plain values are their bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values))
        };
        if !bytes.is_empty() {
            self.device.memcpy_htod(bytes, &mut memory._owned)?;
        }
        Ok(memory)
    }

    fn clear<T: Plain>(&self, memory: &mut Memory<Self, T>) -> Result<()> {
        self.device.cuda_stream().memset_zeros(&mut memory._owned).w()
    }

    fn n_multiprocessors(&self) -> u32 {
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let count = self.device.cuda_stream().context().attribute(attribute);
        // Only how work is cut depends on it, which one block does too, if slowly.
        count.map_or(1, |count| count.max(1) as u32)
    }

    unsafe fn launch(&self, launch: &Launch, arguments: &[Argument<'_>]) -> Result<()> {
        let function = function(&self.device, launch)?;
        let stream = self.device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let mut addresses: Vec<*mut c_void> = arguments.iter().map(Argument::address).collect();
        // SAFETY: the caller's promise; the function is of this device's context.
        let started = unsafe {
            result::launch_kernel(
                function.cu_function(),
                launch.grid.into(),
                launch.block.into(),
                launch.shared_bytes,
                stream.cu_stream(),
                &mut addresses,
            )
        };
        started.map_err(|error| Error::Msg(format!("cannot start {launch:?}: {error}")))
    }
}

/// A kernel of a device, loaded when it is started for the first time.
fn function(device: &CudaDevice, launch: &Launch) -> Result<CudaFunction> {
    type Functions = HashMap<(DeviceId, &'static str), CudaFunction>;
    static LOADED: Mutex<Option<Functions>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_with(HashMap::new);
    if let Some(function) = loaded.get(&(device.id(), launch.kernel)) {
        return Ok(function.clone());
    }
    let Launch { module, kernel, shared_bytes, .. } = *launch;
    let function = load(device, module, kernel)?;
    if shared_bytes > SHARED_BYTES {
        let attribute =
            sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, shared_bytes as i32).w()?;
    }
    loaded.insert((device.id(), kernel), function.clone());
    Ok(function)
}

fn load(device: &CudaDevice, module: &'static str, kernel: &'static str) -> Result<CudaFunction> {
    let portable = PTX.iter().find(|(name, _)| *name == module);
    if let Some((_, ptx)) = portable {
        return Ok(device.get_or_load_custom_func(kernel, module, ptx)?.into_cuda_function());
    }
    let Some((_, cubin)) = CUBIN.iter().find(|(name, _)| *name == module) else {
        bail!("this program was built without the kernels of {module}")
    };
    let stream = device.cuda_stream();
    let module = stream.context().load_module(Ptx::from_binary(cubin.to_vec())).w()?;
    module.load_function(kernel).w()
}

/// Where the values of a contiguous operand are.
pub(crate) fn operand<T: CudaDType + DeviceRepr>(
    storage: &CudaStorage,
    layout: &Layout,
    op: &str,
) -> Result<Pointer<T>> {
    let Some((start, _end)) = layout.contiguous_offsets() else {
        bail!("{op}: expected a contiguous tensor, got {layout:?}")
    };
    let slice = storage.as_cuda_slice::<T>()?;
    let stream = storage.device.cuda_stream();
    Ok(Pointer::at(slice.device_ptr(&stream).0).offset(start))
}

/// [`operand`] of a tensor, which must outlive the use of the pointer.
pub(crate) fn values<T: CudaDType + DeviceRepr>(tensor: &Tensor, op: &str) -> Result<Pointer<T>> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => operand(storage, layout, op),
        _ => bail!("{op}: expected a tensor on the GPU, got one on {:?}", tensor.device()),
    }
}
