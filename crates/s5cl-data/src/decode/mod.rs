//! An image file of any kind as 8-bit RGB.

mod tiff_repair;

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::{ImageFormat, ImageReader, RgbImage};

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
    let tile = reader(Cursor::new(bytes), path)?.decode();
    Ok(tile.map_err(|error| undecodable(path, &error))?.into_rgb8())
}

/// Width and height from the header of an image file, in pixels.
pub(crate) fn size_of_file(path: &Path) -> Result<(u32, u32), DataError> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let size = reader(BufReader::new(file), path)?.into_dimensions();
    size.map_err(|error| undecodable(path, &error))
}

/// Goes by the first bytes, and by the extension where they tell nothing (BigTIFF).
fn reader<R: BufRead + Seek>(source: R, path: &Path) -> Result<ImageReader<R>, DataError> {
    let reader = ImageReader::new(source).with_guessed_format();
    let mut reader = reader.map_err(|error| unreadable(path, &error))?;
    if reader.format().is_none()
        && let Ok(format) = ImageFormat::from_path(path)
    {
        reader.set_format(format);
    }
    Ok(reader)
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> DataError {
    DataError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

pub(crate) fn undecodable(path: &Path, error: &impl ToString) -> DataError {
    let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    DataError::Undecodable { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests;
