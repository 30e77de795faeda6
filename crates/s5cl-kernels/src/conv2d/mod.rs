//! Two-dimensional convolution with all three passes.

#[cfg(any(feature = "cuda", test))]
pub(crate) mod bias;
#[cfg(feature = "cuda")]
mod cuda;
mod depthwise;
pub(crate) mod direct;
pub(crate) mod geometry;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;
pub(crate) mod weight_gradient;

#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::activation::Activation;
use crate::product::Finish;
use crate::values::{Values, operand};
use crate::winograd::{self, Winograd};
use direct::Direct;
use geometry::Geometry;

/// How the kernel moves over the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dConfig {
    /// Step of the kernel in pixels, the same in both directions; at least 1.
    pub stride: usize,
    /// Pixels of zeros around the map.
    pub padding: usize,
    /// Pixels from one tap of the kernel to the next; at least 1.
    pub dilation: usize,
    /// Parts that input and output channels are cut into, each convolved by itself; divides both.
    pub groups: usize,
}

impl Conv2dConfig {
    /// Stride 1, and the padding that keeps the map's size for an odd `kernel`.
    #[must_use]
    pub fn same(kernel: usize) -> Self {
        Self { stride: 1, padding: kernel / 2, dilation: 1, groups: 1 }
    }
}

/// Convolves feature maps with a kernel (cross-correlation, no bias), as `torch.nn.Conv2d` does.
///
/// ```text
/// y[n, i, j, o] = sum_{u, v, c} x[n, i * stride + u * dilation - padding,
///                                    j * stride + v * dilation - padding, c] * w[o, c, u, v]
/// ```
///
/// # Shapes
///
/// - `maps`: f32 `[batch, height, width, in_channels]`
/// - `weight`: f32 `[out_channels, in_channels / groups, kernel_height, kernel_width]`, PyTorch's
///   layout
/// - result: f32 `[batch, out_height, out_width, out_channels]`
///
/// The gradient for `maps` is not computed when nothing before them can use it, as for images.
///
/// Most 3x3 kernels of stride 1 are convolved by Winograd's algorithm, in tiles of 4x4 outputs. It
/// subtracts pixels from each other: an infinite pixel, or one that is no number, gives NaN all
/// over its tile and in the tiles around it that read it, where PyTorch gives infinity, or NaN,
/// only where the kernel covers the pixel.
///
/// # Errors
///
/// If the shapes do not fit, there are no channels in or out, the result would be larger than
/// memory can be, a tensor is not f32, or the tensors are not on one device.
pub fn conv2d(maps: &Tensor, weight: &Tensor, config: Conv2dConfig) -> Result<Tensor> {
    let op = Conv2d { config, needs_input_gradient: maps.track_op() };
    maps.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

struct Conv2d {
    config: Conv2dConfig,
    needs_input_gradient: bool,
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        maps: &CpuStorage,
        maps_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let geometry = Geometry::new(maps_layout.dims(), weight_layout.dims(), self.config)?;
        let maps = operand(maps, maps_layout, self.name())?;
        let weight = operand(weight, weight_layout, self.name())?;
        let Geometry { batch, output, .. } = geometry;
        let mut out = vec![0.0; batch * output.len()];
        forward(&geometry, maps, weight, &mut out, Finish::OVERWRITE);
        let shape = (batch, output.height, output.width, output.channels);
        Ok((CpuStorage::F32(out), shape.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        maps: &CudaStorage,
        maps_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::forward(self, (maps, maps_layout), (weight, weight_layout))
    }

    fn bwd(
        &self,
        maps: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if maps.device().is_cuda() {
            return cuda::backward(self, maps, weight, gradient);
        }
        let geometry = Geometry::new(maps.dims(), weight.dims(), self.config)?;
        let gradient = gradient.contiguous()?;
        let gradient = Values::of(&gradient, self.name())?;
        let for_weight = weight_gradient(&geometry, &Values::of(maps, self.name())?, &gradient);
        let for_weight = Tensor::from_vec(for_weight, weight.shape(), weight.device())?;
        if !self.needs_input_gradient {
            return Ok((None, Some(for_weight)));
        }
        let mut for_maps = vec![0.0; maps.elem_count()];
        let weight = Values::of(weight, self.name())?;
        input_gradient(&geometry, &weight, &gradient, &mut for_maps, Finish::OVERWRITE);
        let for_maps = Tensor::from_vec(for_maps, maps.shape(), maps.device())?;
        Ok((Some(for_maps), Some(for_weight)))
    }
}

/// The output's maps, by the algorithm that suits the shapes.
pub(crate) fn forward(
    geometry: &Geometry,
    maps: &[f32],
    weight: &[f32],
    out: &mut [f32],
    finish: Finish<'_>,
) {
    if depthwise::is_depthwise(geometry) {
        depthwise::forward(geometry, maps, weight, out, finish);
    } else if winograd::pays(geometry) {
        Winograd::forward(geometry, weight).run(maps, out, finish);
    } else {
        Direct::forward(geometry, weight).run(maps, out, finish);
    }
}

/// [`forward`], and an activation of what it gives.
pub(crate) fn forward_activated(
    geometry: &Geometry,
    maps: &[f32],
    weight: &[f32],
    out: &mut [f32],
    finish: Finish<'_>,
    activation: Activation,
) {
    if depthwise::is_depthwise(geometry) || winograd::pays(geometry) {
        forward(geometry, maps, weight, out, finish);
        activation.apply(out);
    } else {
        let direct = Direct::forward(geometry, weight);
        direct.run_then(maps, out, finish, |part| activation.apply(part));
    }
}

/// The gradient of the input's maps.
pub(crate) fn input_gradient(
    geometry: &Geometry,
    weight: &[f32],
    gradient: &[f32],
    out: &mut [f32],
    finish: Finish<'_>,
) {
    if depthwise::is_depthwise(geometry) {
        depthwise::input_gradient(geometry, weight, gradient, out, finish);
    } else if winograd::pays(geometry) {
        Winograd::input_gradient(geometry, weight).run(gradient, out, finish);
    } else {
        Direct::input_gradient(geometry, weight).run(gradient, out, finish);
    }
}

/// The gradient of the weight, in its own layout.
pub(crate) fn weight_gradient(geometry: &Geometry, maps: &[f32], gradient: &[f32]) -> Vec<f32> {
    if depthwise::is_depthwise(geometry) {
        depthwise::weight_gradient(geometry, maps, gradient)
    } else if winograd::pays(geometry) {
        winograd::weight_gradient(geometry, maps, gradient)
    } else {
        weight_gradient::weight_gradient(geometry, maps, gradient)
    }
}
