//! Why weights could not be loaded or saved.

use std::path::PathBuf;

use thiserror::Error;

use super::KeyReport;

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
    /// The file is damaged, or of a format that is not read.
    #[error("{path} {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A file of `torch.save` holds objects that are neither tensors nor plain data.
    #[error(
        "{path} names the Python class {class}, which no file of weights needs; save the weights \
         alone, with torch.save(model.state_dict(), FILE)"
    )]
    ForeignClass {
        /// The file.
        path: PathBuf,
        /// Module and name of the class.
        class: String,
    },
    /// The file is of another architecture.
    #[error("{path} does not fit this encoder: {report}{hint}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What was compared.
        report: Box<KeyReport>,
        /// The encoder that would fit, where the file's keys tell.
        hint: String,
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
    /// The file is not the expected one.
    #[error(
        "{path} has the SHA-256 {actual}, expected {expected}: delete it and get it again, or \
         expect this one if it is meant"
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        expected: String,
        /// What the file has.
        actual: String,
    },
}
