//! An image file of any kind as 8-bit RGB.

mod jpeg_end;
mod tiff_repair;

use std::path::Path;

use image::RgbImage;

use self::tiff_repair::repair;
use crate::DataError;

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
    if jpeg_end::is_cut_off(&bytes) {
        return Err(undecodable(path, &"the JPEG data end early"));
    }
    // Not generic over the source of the bytes: the decoders stay compiled where they are.
    let tile = image::load_from_memory(&bytes).map_err(|error| undecodable(path, &error))?;
    Ok(tile.into_rgb8())
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> DataError {
    DataError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

fn undecodable(path: &Path, error: &impl ToString) -> DataError {
    let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    DataError::Undecodable { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests;
