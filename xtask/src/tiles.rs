//! Reading tiles on the loader's threads.

use std::sync::Arc;

use anyhow::Result;
use s5cl_data::{DataError, Dataset, Loader, LoaderError, TileBatch};

/// Reads tiles into one batch.
pub(crate) fn read_tiles(
    dataset: &Arc<Dataset>,
    samples: &[usize],
    size: u32,
    workers: usize,
) -> Result<TileBatch> {
    let (reader, wanted) = (dataset.clone(), samples.to_vec());
    let tiles =
        Loader::new(0..samples.len() as u64, workers, 64, move |i| reader.tile(wanted[i as usize]));
    let mut batch = TileBatch::with_capacity(samples.len(), size, size);
    for tile in tiles {
        batch.push(&tile.map_err(unwrap_loader_error)?)?;
    }
    Ok(batch)
}

/// The error of one reading without its number, which whoever asked for it knows.
pub(crate) fn unwrap_loader_error(error: LoaderError<DataError>) -> anyhow::Error {
    match error {
        LoaderError::Failed { error, .. } => error.into(),
        other => anyhow::anyhow!("{other}"),
    }
}
