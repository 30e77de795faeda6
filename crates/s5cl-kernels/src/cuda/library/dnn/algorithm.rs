//! The algorithms that cuDNN has for a pass.

use std::ffi::{c_int, c_void};

use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys;

use super::super::{Convolution, Pass};
use super::descriptors::Raw;
use super::{Addresses, Workspace};

/// Bytes of workspace beyond which an algorithm is not worth its memory.
const MOST_WORKSPACE: usize = 2 << 30;

/// Algorithms that are asked for.
const MOST: usize = 8;

/// An algorithm of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    InputGradient(sys::cudnnConvolutionBwdDataAlgo_t),
    WeightGradient(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// An algorithm, and the kind of arithmetic with which it was proposed.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) algorithm: Algorithm,
    pub(super) math: sys::cudnnMathType_t,
}

/// Those that the heuristics propose and that give the same bits each time, best first; then the one
/// that takes channels-last operands of any type, if the heuristics should fail.
///
/// # Safety
///
/// Handle and descriptors must be valid.
pub(super) unsafe fn candidates(
    handle: sys::cudnnHandle_t,
    of: Raw,
    convolution: &Convolution,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    macro_rules! propose {
        ($get:path, $perf:ty, $which:path, $first:expr, $second:expr, $third:expr) => {{
            // SAFETY: zero is a value of each of its numbers and enumerations.
            let mut proposed: [$perf; MOST] = unsafe { std::mem::zeroed() };
            let (mut n, most) = (0, MOST as c_int);
            // SAFETY: the caller's promise, and room for so many.
            let asked = unsafe {
                let list = proposed.as_mut_ptr();
                $get(handle, $first, $second, of.convolution, $third, most, &mut n, list)
            };
            if asked.is_ok() {
                let proposed = proposed.into_iter().take(n as usize);
                let usable = proposed.filter(|one| {
                    one.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                        && one.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                        && one.memory <= MOST_WORKSPACE
                });
                found.extend(usable.map(|one| ($which(one.algo), one.mathType)));
            }
        }};
    }
    let usual = match convolution.pass {
        Pass::Forward => {
            propose!(
                result::get_convolution_forward_algorithm,
                sys::cudnnConvolutionFwdAlgoPerf_t,
                Algorithm::Forward,
                of.maps,
                of.weight,
                of.output
            );
            use sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
            Algorithm::Forward(CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM)
        }
        Pass::InputGradient => {
            propose!(
                result::get_convolution_backward_data_algorithm,
                sys::cudnnConvolutionBwdDataAlgoPerf_t,
                Algorithm::InputGradient,
                of.weight,
                of.output,
                of.maps
            );
            use sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
            Algorithm::InputGradient(CUDNN_CONVOLUTION_BWD_DATA_ALGO_1)
        }
        Pass::WeightGradient => {
            propose!(
                result::get_convolution_backward_filter_algorithm,
                sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                Algorithm::WeightGradient,
                of.maps,
                of.output,
                of.weight
            );
            use sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
            Algorithm::WeightGradient(CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1)
        }
    };
    let default = of.math;
    found.push((usual, default));
    // Where products of f32 must be exact, no proposal may say otherwise.
    let is_exact = default == sys::cudnnMathType_t::CUDNN_FMA_MATH;
    let candidates = found.into_iter();
    candidates
        .map(|(algorithm, math)| Candidate {
            algorithm,
            math: if is_exact { default } else { math },
        })
        .collect()
}

impl Algorithm {
    /// # Safety
    ///
    /// Handle and descriptors must be valid.
    pub(super) unsafe fn workspace_bytes(
        self,
        handle: sys::cudnnHandle_t,
        of: Raw,
    ) -> Result<usize, CudnnError> {
        let Raw { maps, weight, output, convolution, .. } = of;
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Forward(algorithm) => result::get_convolution_forward_workspace_size(
                    handle,
                    maps,
                    weight,
                    convolution,
                    output,
                    algorithm,
                ),
                Self::InputGradient(algorithm) => {
                    result::get_convolution_backward_data_workspace_size(
                        handle,
                        weight,
                        output,
                        convolution,
                        maps,
                        algorithm,
                    )
                }
                Self::WeightGradient(algorithm) => {
                    result::get_convolution_backward_filter_workspace_size(
                        handle,
                        maps,
                        output,
                        convolution,
                        weight,
                        algorithm,
                    )
                }
            }
        }
    }

    /// Runs it.
    ///
    /// # Safety
    ///
    /// Handle and descriptors must be valid, and the memory reach as far as they say.
    pub(super) unsafe fn run(
        self,
        handle: sys::cudnnHandle_t,
        of: Raw,
        memory: Addresses,
        workspace: Workspace,
        adds: bool,
    ) -> Result<(), CudnnError> {
        let (one, kept) = (1.0_f32, if adds { 1.0_f32 } else { 0.0 });
        let alpha = std::ptr::from_ref(&one).cast::<c_void>();
        let beta = std::ptr::from_ref(&kept).cast::<c_void>();
        let Workspace { start, bytes } = workspace;
        let Addresses { maps, weight, output, .. } = memory;
        let [from_maps, from_weight, from_output] =
            [maps, weight, output].map(|address| address as *const c_void);
        let [to_maps, to_weight, to_output] =
            [maps, weight, output].map(|address| address as *mut c_void);
        let conv = of.convolution;
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Forward(algorithm) if !of.activation.is_null() => {
                    run_finished(algorithm, handle, of, memory, workspace)
                }
                Self::Forward(algorithm) => result::convolution_forward(
                    handle,
                    alpha,
                    of.maps,
                    from_maps,
                    of.weight,
                    from_weight,
                    conv,
                    algorithm,
                    start,
                    bytes,
                    beta,
                    of.output,
                    to_output,
                ),
                Self::InputGradient(algorithm) => result::convolution_backward_data(
                    handle,
                    alpha,
                    of.weight,
                    from_weight,
                    of.output,
                    from_output,
                    conv,
                    algorithm,
                    start,
                    bytes,
                    beta,
                    of.maps,
                    to_maps,
                ),
                Self::WeightGradient(algorithm) => result::convolution_backward_filter(
                    handle,
                    alpha,
                    of.maps,
                    from_maps,
                    of.output,
                    from_output,
                    conv,
                    algorithm,
                    start,
                    bytes,
                    beta,
                    of.weight,
                    to_weight,
                ),
            }
        }
    }
}

/// A forward pass that adds a bias, and a residual where there is one, and clips.
///
/// # Safety
///
/// As for [`Algorithm::run`].
unsafe fn run_finished(
    algorithm: sys::cudnnConvolutionFwdAlgo_t,
    handle: sys::cudnnHandle_t,
    of: Raw,
    memory: Addresses,
    Workspace { start, bytes }: Workspace,
) -> Result<(), CudnnError> {
    let Addresses { maps, weight, output, bias, residual } = memory;
    // Without a residual, what stands for it counts nothing.
    let (one, share) = (1.0_f32, if residual == 0 { 0.0_f32 } else { 1.0 });
    let residual = if residual == 0 { output } else { residual };
    // SAFETY: the caller's promise.
    unsafe {
        result::convolution_bias_activation_forward(
            handle,
            std::ptr::from_ref(&one).cast(),
            of.maps,
            maps as *const c_void,
            of.weight,
            weight as *const c_void,
            of.convolution,
            algorithm,
            start,
            bytes,
            std::ptr::from_ref(&share).cast(),
            of.output,
            residual as *const c_void,
            of.bias,
            bias as *const c_void,
            of.activation,
            of.output,
            output as *mut c_void,
        )
    }
}
