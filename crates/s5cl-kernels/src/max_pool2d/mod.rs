//! Max pooling with overlapping windows and padding, with a gradient.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;

use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
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
/// f32.
pub fn max_pool2d(maps: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let winners = maps.track_op().then(OnceLock::new);
    maps.contiguous()?.apply_op1(MaxPool2d { kernel, stride, padding, winners })
}

/// A place in the window fits into a byte.
const LARGEST_KERNEL: usize = 16;

/// The window, if it is one that max pooling knows.
pub(crate) fn checked(window: Window, op: &str) -> Result<Window> {
    let Window { kernel, padding, .. } = window;
    if !(1..=LARGEST_KERNEL).contains(&kernel) {
        bail!("{op}: kernel {kernel} is not between 1 and {LARGEST_KERNEL}")
    }
    if padding > kernel / 2 {
        bail!("{op}: padding {padding} exceeds half of the kernel {kernel}")
    }
    window.checked(op)
}

struct MaxPool2d {
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Which place of its window gave each value, for the backward pass, if there will be one.
    winners: Option<OnceLock<Winners>>,
}

/// Places in windows, counted in reading order.
enum Winners {
    Cpu(Vec<u8>),
    #[cfg(feature = "cuda")]
    Cuda(crate::cuda::Memory<crate::cuda::CudaGpu, u8>),
}

