//! Products of matrices with what follows them, by cuBLASLt.
//!
//! For each shape, the algorithm that the library's heuristics propose is kept. Parts of long sums
//! are added in f32 and in order, so the same bits come each time.
#![expect(unsafe_code, reason = "the library takes raw pointers")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::cuda_backend::{DeviceId, WrapErr};
use candle_core::{CudaDevice, Error, Result};

use super::{Finish, MatrixProduct};
use crate::cuda::Pointer;
use crate::cuda::stored::{Stored, StoredType};

/// What the library's functions return.
type Done<T> = std::result::Result<T, CublasError>;

/// Room for intermediate values, as NVIDIA advises for Hopper.
const WORKSPACE_BYTES: usize = 32 * 1024 * 1024;

/// What every operand's address is a multiple of.
const ALIGNED: u32 = 16;

thread_local! {
    /// Each thread has a workspace of its own.
    static HANDLES: RefCell<HashMap<DeviceId, Lt>> = RefCell::default();
}

/// Runs a product. False, and nothing is written, if the library has no algorithm for all that.
///
/// # Safety
///
/// The operands must reach as far as the sizes say, and the bias have as many values as columns.
pub(super) unsafe fn multiply<T: Stored>(
    device: &CudaDevice,
    product: &MatrixProduct<T>,
    finish: Finish<T>,
) -> Result<bool> {
    let MatrixProduct { left, right, out, .. } = product;
    let operands = [left.values, right.values, *out, finish.bias, finish.residual];
    if operands.iter().any(|operand| !operand.address().is_multiple_of(ALIGNED.into())) {
        return Ok(false);
    }
    device.cuda_stream().context().bind_to_thread().w()?;
    HANDLES.with_borrow_mut(|handles| {
        let lt = match handles.entry(device.id()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Lt::new(device)?),
        };
        // SAFETY: the caller's promise.
        unsafe { lt.multiply(product, finish) }
    })
}

/// cuBLASLt on a device, for one thread.
struct Lt {
    handle: sys::cublasLtHandle_t,
    device: CudaDevice,
    workspace: CudaSlice<u8>,
    /// Nothing where the library has no algorithm.
    plans: HashMap<Kind, Option<Plan>>,
}

/// What an algorithm is chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    rows: usize,
    cols: usize,
    depth: usize,
    are_transposed: [bool; 2],
    stored: StoredType,
    rounds_factors: bool,
    has_residual: bool,
    relu: bool,
}

impl Drop for Lt {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: the handle is destroyed once. That this fails at a program's end hurts nobody.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Lt {
    fn new(device: &CudaDevice) -> Result<Self> {
        // SAFETY: nothing reads it before an algorithm wrote it.
        let workspace = unsafe { device.alloc::<u8>(WORKSPACE_BYTES)? };
        let failed = |error| Error::Msg(format!("cuBLASLt cannot be used: {error}"));
        let handle = result::create_handle().map_err(failed)?;
        Ok(Self { handle, device: device.clone(), workspace, plans: HashMap::new() })
    }

    /// # Safety
    ///
    /// The operands must reach as far as the sizes say.
    unsafe fn multiply<T: Stored>(
        &mut self,
        product: &MatrixProduct<T>,
        finish: Finish<T>,
    ) -> Result<bool> {
        let MatrixProduct { left, right, rows, cols, depth, rounds_factors, .. } = *product;
        let kind = Kind {
            rows,
            cols,
            depth,
            are_transposed: [left.is_transposed, right.is_transposed],
            stored: T::TYPE,
            rounds_factors,
            has_residual: finish.residual.address() != Pointer::<T>::NULL.address(),
            relu: finish.relu,
        };
        if let Some(plan) = self.plans.get(&kind) {
            let Some(plan) = plan else { return Ok(false) };
            // SAFETY: the caller's promise.
            let run = unsafe { self.run(plan, product, finish) };
            let failed =
                |error| Error::Msg(format!("cuBLASLt: {rows} x {cols} x {depth}: {error}"));
            return run.map(|()| true).map_err(failed);
        }
        // What the library does not take the first time it never takes.
        let plan = Plan::new(self.handle, kind, finish.bias.address()).ok().filter(|plan| {
            // SAFETY: the caller's promise.
            unsafe { self.run(plan, product, finish) }.is_ok()
        });
        let has_run = plan.is_some();
        self.plans.insert(kind, plan);
        Ok(has_run)
    }

