//! Max pooling with overlapping windows and padding, with a gradient.

pub(crate) mod cpu;

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::values::{Values, operand};
use crate::window::Window;

/// The largest value of each window, as `torch.nn.MaxPool2d`; padding never wins, and a NaN
/// always does.
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
/// `kernel` (1 to 16), `stride` and `padding` are in pixels, the same in both directions.
///
/// # Errors
///
/// If the padding exceeds half of the kernel (a window could lie outside the map), the window
/// does not fit or is out of its range, the maps have no pixels or channels, or the tensor is not
/// an f32 tensor on the CPU.
pub fn max_pool2d(maps: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    if !(1..=LARGEST_KERNEL).contains(&kernel) {
        bail!("max_pool2d: kernel {kernel} is not between 1 and {LARGEST_KERNEL}")
    }
    if 2 * padding > kernel {
        bail!("max_pool2d: padding {padding} exceeds half of the kernel {kernel}")
    }
    let winners = maps.track_op().then(OnceLock::new);
    maps.contiguous()?.apply_op1(MaxPool2d { kernel, stride, padding, winners })
}

/// A place in the window fits into a byte.
const LARGEST_KERNEL: usize = 16;

struct MaxPool2d {
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Which place of its window gave each value, for the backward pass, if there will be one.
    winners: Option<OnceLock<Vec<u8>>>,
}

impl MaxPool2d {
    /// Batch, window and channels.
    fn geometry(&self, maps: &Shape) -> Result<(usize, Window, usize)> {
        let (batch, height, width, channels) = maps.dims4()?;
        if height * width * channels == 0 {
            bail!("max_pool2d: maps {maps:?} have no pixels or no channels")
        }
        let Self { kernel, stride, padding, .. } = *self;
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
        let mut out = vec![0.0; batch * window.out_pixels() * channels];
        match &self.winners {
            None => cpu::max_pool2d_forward(maps, &mut out, None, &window, channels),
            Some(kept) => {
                let mut winners = vec![0; out.len()];
                cpu::max_pool2d_forward(maps, &mut out, Some(&mut winners), &window, channels);
                kept.get_or_init(|| winners);
            }
        }
        let shape = (batch, window.out_height(), window.out_width(), channels);
        Ok((CpuStorage::F32(out), shape.into()))
    }

    fn bwd(&self, maps: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let Some(winners) = self.winners.as_ref().and_then(OnceLock::get) else {
            bail!("max_pool2d: backward before forward")
        };
        let (_, window, channels) = self.geometry(maps.shape())?;
        let gradient = gradient.contiguous()?;
        let mut out = vec![0.0; maps.elem_count()];
        cpu::max_pool2d_backward(winners, &Values::of(&gradient)?, &mut out, &window, channels);
        Ok(Some(Tensor::from_vec(out, maps.shape(), maps.device())?))
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
