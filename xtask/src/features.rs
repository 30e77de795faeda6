//! Batches of what the encoder's frozen stages make of the images. Where views change nothing about
//! an image, that is always the same, and is computed once.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use s5cl_backbone::{Model, Normalization};
use s5cl_data::{Dataset, Loader, TileBatch};
use s5cl_trainer::{Batch, BatchSource, DeviceViews, SourceError};

use crate::batches::BatchMaker;
use crate::failure::boxed;
use crate::tiles::unwrap_loader_error;

/// Images that go through the encoder together.
const CHUNK: usize = 64;

/// The batches of a run, in the order of its steps.
pub(crate) struct FeatureBatches {
    maker: Arc<BatchMaker>,
    /// f32 `[n_samples, ..]`.
    features: Tensor,
    /// By sample.
    places: BTreeMap<usize, usize>,
}

impl FeatureBatches {
    /// Computes the features of all samples, if stages are frozen and the features take no more
    /// than so many bytes.
    pub(crate) fn where_they_fit(
        maker: &Arc<BatchMaker>,
        (dataset, samples): (&Arc<Dataset>, &[usize]),
        (model, normalization, device): (&Model, &Normalization, &Device),
        workers: usize,
        most_bytes: usize,
    ) -> Result<Option<Self>> {
        if !model.encoder().has_frozen_stages() {
            return Ok(None);
        }
        let side = maker.image_size();
        let (reader, chunks) = (dataset.clone(), samples.chunks(CHUNK));
        let chunks: Vec<Vec<usize>> = chunks.map(<[usize]>::to_vec).collect();
        let n_chunks = chunks.len();
        let read = move |chunk: u64| {
            let chunk = &chunks[chunk as usize];
            let mut batch = TileBatch::with_capacity(chunk.len(), side, side);
            for &sample_idx in chunk {
                batch.push(&reader.tile(sample_idx)?)?;
            }
            Ok(batch)
        };
        let mut parts = Vec::with_capacity(n_chunks);
        for batch in Loader::new(0..n_chunks as u64, workers, 2, read) {
            let batch = batch.map_err(unwrap_loader_error)?;
            let shape = (batch.n(), side as usize, side as usize, 3);
            let pixels = Tensor::from_slice(&batch.pixels, shape, device)?;
            let part = model.encoder().forward_frozen(&normalization.apply(&pixels)?)?;
            let bytes_an_image = part.elem_count() / batch.n() * size_of::<f32>();
            if bytes_an_image * samples.len() > most_bytes {
                return Ok(None);
            }
            parts.push(part);
        }
        let features = Tensor::cat(&parts, 0)?;
        let places = samples.iter().enumerate().map(|(place, &sample_idx)| (sample_idx, place));
        Ok(Some(Self { maker: maker.clone(), features, places: places.collect() }))
    }

    fn features(&self, samples: &[usize]) -> Result<Tensor> {
        let place = |sample_idx: &usize| {
            let place = self.places.get(sample_idx).copied();
            place.map(|place| place as u32).with_context(|| format!("no features of {sample_idx}"))
        };
        let places: Vec<u32> = samples.iter().map(place).collect::<Result<_>>()?;
        let places = Tensor::new(places, self.features.device())?;
        Ok(self.features.index_select(&places, 0)?)
    }
}

impl BatchSource for FeatureBatches {
    fn batch(&mut self, step: u64) -> Result<Batch, SourceError> {
        let (batch, samples) = self.maker.samples(step);
        let features = self.features(&samples).map_err(boxed)?;
        Ok(Batch { on_device: Some(DeviceViews::Features(features)), ..batch })
    }
}
