//! The parts of `evaluation.json` that show images: a map, neighbors, mistakes.

use anyhow::Result;
use s5cl_eval::{Features, LeftOut, TsneConfig, nearest, t_sne};
use s5cl_random::named_stream;
use serde::Serialize;

use super::part::Part;
use super::thumbnails::Thumbnails;

/// Images of a part on the map, at most: test, labeled, unlabeled.
const LARGEST_PARTS: [usize; 3] = [800, 300, 400];
/// Labeled images that classifiers on the embeddings are fitted on, at most: each goes through the
/// model for it.
const MOST_FITTED: usize = 5_000;
/// Neighbors of a query in a panel.
const NEIGHBORS: usize = 8;
/// Panels, at most.
const PANELS: usize = 12;
/// Mistakes that are shown, at most.
const MISTAKES: usize = 24;

/// Embeddings in the plane, one entry of every list an image. Class indices are -1 where there is
/// none.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Atlas {
    method: &'static str,
    x: Vec<f32>,
    y: Vec<f32>,
    label: Vec<i64>,
    prediction: Vec<u32>,
    confidence: Vec<f32>,
    /// 0 test, 1 labeled, 2 unlabeled.
    part: Vec<usize>,
    pseudo: Vec<i64>,
    thumbnail: Vec<usize>,
    id: Vec<String>,
}

/// One image of a panel.
#[derive(Debug, Serialize)]
pub(crate) struct Picture {
    id: String,
    thumbnail: usize,
    label: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    similarity: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
}

/// A test image and the test images nearest to it.
#[derive(Debug, Serialize)]
pub(crate) struct Panel {
    query: Picture,
    neighbors: Vec<Picture>,
}

/// At most `n` of `0..of`, drawn by seed, in order.
pub(super) fn choose(of: usize, n: usize, seed: u64, name: &str) -> Vec<usize> {
    let mut chosen = named_stream(seed, name).permutation(of);
    chosen.truncate(n);
    chosen.sort_unstable();
    chosen
}

/// As many of the unlabeled images as the map has room for, by position.
pub(crate) fn some_unlabeled(n_unlabeled: usize, seed: u64) -> Vec<usize> {
    choose(n_unlabeled, LARGEST_PARTS[2], seed, "atlas/unlabeled")
}

/// As many of the labeled images as classifiers on embeddings are fitted on, by position.
pub(crate) fn some_labeled(n_labeled: usize, seed: u64) -> Vec<usize> {
    choose(n_labeled, MOST_FITTED, seed, "labeled")
}

impl Atlas {
    /// The map of test, labeled and unlabeled images; a prediction on an unlabeled one whose
    /// confidence is at least `pseudo_threshold` is its pseudo-label.
    pub(crate) fn new(
        parts: [Option<&Part>; 3],
        pseudo_threshold: f64,
        seed: u64,
        thumbnails: &mut Thumbnails,
    ) -> Result<Self> {
        let mut atlas = Self { method: "t-SNE", ..Self::default() };
        let (mut embeddings, mut dim) = (Vec::new(), 1);
        for (idx, (part, most)) in parts.into_iter().zip(LARGEST_PARTS).enumerate() {
            let Some(part) = part else { continue };
            dim = part.embeddings.width();
            for row in choose(part.n(), most, seed, &format!("atlas/{idx}")) {
                let (prediction, confidence) = (part.predictions[row], part.confidences[row]);
                let is_pseudo = idx == 2 && f64::from(confidence) >= pseudo_threshold;
                atlas.label.push(part.label_or_none(row));
                atlas.prediction.push(prediction);
                atlas.confidence.push(confidence);
                atlas.part.push(idx);
                atlas.pseudo.push(if is_pseudo { prediction.into() } else { -1 });
                atlas.thumbnail.push(thumbnails.position(part.samples[row]));
                atlas.id.push(part.ids[row].clone());
                embeddings.extend_from_slice(part.embedding(row));
            }
        }
        let embeddings = Features::new(normalized(embeddings, dim), dim)?;
        for point in
            t_sne(&embeddings, TsneConfig::scikit_learn(embeddings.n(), seed))?.points.rows()
        {
            atlas.x.push(point[0]);
            atlas.y.push(point[1]);
        }
        Ok(atlas)
    }
}

/// Some test images of every class with their nearest neighbors among the test images.
pub(crate) fn panels(test: &Part, seed: u64, thumbnails: &mut Thumbnails) -> Result<Vec<Panel>> {
    let queries = one_of_every_class(test, seed);
    let rows = queries.iter().flat_map(|&row| test.embedding(row).to_vec()).collect();
    let of_queries = Features::new(rows, test.embeddings.width())?;
    // One more than is shown: the query finds itself first.
    let found = nearest(&of_queries, &test.embeddings, NEIGHBORS + 1, LeftOut::Nothing)?;
    let panels = queries.into_iter().zip(found).map(|(query, found)| {
        let others = found.into_iter().filter(|item| item.index as usize != query);
        let neighbors = others.take(NEIGHBORS).map(|item| Picture {
            similarity: Some(item.similarity),
            ..picture(test, item.index as usize, thumbnails)
        });
        let neighbors = neighbors.collect();
        Panel { query: picture(test, query, thumbnails), neighbors }
    });
    Ok(panels.collect())
}

/// The wrong predictions that the model was surest of, surest first.
pub(crate) fn mistakes(test: &Part, thumbnails: &mut Thumbnails) -> Vec<Picture> {
    let is_wrong = |row: &usize| test.labels[*row] != Some(test.predictions[*row]);
    let mut wrong: Vec<usize> = (0..test.n()).filter(is_wrong).collect();
    wrong.sort_by(|a, b| test.confidences[*b].total_cmp(&test.confidences[*a]));
    wrong.truncate(MISTAKES);
    let shown = wrong.into_iter().map(|row| Picture {
        confidence: Some(test.confidences[row]),
        ..picture(test, row, thumbnails)
    });
    shown.collect()
}

fn picture(part: &Part, row: usize, thumbnails: &mut Thumbnails) -> Picture {
    Picture {
        id: part.ids[row].clone(),
        thumbnail: thumbnails.position(part.samples[row]),
        label: part.label_or_none(row),
        prediction: Some(part.predictions[row]),
        similarity: None,
        confidence: None,
    }
}

/// In turn one image of every class, until the panels are full.
fn one_of_every_class(part: &Part, seed: u64) -> Vec<usize> {
    let order = named_stream(seed, "panels").permutation(part.n());
    let classes = part.labels.iter().flatten().max().map_or(0, |last| last + 1);
    let mut chosen = Vec::new();
    for class_idx in 0..classes {
        chosen.extend(order.iter().copied().find(|&row| part.labels[row] == Some(class_idx)));
    }
    chosen.truncate(PANELS);
    chosen
}

/// Rows of length 1, as the losses compare them.
fn normalized(mut values: Vec<f32>, dim: usize) -> Vec<f32> {
    for row in values.chunks_mut(dim) {
        let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        row.iter_mut().for_each(|value| *value = (f64::from(*value) / length.max(1e-12)) as f32);
    }
    values
}