    /// # Safety
    ///
    /// The operands must reach as far as the plan's sizes say.
    unsafe fn run<T: Stored>(
        &self,
        plan: &Plan,
        product: &MatrixProduct<T>,
        finish: Finish<T>,
    ) -> Done<()> {
        let out = product.out.address();
        let (added, share) = match finish.residual.address() {
            0 => (out, 0.0_f32),
            residual => (residual, 1.0),
        };
        let (one, stream) = (1.0_f32, self.device.cuda_stream());
        let number = |number: &f32| std::ptr::from_ref(number).cast::<c_void>();
        let Plan { product: of, layouts: [first, second, result], algorithm } = plan;
        let bias = finish.bias.address();
        let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
        // SAFETY: the caller's promise; the workspace is as large as is said.
        unsafe {
            set(*of, attribute, &bias)?;
            result::matmul(
                self.handle,
                *of,
                number(&one),
                number(&share),
                product.right.values.address() as *const c_void,
                *first,
                product.left.values.address() as *const c_void,
                *second,
                added as *const c_void,
                *result,
                out as *mut c_void,
                *result,
                algorithm,
                self.workspace.device_ptr(&stream).0 as *mut c_void,
                WORKSPACE_BYTES,
                stream.cu_stream().cast(),
            )
        }
    }
}

/// How a product of a kind is done. The library's matrices lie column by column: it multiplies the
/// transposed ones, the right one first.
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: each was made by the library, and is destroyed once. That this fails hurts nobody.
        unsafe {
            let _ = result::destroy_matmul_desc(self.product);
            for layout in self.layouts {
                if !layout.is_null() {
                    let _ = result::destroy_matrix_layout(layout);
                }
            }
        }
    }
}

/// # Safety
///
/// The descriptor must be valid, and the value be of the attribute's type.
unsafe fn set<V>(
    of: sys::cublasLtMatmulDesc_t,
    attribute: sys::cublasLtMatmulDescAttributes_t,
    value: &V,
) -> Done<()> {
    let value = std::ptr::from_ref(value);
    // SAFETY: the caller's promise.
    unsafe { result::set_matmul_desc_attribute(of, attribute, value.cast(), size_of::<V>()) }
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, kind: Kind, bias: u64) -> Done<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let data = match kind.stored {
            StoredType::F32 => sys::cudaDataType_t::CUDA_R_32F,
            StoredType::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
            StoredType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        };
        let compute = match kind.rounds_factors {
            true => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            false => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let epilogue = match kind.relu {
            true => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU_BIAS,
            false => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
        };
        let operation = |is_transposed: bool| match is_transposed {
            true => cublasOperation_t::CUBLAS_OP_T,
            false => cublasOperation_t::CUBLAS_OP_N,
        };
        let Kind { rows, cols, depth, are_transposed: [left, right], .. } = kind;
        let product = result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F)?;
        let algorithm = sys::cublasLtMatmulAlgo_t { data: [0; 8] };
        let mut plan = Self { product, layouts: [std::ptr::null_mut(); 3], algorithm };
        // SAFETY: the descriptor was just made, and each value is of its attribute's type.
        unsafe {
            set(product, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &operation(right))?;
            set(product, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &operation(left))?;
            set(product, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            // The heuristics want to see one.
            set(product, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        // As they lie in memory: a row of ours is a column of the library's.
        let of_right = if right { [depth, cols] } else { [cols, depth] };
        let of_left = if left { [rows, depth] } else { [depth, rows] };
        for (layout, [len, n]) in plan.layouts.iter_mut().zip([of_right, of_left, [cols, rows]]) {
            *layout = result::create_matrix_layout(data, len as u64, n as u64, len as i64)?;
        }
        plan.algorithm = plan.proposed(handle)?;
        Ok(plan)
    }

    /// The heuristics' first proposal.
    fn proposed(&self, handle: sys::cublasLtHandle_t) -> Done<sys::cublasLtMatmulAlgo_t> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        const IN_F32: u32 =
            sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let preference = result::create_matmul_pref()?;
        let small = |attribute: Attribute, value: u32| {
            let value = std::ptr::from_ref(&value);
            // SAFETY: the preference is valid until below, and the value of the attribute's type.
            unsafe {
                let bytes = size_of::<u32>();
                result::set_matmul_pref_attribute(preference, attribute, value.cast(), bytes)
            }
        };
        let propose = || {
            small(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, IN_F32)?;
            for operand in [
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
            ] {
                small(operand, ALIGNED)?;
            }
            let most = Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            let bytes = std::ptr::from_ref(&WORKSPACE_BYTES).cast();
            let [first, second, out] = self.layouts;
            // SAFETY: everything is valid as long as the plan.
            unsafe {
                let size = size_of::<usize>();
                result::set_matmul_pref_attribute(preference, most, bytes, size)?;
                let of = self.product;
                result::get_matmul_algo_heuristic(handle, of, first, second, out, out, preference)
            }
        };
        let proposed = propose();
        // SAFETY: it is destroyed once. That this fails hurts nobody.
        let _ = unsafe { result::destroy_matmul_pref(preference) };
        proposed.map(|proposed| proposed.algo)
    }
}
