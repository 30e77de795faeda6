//! One tensor of a file: where its values are, and how they become f32.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use candle_core::{DType, Device, Tensor};

/// Type of the values in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    /// One that becomes f32.
    Float(DType),
    /// Any other, by the name that the file gives it.
    Other(String),
}

impl ValueType {
    /// Bytes of one value, where it can be used.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::Float(dtype) => Some(dtype.size_in_bytes()),
            Self::Other(_) => None,
        }
    }
}

/// A tensor as both formats describe it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) value_type: ValueType,
    pub(super) shape: Vec<usize>,
    /// Distance of neighbors along each dimension, in values.
    pub(super) strides: Vec<usize>,
    /// Of the first value, in bytes from the start of the file.
    pub(super) start: u64,
}

impl Stored {
    /// Distances of a tensor whose last dimension varies fastest.
    pub(super) fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
        let mut strides = vec![1; shape.len()];
        for dim in (1..shape.len()).rev() {
            strides[dim - 1] = shape[dim].saturating_mul(strides[dim]);
        }
        strides
    }

    /// Values from the first to the last one in the file, those between them included; nothing
    /// where that cannot be counted, or where values are repeated, so that reading could need more
    /// memory than the file has bytes.
    pub(super) fn span(&self) -> Option<usize> {
        let count = self.shape.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim))?;
        if count == 0 {
            return Some(0);
        }
        let mut span = 1_usize;
        for (&dim, &stride) in self.shape.iter().zip(&self.strides) {
            span = (dim - 1).checked_mul(stride)?.checked_add(span)?;
        }
        (count <= span).then_some(span)
    }

    /// The values in the order of a contiguous tensor.
    pub(super) fn read(&self, mut file: &File) -> Result<Vec<f32>, ReadError> {
        let ValueType::Float(dtype) = self.value_type else {
            let ValueType::Other(name) = &self.value_type else { return Ok(Vec::new()) };
            return Err(ReadError::Value(format!(
                "holds values of type {name}: expected f32, f16, bf16 or f64"
            )));
        };
        let uncountable = || ReadError::Value("repeats values: save it contiguous".into());
        let span = self.span().ok_or_else(uncountable)?;
        let mut bytes = vec![0; span * dtype.size_in_bytes()];
        file.seek(SeekFrom::Start(self.start)).map_err(ReadError::Io)?;
        file.read_exact(&mut bytes).map_err(ReadError::Io)?;
        let values = Tensor::from_raw_buffer(&bytes, dtype, &[span], &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(DType::F32)?.to_vec1())
            .map_err(|error| ReadError::Value(error.to_string()))?;
        let values = self.gathered(values);
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(ReadError::Value("holds values that are not finite in f32".to_owned()))
        }
    }

    fn gathered(&self, values: Vec<f32>) -> Vec<f32> {
        if self.strides == Self::contiguous_strides(&self.shape) || values.is_empty() {
            return values;
        }
        let mut offsets = vec![0];
        for (&dim, &stride) in self.shape.iter().zip(&self.strides) {
            let along = |offset: usize| (0..dim).map(move |index| offset + index * stride);
            offsets = offsets.into_iter().flat_map(along).collect();
        }
        offsets.into_iter().map(|offset| values[offset]).collect()
    }
}

/// Why a tensor could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Value(String),
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::{Stored, ValueType};

    fn stored(shape: &[usize], strides: &[usize]) -> Stored {
        let value_type = ValueType::Float(DType::F32);
        Stored { value_type, shape: shape.to_vec(), strides: strides.to_vec(), start: 0 }
    }

    #[test]
    fn stored_span_is_that_of_the_values_in_the_file() {
        assert_eq!(stored(&[2, 3], &[3, 1]).span(), Some(6));
        assert_eq!(stored(&[3, 2], &[1, 3]).span(), Some(6));
        assert_eq!(stored(&[2, 2], &[10, 1]).span(), Some(12));
        assert_eq!(stored(&[], &[]).span(), Some(1));
        assert_eq!(stored(&[0, 5], &[5, 1]).span(), Some(0));
    }

    #[test]
    fn stored_tensors_that_would_grow_are_refused() {
        assert_eq!(stored(&[1 << 40], &[0]).span(), None);
        assert_eq!(stored(&[1 << 40, 1 << 40], &[1, 1]).span(), None);
        assert_eq!(stored(&[3], &[usize::MAX]).span(), None);
        assert_eq!(stored(&[3, 3], &[1, 1]).span(), None);
    }

    #[test]
    fn stored_values_are_put_in_order() {
        let values = (0..6_u8).map(f32::from).collect::<Vec<_>>();
        let transposed = stored(&[3, 2], &[1, 3]).gathered(values.clone());
        assert_eq!(transposed, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(stored(&[2], &[4]).gathered(values[..5].to_vec()), [0.0, 4.0]);
        assert_eq!(stored(&[2, 3], &[3, 1]).gathered(values.clone()), values);
    }
}
