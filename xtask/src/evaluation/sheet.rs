//! Small pictures side by side in one image, for pages that have no other file.

use std::io::Cursor;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::replace;

/// Quality at which the tiles of a sheet still look as they do on disk.
const JPEG_QUALITY: u8 = 85;

/// Tiles of one size in rows of `columns`, the rest of the last row black. `gap` pixels stay
/// between them.
pub(crate) fn sheet(tiles: &[RgbImage], columns: usize, gap: u32) -> RgbImage {
    let (width, height) = tiles.first().map_or((1, 1), RgbImage::dimensions);
    let rows = tiles.len().div_ceil(columns.max(1)).max(1) as u32;
    let columns = columns.clamp(1, tiles.len().max(1)) as u32;
    let mut sheet = RgbImage::new((width + gap) * columns - gap, (height + gap) * rows - gap);
    for (idx, tile) in tiles.iter().enumerate() {
        let (column, row) = (idx as u32 % columns, idx as u32 / columns);
        replace(&mut sheet, tile, ((width + gap) * column).into(), ((height + gap) * row).into());
    }
    sheet
}

/// The image as a JPEG in base64, as a page's `data:image/jpeg;base64,` takes it.
pub(crate) fn jpeg_base64(image: &RgbImage) -> Result<String> {
    let mut jpeg = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode_image(image)?;
    Ok(STANDARD.encode(jpeg.get_ref()))
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn sheet_has_its_tiles_in_rows() {
        let tiles: Vec<RgbImage> =
            (1..=5_u8).map(|gray| RgbImage::from_pixel(2, 3, Rgb([gray; 3]))).collect();
        let sheet = sheet(&tiles, 3, 1);
        assert_eq!(sheet.dimensions(), (8, 7));
        let at = |x, y| sheet.get_pixel(x, y).0[0];
        assert_eq!([at(0, 0), at(3, 2), at(7, 0), at(0, 4), at(4, 6)], [1, 2, 3, 4, 5]);
        assert_eq!([at(2, 0), at(0, 3), at(7, 6)], [0, 0, 0]);
    }

    #[test]
    fn jpeg_of_a_sheet_decodes_to_its_size() -> Result<()> {
        let image = RgbImage::from_pixel(8, 5, Rgb([200, 100, 150]));
        let jpeg = STANDARD.decode(jpeg_base64(&image)?).unwrap();
        assert_eq!(image::load_from_memory(&jpeg)?.to_rgb8().dimensions(), (8, 5));
        Ok(())
    }
}
