//! A file of weights in any format that is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::WeightsError;
use super::safetensors_file::{self, HeaderError};
use super::stored::{ReadError, Stored};
use super::torch::{self, TorchError};

/// How to make a file of any format of PyTorch one that is read here.
const CONVERT: &str = "convert it once in Python, with \
                       torch.save(torch.load(FILE, map_location=\"cpu\"), NEW_FILE)";

/// Bytes of a file's beginning that tell its format.
const BEGINNING: usize = 512;

/// A file of named tensors: safetensors, or the zip archive of `torch.save`, told apart by content
/// and not by name.
///
/// Nothing of a file is executed. Opening reads the names and shapes; values are read one tensor
/// at a time. A dict inside a dict gives names that are joined by dots, `teacher.cls_token`.
///
/// # Example
///
/// ```
/// use s5cl_backbone::{WeightsFile, save_weights};
/// # use candle_core::{Device, Tensor};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let path = std::env::temp_dir().join("s5cl-backbone-weights-file.safetensors");
/// let bias = Tensor::new(&[1_f64, 2.0], &Device::Cpu)?;
/// std::fs::write(&path, save_weights(&[("fc.bias".into(), bias)].into(), &Default::default())?)?;
///
/// let mut file = WeightsFile::open(&path)?;
/// assert_eq!(file.shapes().collect::<Vec<_>>(), [("fc.bias", &[2_usize][..])]);
/// assert_eq!(file.tensor("fc.bias")?.to_vec1::<f32>()?, [1.0, 2.0]);
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    file: File,
    tensors: BTreeMap<String, Stored>,
}

impl WeightsFile {
    /// Opens one and reads its names and shapes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is damaged or cut off, is of another format (the line says what
    /// to do), or names a Python class that no file of weights needs.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.into(), source };
        let format = |reason: String| WeightsError::Format { path: path.into(), reason };
        let file = File::open(path).map_err(io)?;
        let mut beginning = Vec::with_capacity(BEGINNING);
        (&file).take(BEGINNING as u64).read_to_end(&mut beginning).map_err(io)?;
        (&file).seek(SeekFrom::Start(0)).map_err(io)?;
        // First, since the length of a header may read like the first letters of another format.
        let is_safetensors = beginning.get(8) == Some(&b'{');
        let tensors = if is_safetensors {
            let (metadata, values) =
                safetensors_file::header(&file).map_err(|error| match error {
                    HeaderError::Io(source) => io(source),
                    HeaderError::Format(reason) => format(reason),
                })?;
            safetensors_file::tensors(&metadata, values)
        } else if beginning.starts_with(b"PK") {
            torch::tensors(&file).map_err(|error| match error {
                TorchError::Io(source) => io(source),
                TorchError::Format(reason) => format(reason),
                TorchError::Foreign(class) => {
                    WeightsError::ForeignClass { path: path.into(), class }
                }
            })?
        } else {
            return Err(format(other_format(&beginning)));
        };
        Ok(Self { path: path.into(), file, tensors })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and shapes, in the order of the names.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, stored)| (name.as_str(), stored.shape.as_slice()))
    }

    /// One tensor by its name in the file, f32 on the CPU; f16, bf16 and f64 are converted.
    ///
    /// # Errors
    ///
    /// If there is none of that name, it cannot be read, holds values of another type, a value
    /// that is not finite in f32, or the same value in several places.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor, WeightsError> {
        let failed = |reason: String| self.tensor_error(name, reason);
        let (values, shape) = self.values(name)?;
        Tensor::from_vec(values, shape, &Device::Cpu).map_err(|error| failed(error.to_string()))
    }

    /// The values of a tensor, the last dimension fastest, and its shape.
    pub(super) fn values(&self, name: &str) -> Result<(Vec<f32>, &[usize]), WeightsError> {
        let failed = |reason: String| self.tensor_error(name, reason);
        let stored = self.tensors.get(name).ok_or_else(|| failed("does not exist".into()))?;
        match stored.read(&self.file) {
            Ok(values) => Ok((values, &stored.shape)),
            Err(ReadError::Io(source)) => Err(WeightsError::Io { path: self.path.clone(), source }),
            Err(ReadError::Value(reason)) => Err(failed(reason)),
        }
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }

    pub(super) fn tensor_error(&self, key: &str, reason: String) -> WeightsError {
        WeightsError::Tensor { path: self.path.clone(), key: key.to_owned(), reason }
    }
}

/// What is said of a file that starts like none of those that are read.
fn other_format(beginning: &[u8]) -> String {
    let is_old_pickle = beginning.first() == Some(&0x80)
        && beginning.get(1).is_some_and(|protocol| (2..=5).contains(protocol));
    // The oldest files of PyTorch were tar archives, which say so behind the name of a member.
    let is_tar = beginning.get(257..262) == Some(b"ustar") || beginning.starts_with(b"././@");
    let starts = |text: &str| beginning.trim_ascii_start().starts_with(text.as_bytes());
    if is_old_pickle || is_tar {
        format!("is in the old format of torch.save, before PyTorch 1.6; {CONVERT}")
    } else if starts("version https://git-lfs") {
        "is a pointer of Git LFS, not the weights themselves; get them with git lfs pull".into()
    } else if starts("<!") || starts("<html") {
        "is a web page, not the weights themselves; get the file itself".into()
    } else if beginning.len() <= 8 {
        format!("has only {} bytes, so it holds no weights; get it again", beginning.len())
    } else {
        format!("is neither safetensors nor a zip archive of torch.save; {CONVERT}")
    }
}
