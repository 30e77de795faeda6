//! Values on a device that are nobody else's.

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

/// f32 values on a device that are nobody else's, so that they can change in place: what an
/// optimizer remembers of a parameter.
#[derive(Debug)]
pub struct Slot(pub(super) Place);

/// Where the values are.
#[derive(Debug)]
pub(super) enum Place {
    Cpu(Vec<f32>),
    /// The tensor is handed to nobody.
    #[cfg(feature = "cuda")]
    Cuda(Tensor),
}

impl Slot {
    /// So many zeros.
    ///
    /// # Errors
    ///
    /// If the device has no memory left, or is neither the CPU nor a CUDA device.
    pub fn zeros(len: usize, device: &Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self(Place::Cpu(vec![0.0; len]))),
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => Ok(Self(Place::Cuda(Tensor::zeros(len, DType::F32, device)?))),
            _ => bail!("no slot can be on {device:?}"),
        }
    }

    /// A copy of the values of an f32 tensor, on its device.
    ///
    /// # Errors
    ///
    /// If the tensor is not f32, or as [`Slot::zeros`].
    pub fn copy_of(values: &Tensor) -> Result<Self> {
        if values.dtype() != DType::F32 {
            bail!("a slot is f32, got {:?} {:?}", values.dtype(), values.shape())
        }
        let values = values.detach().flatten_all()?;
        match values.device() {
            Device::Cpu => Ok(Self(Place::Cpu(values.to_vec1()?))),
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => Ok(Self(Place::Cuda(values.force_contiguous()?))),
            device => bail!("no slot can be on {device:?}"),
        }
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Cpu(values) => values.len(),
            #[cfg(feature = "cuda")]
            Place::Cuda(values) => values.elem_count(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the values are on a device.
    pub(super) fn is_on(&self, device: &Device) -> bool {
        match &self.0 {
            Place::Cpu(_) => device.is_cpu(),
            #[cfg(feature = "cuda")]
            Place::Cuda(values) => values.device().same_device(device),
        }
    }

    /// A copy as a tensor of a shape, on the same device; later steps do not change it.
    ///
    /// # Errors
    ///
    /// If the shape is of another number of values, or the device has no memory left.
    pub fn to_tensor(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        match &self.0 {
            Place::Cpu(values) => Tensor::from_slice(values, shape.into(), &Device::Cpu),
            #[cfg(feature = "cuda")]
            Place::Cuda(values) => values.force_contiguous()?.reshape(shape.into()),
        }
    }

    /// The values where they are on the CPU, else nothing.
    pub(super) fn on_cpu(&mut self) -> &mut [f32] {
        match &mut self.0 {
            Place::Cpu(values) => values,
            #[cfg(feature = "cuda")]
            Place::Cuda(_) => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result};

    use super::Slot;
    use crate::checks::{drawn, refusal, values};

    #[test]
    fn slot_is_a_copy_in_the_order_of_its_tensor() -> Result<()> {
        let strided = drawn(1, &[2, 3])?.t()?;
        let slot = Slot::copy_of(&strided)?;
        let copy = slot.to_tensor((3, 2))?;
        assert_eq!(values(&copy)?, values(&strided)?);
        assert_eq!((slot.len(), slot.is_empty()), (6, false));
        assert_eq!(values(&Slot::zeros(2, &Device::Cpu)?.to_tensor(2)?)?, [0.0; 2]);
        assert!(slot.to_tensor(5).is_err());
        let double = strided.to_dtype(DType::F64)?;
        assert!(refusal(Slot::copy_of(&double)).contains("a slot is f32, got F64 [3, 2]"));
        Ok(())
    }
}
