//! Files of a run folder as text and objects.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::ReportError;

/// Reads an object of one version.
pub(crate) fn read_versioned<T: for<'a> Deserialize<'a>>(
    path: &Path,
    expected: u64,
) -> Result<T, ReportError> {
    #[derive(Deserialize)]
    struct Version {
        schema: u64,
    }
    let text = read(path)?;
    // First and alone: of another version, the other fields may be missing.
    let Version { schema: found } = parse_json(&text, path)?;
    if found != expected {
        return Err(ReportError::Schema { path: path.to_owned(), found, expected });
    }
    parse_json(&text, path)
}

/// Reads a text.
pub(crate) fn read(path: &Path) -> Result<String, ReportError> {
    fs::read_to_string(path).map_err(|source| ReportError::Read { path: path.to_owned(), source })
}

/// Parses an object of the file at `path`.
pub(crate) fn parse_json<T: for<'a> Deserialize<'a>>(
    text: &str,
    path: &Path,
) -> Result<T, ReportError> {
    serde_json::from_str(text).map_err(|source| ReportError::Json { path: path.to_owned(), source })
}
