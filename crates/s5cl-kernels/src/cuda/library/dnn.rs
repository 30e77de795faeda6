//! Convolutions by cuDNN.
//!
//! For each shape, the algorithms that cuDNN's heuristics propose are tried in order, those alone
//! that give the same bits each time, and the first that runs is kept. Maps and weights lie with
//! their channels last, in which order every type has tensor cores.
#![expect(unsafe_code, reason = "the library takes raw pointers")]

mod algorithm;
mod descriptors;

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::cuda_backend::{DeviceId, WrapErr};
use candle_core::{CudaDevice, Error, Result, bail};

use super::{Convolution, Finish, Operands};
use crate::cuda::stored::{Stored, StoredType};
use algorithm::{Algorithm, Candidate, candidates};
use descriptors::Descriptors;

thread_local! {
    /// A handle must not be used by two threads at a time, so each has its own, as in candle.
    static HANDLES: RefCell<HashMap<DeviceId, Dnn>> = RefCell::default();
}

/// Runs a pass. False if it must add to what is there or finish what it writes, and no algorithm
/// can.
///
/// # Safety
///
/// The operands must reach as far as the geometry says.
pub(super) unsafe fn convolve<T: Stored>(
    device: &CudaDevice,
    convolution: &Convolution,
    operands: Operands<T>,
    finish: Option<Finish<T>>,
) -> Result<bool> {
    device.cuda_stream().context().bind_to_thread().w()?;
    HANDLES.with_borrow_mut(|handles| {
        let dnn = match handles.entry(device.id()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Dnn::new(device)?),
        };
        // SAFETY: the caller's promise.
        unsafe { dnn.convolve(convolution, operands, finish) }
    })
}

/// cuDNN on a device, for one thread.
struct Dnn {
    handle: sys::cudnnHandle_t,
    device: CudaDevice,
    plans: HashMap<(Convolution, StoredType, Option<Kind>), Plan>,
    /// Room for intermediate values, for one convolution after the other.
    workspace: Option<CudaSlice<u8>>,
}

/// Which kind of [`Finish`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    has_residual: bool,
    relu: bool,
}

/// How a pass over known shapes is done.
struct Plan {
    descriptors: Descriptors,
    chosen: Option<Chosen>,
}

#[derive(Clone, Copy)]
struct Chosen {
    algorithm: Algorithm,
    workspace_bytes: usize,
}

impl Drop for Dnn {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: the handle is destroyed once. That this fails at a program's end hurts nobody.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Dnn {
    fn new(device: &CudaDevice) -> Result<Self> {
        let failed = |error| Error::Msg(format!("cuDNN cannot be used: {error}"));
        let handle = result::create_handle().map_err(failed)?;
        let stream = device.cuda_stream();
        let dnn = Self { handle, device: device.clone(), plans: HashMap::new(), workspace: None };
        // SAFETY: both are valid, and the stream lives as long as the device.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }.map_err(failed)?;
        Ok(dnn)
    }

    /// # Safety
    ///
    /// The operands must reach as far as the geometry says.
    unsafe fn convolve<T: Stored>(
        &mut self,
        convolution: &Convolution,
        operands: Operands<T>,
        finish: Option<Finish<T>>,
    ) -> Result<bool> {
        let memory = Addresses::new(operands, finish);
        let kind =
            finish.map(|finish| Kind { has_residual: memory.residual != 0, relu: finish.relu });
        let key = (*convolution, T::TYPE, kind);
        if let Some(plan) = self.plans.get(&key) {
            let (descriptors, chosen) = (plan.descriptors.raw(), plan.chosen);
            let Some(Chosen { algorithm, workspace_bytes }) = chosen else { return Ok(false) };
            let workspace = self.workspace(workspace_bytes)?;
            // SAFETY: the caller's promise; the workspace is as large as was asked for.
            let run = unsafe {
                algorithm.run(self.handle, descriptors, memory, workspace, convolution.adds)
            };
            return match run {
                Ok(()) => Ok(true),
                Err(error) => bail!("cuDNN: {convolution:?} failed: {error}"),
            };
        }
        // SAFETY: the caller's promise.
        let plan = unsafe { self.plan(convolution, T::TYPE, kind, memory)? };
        let has_run = plan.chosen.is_some();
        self.plans.insert(key, plan);
        Ok(has_run)
    }

    /// Runs a pass for the first time, by the first algorithm that takes it.
    ///
    /// # Safety
    ///
    /// The operands must reach as far as the geometry says.
    unsafe fn plan(
        &mut self,
        convolution: &Convolution,
        stored: StoredType,
        kind: Option<Kind>,
        memory: Addresses,
    ) -> Result<Plan> {
        let described = Descriptors::new(convolution, stored, kind);
        let descriptors =
            described.map_err(|e| Error::Msg(format!("cuDNN refuses {convolution:?}: {e}")))?;
        let raw = descriptors.raw();
        let mut refusals = String::new();
        // SAFETY: the descriptors are valid as long as the plan.
        for Candidate { algorithm, math } in unsafe { candidates(self.handle, raw, convolution) } {
            // SAFETY: as above.
            let wanted = unsafe {
                let math_is_set = result::set_convolution_math_type(raw.convolution, math);
                math_is_set.and_then(|()| algorithm.workspace_bytes(self.handle, raw))
            };
            let run = wanted.map_err(Error::wrap).and_then(|workspace_bytes| {
                let workspace = self.workspace(workspace_bytes)?;
                // SAFETY: the caller's promise; the workspace is as large as was asked for.
                unsafe { algorithm.run(self.handle, raw, memory, workspace, convolution.adds) }
                    .map_err(Error::wrap)?;
                Ok(Chosen { algorithm, workspace_bytes })
            });
            match run {
                Ok(chosen) => return Ok(Plan { descriptors, chosen: Some(chosen) }),
                Err(error) => refusals += &format!("; {algorithm:?}, {math:?}: {error}"),
            }
        }
        if convolution.adds || kind.is_some() {
            return Ok(Plan { descriptors, chosen: None });
        }
        bail!("cuDNN has no algorithm for {stored:?} {convolution:?}{refusals}")
    }

    /// Room for so many bytes.
    fn workspace(&mut self, bytes: usize) -> Result<Workspace> {
        if bytes == 0 {
            return Ok(Workspace { start: std::ptr::null_mut(), bytes });
        }
        if self.workspace.as_ref().is_none_or(|workspace| workspace.len() < bytes) {
            // What is too small goes back first: both may not fit.
            self.workspace = None;
            // SAFETY: nothing reads it before an algorithm wrote it.
            self.workspace = Some(unsafe { self.device.alloc::<u8>(bytes)? });
        }
        let stream = self.device.cuda_stream();
        let start = self.workspace.as_ref().map_or(0, |workspace| workspace.device_ptr(&stream).0);
        Ok(Workspace { start: start as *mut c_void, bytes })
    }
}

/// Where operands are; 0 for none.
#[derive(Clone, Copy)]
struct Addresses {
    maps: u64,
    weight: u64,
    output: u64,
    bias: u64,
    residual: u64,
}

impl Addresses {
    fn new<T: Stored>(operands: Operands<T>, finish: Option<Finish<T>>) -> Self {
        Self {
            maps: operands.maps.address(),
            weight: operands.weight.address(),
            output: operands.output.address(),
            bias: finish.map_or(0, |finish| finish.bias.address()),
            residual: finish.map_or(0, |finish| finish.residual.address()),
        }
    }
}

/// Room for an algorithm's intermediate values.
#[derive(Clone, Copy)]
struct Workspace {
    start: *mut c_void,
    bytes: usize,
}
