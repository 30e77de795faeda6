//! Made-up tiles: cells on tissue, one color and density a class.

use std::io;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use s5cl_random::named_stream;

/// Background, cells, and how many cells, by class.
const LOOKS: [([u8; 3], [u8; 3], usize); 9] = [
    ([245, 238, 243], [214, 178, 205], 3),
    ([243, 242, 245], [236, 233, 240], 1),
    ([221, 190, 214], [122, 92, 140], 9),
    ([216, 196, 226], [76, 52, 130], 30),
    ([226, 220, 236], [170, 160, 205], 6),
    ([230, 150, 185], [150, 70, 120], 7),
    ([214, 160, 200], [104, 64, 140], 14),
    ([234, 168, 190], [140, 80, 130], 10),
    ([190, 130, 190], [70, 36, 110], 22),
];

/// A grid of square tiles as RGB, one class index a tile.
pub(super) struct Grid {
    side: usize,
    columns: usize,
    n_rows: usize,
    pixels: Vec<u8>,
}

impl Grid {
    pub(super) fn new(side: usize, columns: usize, n_tiles: usize) -> Self {
        let n_rows = n_tiles.div_ceil(columns);
        Self { side, columns, n_rows, pixels: vec![255; 3 * side * side * columns * n_rows] }
    }

    /// Draws a tile; the same `drawing` gives the same cells, `strength` changes their colors.
    pub(super) fn draw(&mut self, tile: usize, class_idx: usize, drawing: usize, strength: f32) {
        let mut random = named_stream(drawing as u64, "tile");
        let (ground, cell, n_cells) = LOOKS[class_idx];
        let mut cells = Vec::new();
        for _ in 0..n_cells {
            let mut place = || random.uniform_in(0.0, self.side as f32);
            cells.push((place(), place()));
        }
        let radius = self.side as f32 * random.uniform_in(0.07, 0.12);
        let tint: [f32; 3] = std::array::from_fn(|_| random.normal() * 14.0 * strength);
        let (left, top) = (tile % self.columns * self.side, tile / self.columns * self.side);
        for y in 0..self.side {
            for x in 0..self.side {
                let near = |&(cx, cy): &(f32, f32)| (x as f32 - cx).hypot(y as f32 - cy) < radius;
                let color = if cells.iter().any(near) { cell } else { ground };
                let at = 3 * ((top + y) * self.side * self.columns + left + x);
                for channel in 0..3 {
                    let value = f32::from(color[channel]) + tint[channel] + random.normal() * 5.0;
                    self.pixels[at + channel] = value.clamp(0.0, 255.0) as u8;
                }
            }
        }
    }

    /// The grid as JPEG in base64.
    pub(super) fn to_base64(&self) -> io::Result<String> {
        let (width, height) = ((self.side * self.columns) as u32, (self.side * self.n_rows) as u32);
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 80)
            .write_image(&self.pixels, width, height, ExtendedColorType::Rgb8)
            .map_err(io::Error::other)?;
        Ok(base64(&bytes))
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - group.len()));
        for digit in 0..4 {
            let bits = word >> (18 - 6 * digit) & 63;
            text.push(if digit <= group.len() { DIGITS[bits as usize] as char } else { '=' });
        }
    }
    text
}
