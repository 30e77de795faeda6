//! What cuDNN is told of a convolution's operands.

use std::ffi::c_int;
use std::ptr::null_mut;

use candle_core::cuda_backend::cudarc::cudnn::result::{self, CudnnError};
use candle_core::cuda_backend::cudarc::cudnn::sys;

use super::super::Convolution;
use super::Kind;
use crate::conv2d::geometry::Map;
use crate::cuda::stored::StoredType;

/// Descriptors, which live as long as [`Descriptors`].
#[derive(Clone, Copy)]
pub(super) struct Raw {
    pub(super) maps: sys::cudnnTensorDescriptor_t,
    pub(super) weight: sys::cudnnFilterDescriptor_t,
    pub(super) output: sys::cudnnTensorDescriptor_t,
    pub(super) convolution: sys::cudnnConvolutionDescriptor_t,
    /// Null, as the next, where the sums are written as they are.
    pub(super) bias: sys::cudnnTensorDescriptor_t,
    pub(super) activation: sys::cudnnActivationDescriptor_t,
    /// What the heuristics may choose from.
    pub(super) math: sys::cudnnMathType_t,
}

/// The descriptors of a convolution.
pub(super) struct Descriptors(Raw);

impl Drop for Descriptors {
    fn drop(&mut self) {
        let Raw { maps, weight, output, convolution, bias, activation, .. } = self.0;
        // SAFETY: each was made by cuDNN, and is destroyed once. That this fails hurts nobody.
        unsafe {
            if !convolution.is_null() {
                let _ = result::destroy_convolution_descriptor(convolution);
            }
            if !weight.is_null() {
                let _ = result::destroy_filter_descriptor(weight);
            }
            if !activation.is_null() {
                let _ = sys::cudnnDestroyActivationDescriptor(activation);
            }
            for tensor in [maps, output, bias] {
                if !tensor.is_null() {
                    let _ = result::destroy_tensor_descriptor(tensor);
                }
            }
        }
    }
}

/// A size as cuDNN takes it.
fn size(n: usize) -> Result<c_int, CudnnError> {
    c_int::try_from(n).map_err(|_too_large| CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_BAD_PARAM))
}

impl Descriptors {
    pub(super) fn new(
        convolution: &Convolution,
        stored: StoredType,
        kind: Option<Kind>,
    ) -> Result<Self, CudnnError> {
        const CHANNELS_LAST: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let Convolution { geometry, .. } = convolution;
        let data = match stored {
            StoredType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            StoredType::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            StoredType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
        };
        // Whatever the order in memory, sizes are told as images, channels, height, width.
        let maps = |map: Map| -> Result<[c_int; 4], CudnnError> {
            Ok([size(geometry.batch)?, size(map.channels)?, size(map.height)?, size(map.width)?])
        };
        let weight = [
            size(geometry.output.channels)?,
            size(geometry.group_inputs())?,
            size(geometry.kernel.0)?,
            size(geometry.kernel.1)?,
        ];
        let [input, output] = [maps(geometry.input)?, maps(geometry.output)?];
        let config = geometry.config;
        let [stride, padding] = [size(config.stride)?, size(config.padding)?];
        let [dilation, groups] = [size(config.dilation)?, size(config.groups)?];
        let none = Raw {
            maps: null_mut(),
            weight: null_mut(),
            output: null_mut(),
            convolution: null_mut(),
            bias: null_mut(),
            activation: null_mut(),
            math: math(stored, convolution.rounds_factors),
        };
        let mut made = Self(none);
        made.0.maps = result::create_tensor_descriptor()?;
        made.0.weight = result::create_filter_descriptor()?;
        made.0.output = result::create_tensor_descriptor()?;
        made.0.convolution = result::create_convolution_descriptor()?;
        // SAFETY: all four were just made.
        unsafe {
            result::set_tensor4d_descriptor(made.0.maps, CHANNELS_LAST, data, input)?;
            result::set_filter4d_descriptor(made.0.weight, data, CHANNELS_LAST, weight)?;
            result::set_tensor4d_descriptor(made.0.output, CHANNELS_LAST, data, output)?;
            result::set_convolution2d_descriptor(
                made.0.convolution,
                padding,
                padding,
                stride,
                stride,
                dilation,
                dilation,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                // Products are summed in f32 whatever the type of the operands.
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_group_count(made.0.convolution, groups)?;
            result::set_convolution_math_type(made.0.convolution, made.0.math)?;
        }
        if let Some(kind) = kind {
            made.0.bias = result::create_tensor_descriptor()?;
            made.0.activation = result::create_activation_descriptor()?;
            let mode = match kind.relu {
                true => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU,
                false => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY,
            };
            // What is no number must show.
            let nan = sys::cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
            let channels = [1, weight[0], 1, 1];
            // SAFETY: both were just made.
            unsafe {
                result::set_tensor4d_descriptor(made.0.bias, CHANNELS_LAST, data, channels)?;
                result::set_activation_descriptor(made.0.activation, mode, nan, 0.0)?;
            }
        }
        Ok(made)
    }

    pub(super) fn raw(&self) -> Raw {
        self.0
    }
}

fn math(stored: StoredType, rounds_factors: bool) -> sys::cudnnMathType_t {
    match (stored, rounds_factors) {
        // The default rounds f32 to TF32.
        (StoredType::F32, true) => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
        (StoredType::F32, false) => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        (StoredType::Bf16 | StoredType::F16, _) => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    }
}
