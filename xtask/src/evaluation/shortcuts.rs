//! What can be told of images without looking at shapes: the baselines that a result must beat.

use std::sync::Arc;

use anyhow::Result;
use s5cl_data::Dataset;
use s5cl_eval::{
    ClassificationResult, Confusion, EvalError, Features, Standardizer, color_features,
    knn_predict, thumbnail_features,
};

use crate::tiles::read_tiles;

/// Tiles that are in memory at a time.
const CHUNK: usize = 512;

/// Features of tiles: pixels u8 `[n, height, width, 3]`, n, height, width.
type Describe = fn(&[u8], usize, usize, usize) -> Result<Features, EvalError>;

/// The baselines by their key in `metrics.json`.
const SHORTCUTS: [(&str, Describe); 2] =
    [("color_knn", color_features), ("thumbnail_knn", thumbnail_features)];

/// Nearest neighbors on mean and spread of red, green and blue, and on 8 x 8 pixels: standardized
/// and fitted on the labeled images. The key of each, and its result on the samples.
pub(crate) fn shortcuts(
    dataset: &Arc<Dataset>,
    labeled: &[(usize, u32)],
    samples: &[(usize, u32)],
    size: u32,
    k: usize,
    workers: usize,
) -> Result<[(&'static str, ClassificationResult); 2]> {
    let train = describe(dataset, labeled, size, workers)?;
    let queries = describe(dataset, samples, size, workers)?;
    let labels = |samples: &[(usize, u32)]| -> Vec<u32> {
        samples.iter().map(|(_, class_idx)| *class_idx).collect()
    };
    let result = |i: usize| -> Result<(&'static str, ClassificationResult)> {
        let standardizer = Standardizer::fit(&train[i])?;
        let (train, queries) =
            (standardizer.transform(&train[i])?, standardizer.transform(&queries[i])?);
        let predictions = knn_predict(&train, &labels(labeled), &queries, k.min(labeled.len()))?;
        let confusion = Confusion::new(dataset.n_classes(), &labels(samples), &predictions)?;
        Ok((SHORTCUTS[i].0, confusion.result(&dataset.class_names, None)?))
    };
    Ok([result(0)?, result(1)?])
}

/// The features of each shortcut.
fn describe(
    dataset: &Arc<Dataset>,
    samples: &[(usize, u32)],
    size: u32,
    workers: usize,
) -> Result<[Features; 2]> {
    let side = size as usize;
    let mut values = [Vec::new(), Vec::new()];
    let mut widths = [1, 1];
    for chunk in samples.chunks(CHUNK) {
        let chunk: Vec<usize> = chunk.iter().map(|(sample_idx, _)| *sample_idx).collect();
        let tiles = read_tiles(dataset, &chunk, size, workers)?;
        for (i, (_, describe)) in SHORTCUTS.iter().enumerate() {
            let features = describe(&tiles.pixels, tiles.n(), side, side)?;
            widths[i] = features.width();
            values[i].extend_from_slice(features.as_slice());
        }
    }
    let [color, thumbnail] = values;
    Ok([Features::new(color, widths[0])?, Features::new(thumbnail, widths[1])?])
}
