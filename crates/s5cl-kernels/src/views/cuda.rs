//! Tiles and views on CUDA devices.

use candle_core::cuda_backend::WrapErr;
use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};

use super::ViewRequest;
use super::launch::{Normalization, Output, Tiles, bytes_of};
use crate::cuda::CudaGpu;

/// Tiles on a CUDA device of candle.
pub(super) struct OnDevice {
    gpu: CudaGpu,
    tiles: Tiles<CudaGpu>,
}

impl OnDevice {
    pub(super) fn new(
        n_tiles: usize,
        shape: [usize; 2],
        kept_free: u64,
        device: &Device,
    ) -> Result<Self> {
        let Device::Cuda(device) = device else {
            bail!("resident tiles: expected a CUDA device, got {device:?}")
        };
        let needed = bytes_of(n_tiles, shape)? as u64;
        let (free, _total) = device.cuda_stream().context().mem_get_info().w()?;
        if needed.saturating_add(kept_free) > free as u64 {
            let [height, width] = shape;
            bail!(
                "resident tiles: {n_tiles} tiles of {width} x {height} need {needed} bytes of \
                 {device:?}, which has {free} free, {kept_free} of them for other use"
            )
        }
        let gpu = CudaGpu::of(device);
        let tiles = Tiles::allocate(&gpu, n_tiles, shape)?;
        Ok(Self { gpu, tiles })
    }

    pub(super) fn push(&mut self, tiles: &[u8]) -> Result<()> {
        self.tiles.push(&self.gpu, tiles)
    }

    pub(super) fn len(&self) -> usize {
        self.tiles.len()
    }

    pub(super) fn views(&self, requests: &[ViewRequest]) -> Result<Tensor> {
        let values = self.tiles.views::<u8>(&self.gpu, requests, Output::U8)?;
        Ok(self.gpu.tensor(values, self.shape_of(requests)))
    }

    pub(super) fn normalized_views(
        &self,
        requests: &[ViewRequest],
        scale: [f32; 3],
        shift: [f32; 3],
        dtype: DType,
    ) -> Result<Tensor> {
        let by = Normalization { scale, shift };
        let (gpu, tiles, shape) = (&self.gpu, &self.tiles, self.shape_of(requests));
        Ok(match dtype {
            DType::F32 => gpu.tensor(tiles.views::<f32>(gpu, requests, Output::F32(by))?, shape),
            DType::BF16 => gpu.tensor(tiles.views::<bf16>(gpu, requests, Output::Bf16(by))?, shape),
            DType::F16 => gpu.tensor(tiles.views::<f16>(gpu, requests, Output::F16(by))?, shape),
            other => bail!("views: expected f32, bf16 or f16, got {other:?}"),
        })
    }

    fn shape_of(&self, requests: &[ViewRequest]) -> (usize, usize, usize, usize) {
        let [height, width] = self.tiles.shape();
        (requests.len(), height, width, 3)
    }
}
