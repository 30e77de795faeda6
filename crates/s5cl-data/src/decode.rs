//! An image file of any kind as 8-bit RGB.

use std::io::Cursor;
use std::path::Path;

use image::{ImageReader, RgbImage};

use crate::DataError;
use crate::tiff_repair::repair;

/// Reads a file and decodes what is in it, whatever its extension says.
pub(crate) fn decode_file(path: &Path) -> Result<RgbImage, DataError> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    decode(bytes, path)
}

/// Decodes the bytes of one image file; `path` is for messages only.
///
/// Gray and palette images become RGB, 16 bits are scaled to 8, an alpha channel is dropped.
pub(crate) fn decode(mut bytes: Vec<u8>, path: &Path) -> Result<RgbImage, DataError> {
    repair(&mut bytes).map_err(|reason| undecodable(path, &reason))?;
    let tile = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| unreadable(path, &error))?
        .decode()
        .map_err(|error| undecodable(path, &error))?;
    Ok(tile.into_rgb8())
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> DataError {
    DataError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

pub(crate) fn undecodable(path: &Path, error: &impl ToString) -> DataError {
    let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    DataError::Undecodable { path: path.to_owned(), reason }
}
