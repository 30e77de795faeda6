//! Two-dimensional convolution with all three passes.

mod cpu;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::values::{Values, operand};
use crate::window::Window;
use cpu::Geometry;

/// How the kernel moves over the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Step of the kernel in pixels, the same in both directions; at least 1.
    pub stride: usize,
    /// Pixels of zeros around the map.
    pub padding: usize,
}

/// Convolves feature maps with a kernel (cross-correlation, no bias), as `torch.nn.Conv2d` does.
///
/// ```text
/// y[n, i, j, o] = sum_{u, v, c} x[n, i * stride + u - padding, j * stride + v - padding, c] * w[o, c, u, v]
/// ```
///
/// # Shapes
///
/// - `maps`: f32 `[batch, height, width, in_channels]`
/// - `weight`: f32 `[out_channels, in_channels, kernel_height, kernel_width]`, PyTorch's layout
/// - result: f32 `[batch, out_height, out_width, out_channels]`
///
/// The gradient for `maps` is not computed when nothing before them can use it, as for images.
///
/// # Errors
///
/// If the shapes do not fit, a tensor is not f32, or one is not on the CPU.
pub fn conv2d(maps: &Tensor, weight: &Tensor, config: Conv2dConfig) -> Result<Tensor> {
    let op = Conv2d { config, needs_input_gradient: maps.track_op() };
    maps.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

struct Conv2d {
    config: Conv2dConfig,
    needs_input_gradient: bool,
}

impl Conv2d {
    fn geometry(&self, maps: &Shape, weight: &Shape) -> Result<Geometry> {
        let (batch, height, width, in_channels) = maps.dims4()?;
        let (out_channels, weight_channels, kernel_height, kernel_width) = weight.dims4()?;
        if in_channels != weight_channels {
            bail!(
                "conv2d: maps {maps:?} have {in_channels} channels, weight {weight:?} expects {weight_channels}"
            )
        }
        let Conv2dConfig { stride, padding } = self.config;
        let kernel = (kernel_height, kernel_width);
        let window = Window { height, width, kernel, stride, padding }.checked("conv2d")?;
        Ok(Geometry { batch, in_channels, out_channels, window })
    }
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
        let geometry = self.geometry(maps_layout.shape(), weight_layout.shape())?;
        let maps = operand(maps, maps_layout, self.name())?;
        let weight = operand(weight, weight_layout, self.name())?;
        let out = cpu::forward(&geometry, maps, weight);
        let Geometry { batch, out_channels, window, .. } = geometry;
        let shape = (batch, window.out_height(), window.out_width(), out_channels);
        Ok((CpuStorage::F32(out), shape.into()))
    }

    fn bwd(
        &self,
        maps: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let geometry = self.geometry(maps.shape(), weight.shape())?;
        let gradient = gradient.contiguous()?;
        let gradient = Values::of(&gradient)?;
        let weight_gradient = cpu::weight_gradient(&geometry, &Values::of(maps)?, &gradient);
        let weight_gradient = Tensor::from_vec(weight_gradient, weight.shape(), weight.device())?;
        if !self.needs_input_gradient {
            return Ok((None, Some(weight_gradient)));
        }
        let maps_gradient = cpu::input_gradient(&geometry, &Values::of(weight)?, &gradient);
        let maps_gradient = Tensor::from_vec(maps_gradient, maps.shape(), maps.device())?;
        Ok((Some(maps_gradient), Some(weight_gradient)))
    }
}
