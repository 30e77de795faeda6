//! Max pooling with overlapping windows and padding, with a gradient.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::values::{Values, operand};
use crate::window::Window;

/// The largest value of each window, as `torch.nn.MaxPool2d`; padding never wins.
///
/// The gradient goes to the first largest value of a window in reading order, as in PyTorch; a
/// pixel that wins several windows gets the sum. candle's own pooling refuses overlapping windows
/// in the backward pass, and so the stem of a ResNet.
///
/// # Shapes
///
/// - `maps`: f32 `[batch, height, width, channels]`
/// - result: f32 `[batch, out_height, out_width, channels]`
///
/// `kernel`, `stride` and `padding` are in pixels, the same in both directions.
///
/// # Errors
///
/// If the padding exceeds half of the kernel (a window could lie outside the map), the window
/// does not fit, or the tensor is not an f32 tensor on the CPU.
pub fn max_pool2d(maps: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    if 2 * padding > kernel {
        candle_core::bail!("max_pool2d: padding {padding} exceeds half of the kernel {kernel}")
    }
    maps.contiguous()?.apply_op1(MaxPool2d { kernel, stride, padding })
}

struct MaxPool2d {
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl MaxPool2d {
    /// Batch, window and channels.
    fn geometry(&self, maps: &Shape) -> Result<(usize, Window, usize)> {
        let (batch, height, width, channels) = maps.dims4()?;
        let Self { kernel, stride, padding } = *self;
        let window = Window { height, width, kernel: (kernel, kernel), stride, padding };
        Ok((batch, window.checked("max_pool2d")?, channels))
    }
}

impl CustomOp1 for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, maps: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, window, channels) = self.geometry(layout.shape())?;
        let maps = operand(maps, layout, self.name())?;
        let mut out = vec![f32::NEG_INFINITY; batch * window.out_pixels() * channels];
        out.par_chunks_mut(window.out_pixels() * channels)
            .zip(maps.par_chunks(window.in_pixels() * channels))
            .for_each(|(out, image)| {
                for (pixel, out) in out.chunks_exact_mut(channels).enumerate() {
                    for_each_pixel(&window, pixel, |in_pixel| {
                        let values = &image[in_pixel * channels..(in_pixel + 1) * channels];
                        for (best, &value) in out.iter_mut().zip(values) {
                            // A NaN wins and stays, as in PyTorch.
                            *best = if value > *best || value.is_nan() { value } else { *best };
                        }
                    });
                }
            });
        let shape = (batch, window.out_height(), window.out_width(), channels);
        Ok((CpuStorage::F32(out), shape.into()))
    }

    fn bwd(&self, maps: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, window, channels) = self.geometry(maps.shape())?;
        let gradient = gradient.contiguous()?;
        let (values, best, gradient) =
            (Values::of(maps)?, Values::of(result)?, Values::of(&gradient)?);
        let (in_len, out_len) = (window.in_pixels() * channels, window.out_pixels() * channels);
        let mut out = vec![0.0; values.len()];
        out.par_chunks_mut(in_len)
            .zip(values.par_chunks(in_len))
            .zip(best.par_chunks(out_len).zip(gradient.par_chunks(out_len)))
            .for_each(|((out, values), (best, gradient))| {
                let mut is_found = vec![false; channels];
                for pixel in 0..window.out_pixels() {
                    is_found.fill(false);
                    let at = pixel * channels;
                    for_each_pixel(&window, pixel, |in_pixel| {
                        for (channel, is_found) in is_found.iter_mut().enumerate() {
                            let (from, to) = (at + channel, in_pixel * channels + channel);
                            if values[to] == best[from] && !*is_found {
                                *is_found = true;
                                out[to] += gradient[from];
                            }
                        }
                    });
                }
            });
        Ok(Some(Tensor::from_vec(out, maps.shape(), maps.device())?))
    }
}

/// Visits the pixels of the map under the window at an output pixel, in reading order.
fn for_each_pixel(window: &Window, out_pixel: usize, mut visit: impl FnMut(usize)) {
    let (rows, map_y) = window.rows(out_pixel / window.out_width());
    let (cols, map_x) = window.cols(out_pixel % window.out_width());
    for y in map_y..map_y + rows.len() {
        for x in map_x..map_x + cols.len() {
            visit(y * window.width + x);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor, Var};

    use super::max_pool2d;

    #[test]
    fn max_pool2d_overlapping_windows_share_a_winner() -> Result<()> {
        let maps = Var::new(&[1_f32, 2.0, 9.0, 4.0, 5.0, 6.0, 7.0, 8.0, 3.0], &Device::Cpu)?;
        let pooled = max_pool2d(&maps.reshape((1, 3, 3, 1))?, 2, 1, 0)?;
        assert_eq!(pooled.flatten_all()?.to_vec1::<f32>()?, [5.0, 9.0, 8.0, 8.0]);
        let weights = Tensor::new(&[1_f32, 10.0, 100.0, 1000.0], &Device::Cpu)?;
        let loss = (pooled.flatten_all()? * weights)?.sum_all()?;
        let gradient = loss.backward()?.get(&maps).map(Tensor::to_vec1::<f32>).transpose()?;
        let expected = [0.0, 0.0, 10.0, 0.0, 1.0, 0.0, 0.0, 1100.0, 0.0];
        assert_eq!(gradient.as_deref(), Some(&expected[..]));
        Ok(())
    }

    #[test]
    fn max_pool2d_ties_go_to_the_first() -> Result<()> {
        let maps = Var::new(&[3_f32, 3.0, 3.0, 3.0], &Device::Cpu)?;
        let loss = max_pool2d(&maps.reshape((1, 2, 2, 1))?, 2, 2, 0)?.sum_all()?;
        let gradient = loss.backward()?.get(&maps).map(Tensor::to_vec1::<f32>).transpose()?;
        assert_eq!(gradient.as_deref(), Some(&[1.0, 0.0, 0.0, 0.0][..]));
        Ok(())
    }

    #[test]
    fn max_pool2d_too_much_padding_is_refused() -> Result<()> {
        let maps = Tensor::zeros((1, 4, 4, 1), candle_core::DType::F32, &Device::Cpu)?;
        assert!(max_pool2d(&maps, 3, 2, 2).is_err());
        Ok(())
    }
}