impl MaxPool2d {
    /// Batch, window and channels.
    fn geometry(&self, maps: &Shape) -> Result<(usize, Window, usize)> {
        let &[batch, height, width, channels] = maps.dims() else {
            bail!("max_pool2d: expected maps of rank 4, got {maps:?}")
        };
        if height * width * channels == 0 {
            bail!("max_pool2d: maps {maps:?} have no pixels or no channels")
        }
        let Self { kernel, stride, padding, .. } = *self;
        let window = Window { height, width, kernel, stride, padding };
        Ok((batch, checked(window, "max_pool2d")?, channels))
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
                kept.get_or_init(|| Winners::Cpu(winners));
            }
        }
        let shape = (batch, window.out_height(), window.out_width(), channels);
        Ok((CpuStorage::F32(out), shape.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, maps: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::forward(self, maps, layout)
    }

    fn bwd(&self, maps: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let winners = match self.winners.as_ref().and_then(OnceLock::get) {
            Some(Winners::Cpu(winners)) => winners,
            #[cfg(feature = "cuda")]
            Some(Winners::Cuda(winners)) => {
                return cuda::backward(self, winners, maps, gradient).map(Some);
            }
            None => bail!("max_pool2d: backward before forward"),
        };
        let (_, window, channels) = self.geometry(maps.shape())?;
        let gradient = gradient.contiguous()?;
        let mut out = vec![0.0; maps.elem_count()];
        cpu::max_pool2d_backward(
            winners,
            &Values::of(&gradient, self.name())?,
            &mut out,
            &window,
            channels,
        );
        Ok(Some(Tensor::from_vec(out, maps.shape(), maps.device())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor, Var};

    use super::max_pool2d;
    use crate::checks::{draw, drawn, gradient, refusal, same_everywhere, values};

    /// Maps, gradient from above, kernel, stride, padding: the output and the gradient of the
    /// maps, by comparing one value after the other in reading order.
    fn plain(
        (maps, [batch, height, width, channels]): (&[f32], [usize; 4]),
        above: &[f32],
        [kernel, stride, padding]: [usize; 3],
    ) -> [Vec<f32>; 2] {
        let out_size = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        let (mut out, mut gradient) = (Vec::new(), vec![0.0; maps.len()]);
        for n in 0..batch {
            for (out_y, out_x) in
                (0..out_size(height)).flat_map(|y| (0..out_size(width)).map(move |x| (y, x)))
            {
                for c in 0..channels {
                    let mut best: Option<usize> = None;
                    for y in
                        (out_y * stride..out_y * stride + kernel).map(|y| y.checked_sub(padding))
                    {
                        for x in (out_x * stride..out_x * stride + kernel)
                            .map(|x| x.checked_sub(padding))
                        {
                            let (Some(y), Some(x)) = (y, x) else { continue };
                            if y >= height || x >= width {
                                continue;
                            }
                            let at = ((n * height + y) * width + x) * channels + c;
                            let wins = |best: usize| maps[at] > maps[best] || maps[at].is_nan();
                            if best.is_none_or(wins) {
                                best = Some(at);
                            }
                        }
                    }
                    let best = best.unwrap();
                    gradient[best] += above[out.len()];
                    out.push(maps[best]);
                }
            }
        }
        [out, gradient]
    }

    #[test]
    fn max_pool2d_with_ties_is_a_plain_search() -> Result<()> {
        for (shape, window) in [
            ([1, 7, 5, 3], [3, 2, 1]),
            ([2, 8, 6, 67], [3, 2, 1]),
            ([3, 4, 9, 16], [2, 2, 0]),
            ([1, 5, 6, 1], [2, 1, 1]),
            ([2, 6, 7, 5], [2, 3, 0]),
            ([1, 9, 17, 2], [16, 1, 8]),
            ([2, 1, 1, 33], [3, 2, 1]),
        ] {
            // Few different values: most windows have several largest ones.
            let coarse = |value: f32| (3.0 * value).round();
            let maps: Vec<f32> = draw(5, shape.iter().product()).into_iter().map(coarse).collect();
            let variable = Var::from_vec(maps.clone(), &shape[..], &Device::Cpu)?;
            let [kernel, stride, padding] = window;
            let pooled = max_pool2d(&variable, kernel, stride, padding)?;
            let above = drawn(6, pooled.dims())?;
            let [out, expected] = plain((&maps, shape), &values(&above)?, window);
            assert_eq!(values(&pooled)?, out, "{shape:?}, {window:?}");
            let gradients = (&pooled * &above)?.sum_all()?.backward()?;
            assert_eq!(gradient(&gradients, &variable)?, expected, "{shape:?}, {window:?}");
            let untracked = max_pool2d(&variable.as_detached_tensor(), kernel, stride, padding)?;
            assert_eq!(values(&untracked)?, out, "{shape:?}, {window:?} without gradient");
        }
        Ok(())
    }

    #[test]
    fn max_pool2d_lets_a_nan_win_and_smallest_values_count() -> Result<()> {
        let (nan, least) = (f32::NAN, f32::NEG_INFINITY);
        let maps = Var::new(&[nan, 1.0, least, least, 2.0, 0.0, least, least], &Device::Cpu)?;
        let pooled = max_pool2d(&maps.reshape((1, 2, 4, 1))?, 2, 2, 0)?;
        let got = values(&pooled)?;
        assert!(got[0].is_nan() && got[1] == least, "{got:?}");
        let gradients = pooled.backward()?;
        assert_eq!(gradient(&gradients, &maps)?, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        Ok(())
    }

    #[test]
    fn max_pool2d_takes_maps_of_any_strides() -> Result<()> {
        let maps = drawn(7, &[2, 9, 5, 3])?;
        let strided = maps.permute((0, 3, 1, 2))?.contiguous()?.permute((0, 2, 3, 1))?;
        let pooled = [max_pool2d(&maps, 3, 2, 1)?, max_pool2d(&strided, 3, 2, 1)?];
        assert_eq!(values(&pooled[0])?, values(&pooled[1])?);
        assert_eq!(max_pool2d(&maps.narrow(0, 0, 0)?, 3, 2, 1)?.dims(), [0, 5, 3, 3]);
        Ok(())
    }

    #[test]
    fn max_pool2d_has_the_same_bits_everywhere() {
        same_everywhere(|| {
            let maps = Var::from_tensor(&drawn(8, &[5, 11, 10, 19])?)?;
            let pooled = max_pool2d(&maps, 3, 2, 1)?;
            let gradients = pooled.sqr()?.sum_all()?.backward()?;
            Ok([values(&pooled)?, gradient(&gradients, &maps)?].concat())
        });
    }

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
    fn max_pool2d_refuses_windows_and_maps_that_do_not_fit() -> Result<()> {
        let maps = drawn(9, &[1, 4, 4, 1])?;
        let told = |window: [usize; 3], expected: &str| {
            let message = refusal(max_pool2d(&maps, window[0], window[1], window[2]));
            assert!(message.contains("max_pool2d") && message.contains(expected), "{message}");
        };
        told([3, 2, 2], "padding 2 exceeds half of the kernel 3");
        told([5, 2, 0], "larger than 4 x 4");
        told([17, 1, 8], "kernel 17");
        told([0, 1, 0], "kernel 0");
        told([2, 0, 1], "stride");
        // Twice this is 0, as the hardware counts.
        told([2, 1, usize::MAX / 2 + 1], "exceeds half of the kernel 2");
        let empty = drawn(9, &[1, 0, 4, 2])?;
        assert!(refusal(max_pool2d(&empty, 2, 1, 1)).contains("max_pool2d: maps [1, 0, 4, 2]"));
        let message = refusal(max_pool2d(&drawn(9, &[4, 4, 1])?, 2, 1, 1));
        assert!(
            message.contains("max_pool2d: expected maps of rank 4, got [4, 4, 1]"),
            "{message}"
        );
        let double = maps.to_dtype(DType::F64)?;
        let message = refusal(max_pool2d(&double, 2, 1, 1));
        let expected = "max_pool2d: expected f32 on the CPU, got F64 [1, 4, 4, 1]";
        assert!(message.contains(expected), "{message}");
        Ok(())
    }
}
