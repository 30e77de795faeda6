//! A trained model on images: predictions, embeddings, metrics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Tensor, Var};
use s5cl_backbone::{
    EncoderConfig, Mode, Model, ModelConfig, Normalization, Parameters, load_weights,
    read_metadata, save_weights,
};
use s5cl_data::{Dataset, Loader, TileBatch};
use s5cl_eval::{ClassificationResult, Probabilities};
use s5cl_trainer::write_atomic;
use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::failure::BadInput;
use crate::tiles::unwrap_loader_error;

/// Images that go through the model at a time.
const CHUNK: usize = 128;
/// The key of [`Card`] in the header of the weights.
const CARD: &str = "s5cl";

/// What must be known of a model to use it: kept in the header of its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Version of the code that wrote it.
    pub(crate) version: String,
    /// The preset it was trained with.
    pub(crate) preset: String,
    /// The method it was trained with.
    pub(crate) method: String,
    /// Name of the encoder.
    pub(crate) encoder: String,
    /// Length of the embedding.
    pub(crate) embedding_dim: usize,
    /// The classes by index.
    pub(crate) class_names: Vec<String>,
    /// Side of the images in pixels.
    pub(crate) image_size: u32,
    /// Mean of each channel, 0 to 1.
    pub(crate) mean: [f32; 3],
    /// Standard deviation of each channel, 0 to 1.
    pub(crate) std: [f32; 3],
}

/// A model that only evaluates.
pub(crate) struct Predictor {
    /// What it is.
    pub(crate) card: Card,
    model: Model,
    parameters: Parameters,
}

/// What a model says about images, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Predictions {
    /// f32 `[n, n_classes]`, each row sums to 1.
    pub(crate) probabilities: Vec<f32>,
    /// f32 `[n, embedding_dim]`, not normalized.
    pub(crate) embeddings: Vec<f32>,
}

impl Predictor {
    /// A model with the seed's initial weights, for [`Predictor::set_weights`].
    pub(crate) fn new(card: Card, device: &Device) -> Result<Self> {
        let parameters = Parameters::new(0);
        let config = ModelConfig {
            encoder: EncoderConfig::named(&card.encoder, card.image_size as usize)?,
            embedding_dim: card.embedding_dim,
            n_classes: card.class_names.len(),
        };
        let model = Model::new(&config, &parameters.builder(&device.tensors))?;
        Ok(Self { card, model, parameters })
    }

    /// The model of a file that a run wrote.
    pub(crate) fn open(weights: &Path, device: &Device) -> Result<Self> {
        if !weights.is_file() {
            let message = format!(
                "{} does not exist: the run has not finished (train --resume finishes it)",
                weights.display()
            );
            return Err(BadInput::new(message).into());
        }
        let metadata = read_metadata(weights)?;
        let foreign = |reason: &str| {
            BadInput::new(format!("{} was not written by a run: {reason}", weights.display()))
        };
        let card = metadata.get(CARD).ok_or_else(|| foreign("its header has no model card"))?;
        let card: Card = serde_json::from_str(card).map_err(|e| foreign(&e.to_string()))?;
        let predictor = Self::new(card, device)?;
        let report = load_weights(weights, &predictor.parameters.all())?;
        if !report.is_complete() {
            return Err(foreign(&report.to_string()).into());
        }
        Ok(predictor)
    }

    /// The weights by name.
    pub(crate) fn weights(&self) -> BTreeMap<String, Var> {
        self.parameters.all()
    }

    /// Takes over weights by name.
    pub(crate) fn set_weights(&self, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, variable) in self.parameters.all() {
            let weight =
                weights.get(&name).with_context(|| format!("there is no weight {name}"))?;
            variable.set(&weight.to_device(variable.device())?)?;
        }
        Ok(())
    }

    /// Runs the model on samples of a dataset, whose tiles have the model's size.
    pub(crate) fn predict(
        &self,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        workers: usize,
    ) -> Result<Predictions> {
        let (size, reader) = (self.card.image_size, dataset.clone());
        let chunks: Vec<Vec<usize>> = samples.chunks(CHUNK).map(<[usize]>::to_vec).collect();
        let n_chunks = chunks.len() as u64;
        let batches = Loader::new(0..n_chunks, workers, 2, move |chunk| {
            let chunk = &chunks[chunk as usize];
            let mut batch = TileBatch::with_capacity(chunk.len(), size, size);
            for &sample_idx in chunk {
                batch.push(&reader.tile(sample_idx)?)?;
            }
            Ok(batch)
        });
        let mut predictions = Predictions::default();
        for batch in batches {
            self.predict_batch(&batch.map_err(unwrap_loader_error)?, &mut predictions)?;
        }
        Ok(predictions)
    }

    fn predict_batch(&self, batch: &TileBatch, predictions: &mut Predictions) -> Result<()> {
        let shape = (batch.n(), batch.height as usize, batch.width as usize, 3);
        let device = self.parameters.device();
        let pixels = Tensor::from_slice(&batch.pixels, shape, &device)?;
        let normalization = Normalization { mean: self.card.mean, std: self.card.std };
        let output = self.model.forward(&normalization.apply(&pixels)?, Mode::Evaluate)?;
        let probabilities = candle_nn::ops::softmax(&output.logits, 1)?;
        predictions.probabilities.extend(probabilities.flatten_all()?.to_vec1::<f32>()?);
        predictions.embeddings.extend(output.embeddings.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    /// Runs the model on labeled samples and compares.
    pub(crate) fn evaluate(
        &self,
        dataset: &Arc<Dataset>,
        samples: &[(usize, u32)],
        workers: usize,
    ) -> Result<ClassificationResult> {
        let indices: Vec<usize> = samples.iter().map(|(sample_idx, _)| *sample_idx).collect();
        let labels: Vec<u32> = samples.iter().map(|(_, class_idx)| *class_idx).collect();
        let predictions = self.predict(dataset, &indices, workers)?;
        let n_classes = self.card.class_names.len();
        let probabilities = Probabilities::new(predictions.probabilities, n_classes)?;
        Ok(ClassificationResult::new(&labels, &probabilities, &self.card.class_names)?)
    }
}

/// Writes weights with their card.
pub(crate) fn write_weights(
    path: &Path,
    card: &Card,
    weights: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let metadata = BTreeMap::from([(CARD.to_owned(), serde_json::to_string(card)?)]);
    Ok(write_atomic(path, &save_weights(weights, &metadata)?)?)
}
