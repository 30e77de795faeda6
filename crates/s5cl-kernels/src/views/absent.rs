//! What stands in for a device where this crate is built without the feature `cuda`.

use std::convert::Infallible;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::ViewRequest;

/// There is none.
pub(super) struct OnDevice(Infallible);

impl OnDevice {
    pub(super) fn new(_: usize, _: [usize; 2], _: u64, device: &Device) -> Result<Self> {
        bail!("resident tiles: expected a CUDA device, got {device:?} (built without feature cuda)")
    }

    pub(super) fn push(&mut self, _: &[u8]) -> Result<()> {
        match self.0 {}
    }

    pub(super) fn len(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn views(&self, _: &[ViewRequest]) -> Result<Tensor> {
        match self.0 {}
    }

    pub(super) fn normalized_views(
        &self,
        _: &[ViewRequest],
        _: [f32; 3],
        _: [f32; 3],
        _: DType,
    ) -> Result<Tensor> {
        match self.0 {}
    }
}
