//! A part of a dataset as a model sees it.

use std::sync::Arc;

use anyhow::{Context, Result};
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
        let unfit = || format!("what the model gives for {}", dataset.name);
        let embeddings = Features::new(found.embeddings, card.embedding_dim).with_context(unfit)?;
        let probabilities = Probabilities::new(found.probabilities, card.class_names.len());
        let probabilities = probabilities.with_context(unfit)?;
        let of = |sample_idx: &usize| &dataset.samples[*sample_idx];
        Ok(Self {
            ids: samples.iter().map(|idx| of(idx).id.clone()).collect(),
            groups: samples.iter().map(|idx| of(idx).group.clone()).collect(),
            labels,
            predictions: probabilities.predictions(),
            confidences: probabilities.confidences(),
            probabilities,
            embeddings,
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

    /// The embedding of one image.
    pub(crate) fn embedding(&self, row: usize) -> &[f32] {
        let width = self.embeddings.width();
        &self.embeddings.as_slice()[row * width..][..width]
    }

    /// Some of the images, at least one, by row.
    pub(crate) fn rows(&self, rows: &[usize]) -> Result<Self> {
        fn of<T: Clone>(values: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().map(|&row| values[row].clone()).collect()
        }
        let n_classes = self.probabilities.n_classes();
        let probabilities = self.probabilities.as_slice().chunks(n_classes).collect::<Vec<_>>();
        let embeddings = rows.iter().flat_map(|&row| self.embedding(row).to_vec()).collect();
        Ok(Self {
            samples: of(&self.samples, rows),
            ids: of(&self.ids, rows),
            groups: of(&self.groups, rows),
            labels: of(&self.labels, rows),
            probabilities: Probabilities::new(of(&probabilities, rows).concat(), n_classes)?,
            predictions: of(&self.predictions, rows),
            confidences: of(&self.confidences, rows),
            embeddings: Features::new(embeddings, self.embeddings.width())?,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_all_that_is_known_of_an_image() -> Result<()> {
        let probabilities = Probabilities::new(vec![0.75, 0.25, 0.5, 0.5, 0.125, 0.875], 2)?;
        let part = Part {
            samples: vec![4, 7, 9],
            ids: ["a", "b", "c"].map(String::from).to_vec(),
            groups: vec![None, Some("g".to_owned()), None],
            labels: vec![Some(0), None, Some(1)],
            predictions: probabilities.predictions(),
            confidences: probabilities.confidences(),
            probabilities,
            embeddings: Features::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2)?,
        };
        let some = part.rows(&[2, 1])?;
        assert_eq!(
            (some.n(), &some.samples, &some.ids),
            (2, &vec![9, 7], &vec!["c".into(), "b".into()])
        );
        assert_eq!((some.embedding(0), some.embedding(1)), (part.embedding(2), part.embedding(1)));
        assert_eq!((some.label_or_none(0), some.label_or_none(1)), (1, -1));
        assert_eq!((&some.predictions, &some.confidences), (&vec![1, 0], &vec![0.875, 0.5]));
        let judged = some.judged(&["x".to_owned(), "y".to_owned()]);
        assert_eq!((judged.ids, judged.probabilities), (vec!["c".into()], vec![0.125, 0.875]));
        Ok(())
    }
}
