//! The header of a safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use candle_core::DType;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::stored::{Stored, ValueType};

/// Bytes of the header's length, which opens the file.
const LENGTH: u64 = 8;
/// Bytes that a header may have. That of a ViT-L has 40 thousand.
const LARGEST_HEADER: u64 = 16 << 20;

/// Why a header could not be read.
pub(super) enum HeaderError {
    Io(io::Error),
    Format(String),
}

/// The checked header, and where the values start.
pub(super) fn header(mut file: &File) -> Result<(Metadata, u64), HeaderError> {
    let n_bytes = file.metadata().map_err(HeaderError::Io)?.len();
    let damaged = |reason: String| {
        HeaderError::Format(format!("is not a readable safetensors file: {reason}"))
    };
    let mut length = [0; LENGTH as usize];
    if n_bytes < LENGTH {
        return Err(damaged(format!("it has {n_bytes} bytes")));
    }
    file.seek(SeekFrom::Start(0)).map_err(HeaderError::Io)?;
    file.read_exact(&mut length).map_err(HeaderError::Io)?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER {
        return Err(damaged(format!("its header would have {length} bytes")));
    }
    if length > n_bytes - LENGTH {
        return Err(damaged(format!("it is cut off in the header, at {n_bytes} bytes")));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).map_err(HeaderError::Io)?;
    let metadata: Metadata =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let expected = (LENGTH + length).saturating_add(metadata.data_len() as u64);
    if expected != n_bytes {
        let reason = format!("it has {n_bytes} bytes, its header tells of {expected}");
        return Err(damaged(format!("{reason}; it is cut off or damaged, get it again")));
    }
    Ok((metadata, LENGTH + length))
}

/// The tensors that a header tells of.
pub(super) fn tensors(metadata: &Metadata, values: u64) -> BTreeMap<String, Stored> {
    let mut tensors = BTreeMap::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let stored = Stored {
            value_type: value_type(info.dtype),
            strides: Stored::contiguous_strides(&info.shape),
            shape: info.shape.clone(),
            start: values + info.data_offsets.0 as u64,
        };
        tensors.insert(name, stored);
    }
    tensors
}

fn value_type(dtype: Dtype) -> ValueType {
    match dtype {
        Dtype::F16 => ValueType::Float(DType::F16),
        Dtype::BF16 => ValueType::Float(DType::BF16),
        Dtype::F32 => ValueType::Float(DType::F32),
        Dtype::F64 => ValueType::Float(DType::F64),
        other => ValueType::Other(format!("{other:?}")),
    }
}
