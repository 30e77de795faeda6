//! A part of a dataset as a model sees it.

use std::sync::Arc;

use anyhow::Result;
use s5cl_data::Dataset;
use s5cl_eval::{Features, Probabilities};

use super::predictions::JudgedImages;
use crate::inference::Predictor;

/// Images of a dataset with what a model says of them, in one order.
pub(crate) struct Part {
    /// Positions in the dataset.
    pub(crate) samples: Vec<usize>,
    pub(crate) ids: Vec<String>,
    pub(crate) groups: Vec<Option<String>>,
    /// The model's class index of each, where the image has a label.
    pub(crate) labels: Vec<Option<u32>>,
    pub(crate) probabilities: Probabilities,
    pub(crate) predictions: Vec<u32>,
    pub(crate) confidences: Vec<f32>,
    pub(crate) embeddings: Features,
}

impl Part {
    /// Runs the model on images, at least one, whose tiles have the model's size. The labels are
    /// given as the model numbers its classes.
    pub(crate) fn new(
        predictor: &Predictor,
        dataset: &Arc<Dataset>,
        images: &[(usize, Option<u32>)],
        workers: usize,
    ) -> Result<Self> {
        let (samples, labels): (Vec<usize>, Vec<Option<u32>>) = images.iter().copied().unzip();
        let found = predictor.predict(dataset, &samples, workers)?;
        let card = &predictor.card;
        let probabilities = Probabilities::new(found.probabilities, card.class_names.len())?;
        let of = |sample_idx: &usize| &dataset.samples[*sample_idx];
        Ok(Self {
            ids: samples.iter().map(|idx| of(idx).id.clone()).collect(),
            groups: samples.iter().map(|idx| of(idx).group.clone()).collect(),
            labels,
            predictions: probabilities.predictions(),
            confidences: probabilities.confidences(),
            probabilities,
            embeddings: Features::new(found.embeddings, card.embedding_dim)?,
            samples,
        })
    }

    /// The same for images that all have a label.
    pub(crate) fn labeled(
        predictor: &Predictor,
        dataset: &Arc<Dataset>,
        images: &[(usize, u32)],
        workers: usize,
    ) -> Result<Self> {
        let images: Vec<(usize, Option<u32>)> =
            images.iter().map(|&(sample_idx, label)| (sample_idx, Some(label))).collect();
        Self::new(predictor, dataset, &images, workers)
    }

    /// How many images there are.
    pub(crate) fn n(&self) -> usize {
        self.samples.len()
    }

    /// The class index, -1 where the image has none.
    pub(crate) fn label_or_none(&self, row: usize) -> i64 {
        self.labels[row].map_or(-1, i64::from)
    }

    /// The images that have a label, to be judged by it.
    pub(crate) fn judged(&self, class_names: &[String]) -> JudgedImages {
        let mut judged =
            JudgedImages { class_names: class_names.to_vec(), ..JudgedImages::default() };
        for (row, of_row) in self.probabilities.rows().enumerate() {
            if let Some(label) = self.labels[row] {
                judged.ids.push(self.ids[row].clone());
                judged.groups.push(self.groups[row].clone());
                judged.labels.push(label);
                judged.probabilities.extend_from_slice(of_row);
            }
        }
        judged
    }
}
