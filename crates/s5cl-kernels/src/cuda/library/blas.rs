//! Products of matrices by cuBLAS.
#![expect(unsafe_code, reason = "the library takes raw pointers")]

use std::ffi::{c_int, c_void};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::{CudaDevice, Error, Result};

use super::MatrixProduct;
use crate::cuda::stored::{Stored, StoredType};

/// # Safety
///
/// The operands must reach as far as the sizes say.
pub(super) unsafe fn multiply<T: Stored>(
    device: &CudaDevice,
    product: &MatrixProduct<T>,
) -> Result<()> {
    let MatrixProduct { left, right, out, rows, cols, depth, adds, rounds_factors } = *product;
    let size = |n: usize| -> Result<c_int> {
        let message = || Error::Msg(format!("a matrix with a side of {n} is too large for cuBLAS"));
        c_int::try_from(n).map_err(|_too_large| message())
    };
    let [rows, cols, depth] = [size(rows)?, size(cols)?, size(depth)?];
    // The library's matrices lie column by column: it multiplies the transposed ones.
    let operation = |is_transposed: bool| match is_transposed {
        true => sys::cublasOperation_t::CUBLAS_OP_T,
        false => sys::cublasOperation_t::CUBLAS_OP_N,
    };
    let left_step = if left.is_transposed { rows } else { depth };
    let right_step = if right.is_transposed { depth } else { cols };
    let (alpha, beta) = (1.0_f32, if adds { 1.0_f32 } else { 0.0 });
    let number = |number: &f32| std::ptr::from_ref(number).cast::<c_void>();
    let data = match T::TYPE {
        StoredType::F32 => sys::cudaDataType_t::CUDA_R_32F,
        StoredType::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        StoredType::F16 => sys::cudaDataType_t::CUDA_R_16F,
    };
    let compute = match rounds_factors {
        true => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        // Without TF32, in which a classifier's logits would lose 13 bits.
        false => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    device.cuda_stream().context().bind_to_thread().w()?;
    // SAFETY: the caller's promise; the handle works on the device's stream.
    let done = unsafe {
        result::gemm_ex(
            *device.cublas_handle().handle(),
            operation(right.is_transposed),
            operation(left.is_transposed),
            cols,
            rows,
            depth,
            number(&alpha),
            right.values.address() as *const c_void,
            data,
            right_step,
            left.values.address() as *const c_void,
            data,
            left_step,
            number(&beta),
            out.address() as *mut c_void,
            data,
            cols,
            compute,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    };
    done.map_err(|error| Error::Msg(format!("cuBLAS: {error:?}")))
}
