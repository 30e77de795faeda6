//! Weights as safetensors files: loading with a report of the keys, saving with metadata.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use safetensors::SafeTensors;
use thiserror::Error;

/// Parameters of the heads: a file of pretrained weights need not have them.
const HEADS: [&str; 2] = ["embedder.", "classifier."];

/// Why weights could not be loaded or saved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("cannot access the weights {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not in the safetensors format.
    #[error("{path} is not a readable safetensors file ({source}); convert other formats first")]
    Format {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: safetensors::SafeTensorError,
    },
    /// The file is of another architecture.
    #[error("{path} does not fit this encoder: {report}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What was compared.
        report: KeyReport,
    },
    /// A tensor holds values that are not numbers, or of a type that cannot be used.
    #[error("{path}: tensor {key:?} {reason}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How the keys of a file and of a model compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Loaded.
    pub matched: Vec<String>,
    /// In the model, not in the file; these keep their initial values.
    pub missing: Vec<String>,
    /// In the file, not in the model; these are left alone.
    pub unexpected: Vec<String>,
    /// In both with different shapes.
    pub misshapen: Vec<String>,
}

impl std::fmt::Display for KeyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} matched", self.matched.len())?;
        let groups = [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("misshapen", &self.misshapen),
        ];
        for (name, keys) in groups {
            write!(f, ", {} {name}", keys.len())?;
            if !keys.is_empty() {
                let shown: Vec<&str> = keys.iter().take(3).map(String::as_str).collect();
                let more = if keys.len() > shown.len() { ", ..." } else { "" };
                write!(f, " ({}{more})", shown.join(", "))?;
            }
        }
        Ok(())
    }
}

/// Loads a safetensors file with torchvision's key names as initial weights.
///
/// The encoder's keys must all be there with their shapes; the heads may be missing, and keys that
/// the model does not know (torchvision's `fc`, counters) are reported and left alone. Nothing is
/// changed unless the whole file fits.
///
/// # Errors
///
/// If the file cannot be read, is damaged, has a value that is not finite, or does not fit.
pub fn load_weights(
    path: &Path,
    parameters: &BTreeMap<String, Var>,
) -> Result<KeyReport, WeightsError> {
    let bytes =
        std::fs::read(path).map_err(|source| WeightsError::Io { path: path.into(), source })?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|source| WeightsError::Format { path: path.into(), source })?;
    let mut report = KeyReport::default();
    let mut loaded = Vec::new();
    for (key, variable) in parameters {
        match file.tensor(key) {
            Err(_not_there) => report.missing.push(key.clone()),
            Ok(view) if view.shape() != variable.dims() => {
                let shapes = format!("{key} {:?} for {:?}", view.shape(), variable.dims());
                report.misshapen.push(shapes);
            }
            Ok(view) => {
                let tensor = read_tensor(&view).map_err(|reason| WeightsError::Tensor {
                    path: path.into(),
                    key: key.clone(),
                    reason,
                })?;
                loaded.push((variable, tensor));
                report.matched.push(key.clone());
            }
        }
    }
    let mut unexpected: Vec<String> = file
        .names()
        .into_iter()
        .filter(|name| !parameters.contains_key(*name))
        .map(str::to_owned)
        .collect();
    unexpected.sort();
    report.unexpected = unexpected;
    let is_head = |key: &String| HEADS.iter().any(|head| key.starts_with(head));
    if !report.misshapen.is_empty() || !report.missing.iter().all(is_head) {
        return Err(WeightsError::Mismatch { path: path.into(), report });
    }
    for (variable, tensor) in loaded {
        let set = tensor.to_device(variable.device()).and_then(|tensor| variable.set(&tensor));
        set.map_err(|error| WeightsError::Tensor {
            path: path.into(),
            key: String::new(),
            reason: error.to_string(),
        })?;
    }
    Ok(report)
}

fn read_tensor(view: &safetensors::tensor::TensorView<'_>) -> Result<Tensor, String> {
    use candle_core::safetensors::Load;
    let tensor = view
        .load(&Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(DType::F32))
        .map_err(|error| format!("of type {:?} cannot be used: {error}", view.dtype()))?;
    let sum = tensor.abs().and_then(|t| t.sum_all()).and_then(|t| t.to_scalar::<f32>());
    match sum {
        Ok(sum) if sum.is_finite() => Ok(tensor),
        Ok(_) => Err("holds values that are not finite".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

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
    let bytes =
        std::fs::read(path).map_err(|source| WeightsError::Io { path: path.into(), source })?;
    let (_, header) = SafeTensors::read_metadata(&bytes)
        .map_err(|source| WeightsError::Format { path: path.into(), source })?;
    let metadata = header.metadata().as_ref();
    Ok(metadata
        .map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        .unwrap_or_default())
}
