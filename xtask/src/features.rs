//! Batches of what the encoder's frozen stages make of the images. Where views change nothing about
//! an image, that is always the same, and is computed once.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use s5cl_backbone::{Encoder, Normalization, save_weights};
use s5cl_data::{Dataset, Loader, TileBatch};
use s5cl_trainer::{Batch, BatchSource, DeviceViews, SourceError, write_atomic};

use crate::batches::BatchMaker;
use crate::failure::boxed;
use crate::progress::Counter;
use crate::run_folder::RunFolder;
use crate::tiles::unwrap_loader_error;
use crate::training::Options;

/// Images that go through the encoder together.
const CHUNK: usize = 64;
/// The one tensor of the file that features are kept in until a run has ended.
const FEATURES: &str = "features";

/// What the frozen stages make of some images, to be computed.
pub(crate) struct Features<'a> {
    pub(crate) maker: &'a Arc<BatchMaker>,
    pub(crate) dataset: &'a Arc<Dataset>,
    pub(crate) samples: &'a [usize],
    pub(crate) encoder: &'a Encoder,
    pub(crate) normalization: &'a Normalization,
    pub(crate) device: &'a Device,
    /// That features may take.
    pub(crate) most_bytes: usize,
    /// Where they are kept for a run that is resumed.
    pub(crate) folder: &'a RunFolder,
}

/// What has become of features.
pub(crate) enum Kept {
    Batches(FeatureBatches),
    /// They take too much memory, or no stage is frozen.
    TooLarge,
    /// Somebody asked to stop.
    Stopped,
}

/// The batches of a run, in the order of its steps.
pub(crate) struct FeatureBatches {
    maker: Arc<BatchMaker>,
    /// f32 `[n_samples, ..]`.
    features: Tensor,
    /// By sample.
    places: BTreeMap<usize, usize>,
}

impl Features<'_> {
    /// Computes the features of all samples, or reads those that the run has computed before.
    pub(crate) fn batches(&self, workers: usize, options: &Options<'_>) -> Result<Kept> {
        if !self.encoder.has_frozen_stages() {
            return Ok(Kept::TooLarge);
        }
        let path = self.folder.features();
        let features = if path.is_file() {
            let mut tensors = candle_core::safetensors::load(&path, self.device)?;
            let read = tensors.remove(FEATURES);
            read.with_context(|| format!("{} has no features", path.display()))?
        } else {
            match self.compute(workers, options)? {
                Ok(features) => {
                    let kept = BTreeMap::from([(FEATURES.to_owned(), features.clone())]);
                    write_atomic(&path, &save_weights(&kept, &BTreeMap::new())?)?;
                    features
                }
                Err(other) => return Ok(other),
            }
        };
        let places = self.samples.iter().enumerate();
        let places = places.map(|(place, &sample_idx)| (sample_idx, place)).collect();
        Ok(Kept::Batches(FeatureBatches { maker: self.maker.clone(), features, places }))
    }

    fn compute(&self, workers: usize, options: &Options<'_>) -> Result<Result<Tensor, Kept>> {
        let (side, reader) = (self.maker.image_size(), self.dataset.clone());
        let chunks: Vec<Vec<usize>> = self.samples.chunks(CHUNK).map(<[usize]>::to_vec).collect();
        let n_chunks = chunks.len() as u64;
        let read = move |chunk: u64| {
            let chunk = &chunks[chunk as usize];
            let mut batch = TileBatch::with_capacity(chunk.len(), side, side);
            for &sample_idx in chunk {
                batch.push(&reader.tile(sample_idx)?)?;
            }
            Ok(batch)
        };
        let mut counter = Counter::new("encoding images", self.samples.len(), options.quiet);
        let (mut values, mut shape) = (Vec::new(), Vec::new());
        for batch in Loader::new(0..n_chunks, workers, 2, read) {
            if (options.should_stop)() {
                return Ok(Err(Kept::Stopped));
            }
            let batch = batch.map_err(unwrap_loader_error)?;
            let pixels = (batch.n(), side as usize, side as usize, 3);
            let pixels = Tensor::from_slice(&batch.pixels, pixels, self.device)?;
            let part = self.encoder.forward_frozen(&self.normalization.apply(&pixels)?)?;
            let len = part.elem_count() / batch.n() * self.samples.len();
            if len * size_of::<f32>() > self.most_bytes {
                return Ok(Err(Kept::TooLarge));
            }
            shape = part.dims().to_vec();
            values.reserve_exact(len - values.len());
            values.extend(part.flatten_all()?.to_vec1::<f32>()?);
            counter.add(batch.n());
        }
        if let Some(n) = shape.first_mut() {
            *n = self.samples.len();
        }
        Ok(Ok(Tensor::from_vec(values, shape, self.device)?))
    }
}

impl FeatureBatches {
    /// Removes what is kept of features, which a run that has ended does not need.
    pub(crate) fn forget(folder: &RunFolder) -> Result<()> {
        let path = folder.features();
        if path.is_file() {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
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
