//! Batches whose views are made on the GPU, of tiles that stay there: the host sends a few numbers
//! for each view, so that no number of its cores limits the training.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use s5cl_data::{DataError, Dataset, Loader};
use s5cl_kernels::{ResidentTiles, ViewRequest, device_memory};
use s5cl_trainer::{Batch, BatchSource, DeviceViews, SourceError};

use crate::batches::BatchMaker;
use crate::device::Device;
use crate::failure::boxed;
use crate::tiles::unwrap_loader_error;

/// Of the memory that is available, tiles take at most one part in so many: the rest is for the
/// training.
const SHARE: u64 = 4;
/// Tiles that are read ahead while they are brought to the device.
const AHEAD: usize = 64;

/// The batches of some steps.
pub(crate) struct ResidentBatches {
    requests: Loader<(Batch, Vec<ViewRequest>), DataError>,
    tiles: ResidentTiles,
}

impl ResidentBatches {
    /// Brings the tiles of `samples` to the device, if it is a GPU and has room for them.
    pub(crate) fn where_they_fit(
        maker: &Arc<BatchMaker>,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        steps: Range<u64>,
        (workers, prefetch): (usize, usize),
        device: &Device,
    ) -> Result<Option<Self>> {
        let side = maker.image_size();
        let Some(memory) = device_memory(&device.tensors)? else { return Ok(None) };
        let needed = samples.len() as u64 * u64::from(side) * u64::from(side) * 3;
        if needed > memory.available / SHARE {
            return Ok(None);
        }
        let sides = side as usize;
        let mut tiles = ResidentTiles::new(samples.len(), sides, sides, 0, &device.tensors)?;
        let (reader, wanted) = (dataset.clone(), samples.to_vec());
        let read = move |place: u64| reader.tile(wanted[place as usize]);
        for tile in Loader::new(0..samples.len() as u64, workers, AHEAD, read) {
            tiles.push(tile.map_err(unwrap_loader_error)?.as_raw())?;
        }
        let places: BTreeMap<usize, usize> =
            samples.iter().enumerate().map(|(place, &sample_idx)| (sample_idx, place)).collect();
        let maker = maker.clone();
        let requests = Loader::new(steps, workers, prefetch, move |step| {
            // A sample that is drawn is one of those that were brought.
            Ok(maker.requests(step, |sample_idx| places[&sample_idx]))
        });
        Ok(Some(Self { requests, tiles }))
    }
}

impl BatchSource for ResidentBatches {
    fn batch(&mut self, step: u64) -> Result<Batch, SourceError> {
        let next = self.requests.next().with_context(|| format!("step {step} is beyond the run"));
        let (batch, requests) =
            next.and_then(|next| next.map_err(unwrap_loader_error)).map_err(boxed)?;
        let views = self.tiles.views(&requests).map_err(|error| boxed(error.into()))?;
        Ok(Batch { on_device: Some(DeviceViews::Pixels(views)), ..batch })
    }
}
