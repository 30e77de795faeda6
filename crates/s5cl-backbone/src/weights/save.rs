//! Weights out, as safetensors; and what their header says.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::WeightsError;
use super::safetensors_file::{HeaderError, header};

/// The bytes of a safetensors file with these tensors and metadata; the caller puts them in place.
///
/// # Errors
///
/// If a tensor cannot be read back from its device.
pub fn save_weights(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> candle_core::Result<Vec<u8>> {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut read_back = Vec::with_capacity(tensors.len());
    for (key, tensor) in tensors {
        read_back.push((key, tensor.to_device(&Device::Cpu)?));
    }
    safetensors::serialize(read_back, Some(metadata)).map_err(candle_core::Error::from)
}

/// The metadata in the header of a safetensors file.
///
/// # Errors
///
/// If the file cannot be read or is not in the safetensors format.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let file = File::open(path).map_err(|source| WeightsError::Io { path: path.into(), source })?;
    let (header, _) = header(&file).map_err(|error| match error {
        HeaderError::Io(source) => WeightsError::Io { path: path.into(), source },
        HeaderError::Format(reason) => WeightsError::Format { path: path.into(), reason },
    })?;
    let metadata = header.metadata().as_ref();
    Ok(metadata
        .map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        .unwrap_or_default())
}
