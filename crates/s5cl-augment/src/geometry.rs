//! Flips and quarter turns, collected into one copy of the image.

use image::RgbImage;

/// One of the eight symmetries of a square: an optional transposition, then optional flips.
///
/// Any sequence of flips and quarter turns is one of these, so a pipeline collects them and
/// touches the pixels once.
///
/// # Example
///
/// ```
/// use image::RgbImage;
/// use s5cl_augment::Symmetry;
///
/// let tile = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 0]));
/// let turned = Symmetry::default().turned_left().apply(&tile);
/// assert_eq!(turned.dimensions(), (2, 3));
/// assert_eq!(turned.get_pixel(0, 0), tile.get_pixel(2, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symmetry {
    /// Rows become columns first.
    pub transposed: bool,
    /// Then left and right are exchanged.
    pub flipped_x: bool,
    /// Then top and bottom are exchanged.
    pub flipped_y: bool,
}

impl Symmetry {
    /// Followed by a flip from left to right.
    #[must_use]
    pub fn flipped_horizontally(self) -> Self {
        Self { flipped_x: !self.flipped_x, ..self }
    }

    /// Followed by a flip from top to bottom.
    #[must_use]
    pub fn flipped_vertically(self) -> Self {
        Self { flipped_y: !self.flipped_y, ..self }
    }

    /// Followed by a rotation by 90 degrees against the clock.
    #[must_use]
    pub fn turned_left(self) -> Self {
        // A left turn is a transposition and then a vertical flip, and a transposition that
        // moves past a flip exchanges its axis.
        Self { transposed: !self.transposed, flipped_x: self.flipped_y, flipped_y: !self.flipped_x }
    }

    /// The image seen through this symmetry; its sides are exchanged after an odd number of
    /// quarter turns.
    #[must_use]
    pub fn apply(self, image: &RgbImage) -> RgbImage {
        let (source_width, source_height) = image.dimensions();
        let (width, height) = if self.transposed {
            (source_height, source_width)
        } else {
            (source_width, source_height)
        };
        let mut output = RgbImage::new(width, height);
        if width == 0 || height == 0 {
            return output;
        }
        let (source, _) = image.as_chunks::<3>();
        let (target, _) = output.as_chunks_mut::<3>();
        let (source_width, width) = (source_width as usize, width as usize);
        if self.transposed {
            self.transpose(source, source_width, target, width);
        } else {
            self.flip_rows(source, target, width);
        }
        output
    }

    fn flip_rows(self, source: &[[u8; 3]], target: &mut [[u8; 3]], width: usize) {
        let height = target.len() / width;
        for (y, row) in target.chunks_exact_mut(width).enumerate() {
            let y = if self.flipped_y { height - 1 - y } else { y };
            row.copy_from_slice(&source[y * width..(y + 1) * width]);
            if self.flipped_x {
                row.reverse();
            }
        }
    }

    fn transpose(
        self,
        source: &[[u8; 3]],
        source_width: usize,
        target: &mut [[u8; 3]],
        width: usize,
    ) {
        // Bands of rows of the target: what is read for one pixel lies beside what the next
        // rows of the band need.
        const BAND: usize = 16;
        for (band, rows) in target.chunks_mut(BAND * width).enumerate() {
            let n_rows = rows.len() / width;
            let first = band * BAND;
            for x in 0..width {
                let row = if self.flipped_x { width - 1 - x } else { x } * source_width;
                let columns = if self.flipped_y {
                    &source[row + source_width - first - n_rows..][..n_rows]
                } else {
                    &source[row + first..][..n_rows]
                };
                for (y, pixel) in columns.iter().enumerate() {
                    let y = if self.flipped_y { n_rows - 1 - y } else { y };
                    rows[y * width + x] = *pixel;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::imageops;

    fn numbered(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]))
    }

    #[test]
    fn symmetry_composes_like_its_parts() {
        for (width, height) in [(20, 20), (33, 17), (1, 5), (5, 1)] {
            for word in 0..3_u32.pow(4) {
                let (mut symmetry, mut expected) = (Symmetry::default(), numbered(width, height));
                for letter in 0..4 {
                    match word / 3_u32.pow(letter) % 3 {
                        0 => {
                            symmetry = symmetry.flipped_horizontally();
                            expected = imageops::flip_horizontal(&expected);
                        }
                        1 => {
                            symmetry = symmetry.flipped_vertically();
                            expected = imageops::flip_vertical(&expected);
                        }
                        _ => {
                            symmetry = symmetry.turned_left();
                            expected = imageops::rotate270(&expected);
                        }
                    }
                }
                assert_eq!(symmetry.apply(&numbered(width, height)), expected, "word {word}");
            }
        }
    }

    #[test]
    fn symmetry_of_nothing_is_nothing() {
        let turned = Symmetry::default().turned_left();
        assert_eq!(turned.apply(&RgbImage::new(0, 3)).dimensions(), (3, 0));
    }
}
