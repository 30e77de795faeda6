//! Values on their way to a device and back while it goes on.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

/// A way for bytes from the host to a device that does not wait for the device.
///
/// It can be used again, and should be: its memory takes long to get.
#[derive(Debug, Default)]
pub struct Upload {
    #[cfg(feature = "cuda")]
    staged: Option<cuda::Staged>,
}

impl Upload {
    /// Sends bytes, one part behind the other.
    ///
    /// # Shapes
    ///
    /// - `parts`: u8, together as many as the shape has
    /// - result: u8 of that shape, on the device
    ///
    /// # Errors
    ///
    /// If the number of bytes is not that of the shape, or the device has no memory left.
    pub fn send(
        &mut self,
        parts: &[&[u8]],
        shape: impl Into<Shape>,
        device: &Device,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len != shape.elem_count() {
            bail!("upload: {len} bytes for {shape:?}")
        }
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                let (staged, tensor) =
                    cuda::Staged::send(self.staged.take(), parts, shape, device)?;
                self.staged = Some(staged);
                Ok(tensor)
            }
            device => Tensor::from_vec(parts.concat(), shape, device),
        }
    }
}

/// A way for values from a device to the host that does not stop the device: they are sent when
/// what makes them was started, and waited for when more work was.
///
/// It can be used again, and should be: its memory takes long to get.
#[derive(Debug, Default)]
pub struct Readback {
    arrived: Vec<f64>,
    #[cfg(feature = "cuda")]
    coming: Option<cuda::Coming>,
}

impl Readback {
    /// Sends the values of a tensor; those of an earlier one are forgotten.
    ///
    /// # Shapes
    ///
    /// - `values`: f64 `[n]`, contiguous
    ///
    /// # Errors
    ///
    /// If the tensor is not as above, or the device fails.
    pub fn send(&mut self, values: &Tensor) -> Result<()> {
        if values.dtype() != DType::F64 || values.rank() != 1 || !values.is_contiguous() {
            let (dtype, layout) = (values.dtype(), values.layout());
            bail!("readback: expected contiguous f64 [n], got {dtype:?} {layout:?}")
        }
        match values.device() {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                let coming = self.coming.take();
                self.coming = Some(cuda::Coming::send(coming, values, device)?);
            }
            Device::Cpu => self.arrived = values.to_vec1()?,
            device => bail!("readback: nothing comes from {device:?}"),
        }
        Ok(())
    }

    /// Waits for the values that were sent last.
    ///
    /// # Errors
    ///
    /// If something that was started on the device has failed.
    pub fn wait(&mut self) -> Result<&[f64]> {
        #[cfg(feature = "cuda")]
        if let Some(coming) = &self.coming {
            self.arrived = coming.wait()?;
        }
        Ok(&self.arrived)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::{Readback, Upload};
    use crate::checks::refusal;

    #[test]
    fn upload_puts_parts_behind_each_other() -> Result<()> {
        let mut upload = Upload::default();
        let sent = upload.send(&[&[1, 2], &[], &[3, 4]], (2, 2), &Device::Cpu)?;
        assert_eq!(sent.to_vec2::<u8>()?, [[1, 2], [3, 4]]);
        let message = refusal(upload.send(&[&[1, 2, 3]], (2, 2), &Device::Cpu));
        assert!(message.contains("upload: 3 bytes for [2, 2]"), "{message}");
        Ok(())
    }

    #[test]
    fn readback_gives_what_was_sent_last() -> Result<()> {
        let mut readback = Readback::default();
        for values in [&[1.0, f64::INFINITY][..], &[], &[0.1, 0.2, 0.3]] {
            readback.send(&Tensor::new(values, &Device::Cpu)?)?;
            assert_eq!(readback.wait()?, values);
        }
        let single = Tensor::new(&[1_f32], &Device::Cpu)?;
        assert!(refusal(readback.send(&single)).contains("expected contiguous f64 [n], got F32"));
        Ok(())
    }
}
