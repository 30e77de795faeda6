//! Affine warps: bilinear, with the image mirrored at its border.

use image::RgbImage;
use s5cl_random::Stream;

/// The largest share by which corners may move. The square's sides are 2/3 of the image's shorter
/// side; corners that all move by a quarter of that, 1/6, can end on one line.
pub(crate) const LARGEST_SHIFT: f32 = 0.166;

/// A place in an image that gives the color of a place in another:
/// `source = matrix * (x, y, 1)`, pixel centres at whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineMap(pub [[f64; 3]; 2]);

impl AffineMap {
    /// The map that leaves everything in place.
    pub const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);

    /// The map of a warp that moves three corners of a centred square by `shifts`, `[x, y]` in
    /// pixels each: the lower right one, the lower left one, the upper left one.
    ///
    /// The square reaches a third of the image's shorter side to each side of the middle. Shifts
    /// below 1/6 of the shorter side always give a map; corners that end on one line give the
    /// identity.
    ///
    /// # Source
    ///
    /// The published S5CL code (`cv2.getAffineTransform` of three moved points, then
    /// `cv2.warpAffine` with reflection). Deviations: bilinear instead of nearest neighbour; the
    /// square is not rounded to whole pixels; x and y are not exchanged where an image is not
    /// square; shifts are shares of the shorter side instead of the width.
    #[must_use]
    pub fn from_corner_shifts(size: (u32, u32), shifts: [[f64; 2]; 3]) -> Self {
        let (width, height) = (f64::from(size.0), f64::from(size.1));
        let middle = [(width - 1.0) / 2.0, (height - 1.0) / 2.0];
        let side = 2.0 / 3.0 * width.min(height);
        // Relative to the lower left corner, the others lie one side to the right and one side
        // up. The warp takes that cross to `right` and `up`; its inverse is what an output
        // pixel needs.
        let [lower_right, lower_left, upper_left] = shifts;
        let right = [side + lower_right[0] - lower_left[0], lower_right[1] - lower_left[1]];
        let up = [upper_left[0] - lower_left[0], -side + upper_left[1] - lower_left[1]];
        let determinant = right[0] * up[1] - right[1] * up[0];
        if determinant.abs() < 1e-9 * side * side || side == 0.0 {
            return Self::IDENTITY;
        }
        let scale = side / determinant;
        let linear = [[up[1] * scale, -up[0] * scale], [right[1] * scale, -right[0] * scale]];
        let corner = [middle[0] - side / 2.0, middle[1] + side / 2.0];
        let moved = [corner[0] + lower_left[0], corner[1] + lower_left[1]];
        let row = |axis: usize| {
            let [a, b] = linear[axis];
            [a, b, corner[axis] - a * moved[0] - b * moved[1]]
        };
        Self([row(0), row(1)])
    }

    /// A random map; see [`crate::Transform::Affine`].
    pub(crate) fn draw(size: (u32, u32), amount: f32, random: &mut Stream) -> Self {
        let reach = f64::from(amount) * f64::from(size.0.min(size.1));
        let mut shift = || f64::from(random.uniform_in(-1.0, 1.0)) * reach;
        let shifts = [[shift(), shift()], [shift(), shift()], [shift(), shift()]];
        Self::from_corner_shifts(size, shifts)
    }
}

/// Bits behind the point of a coordinate.
const FRACTION_BITS: u32 = 32;
/// Bits of a bilinear weight along one axis: places are rounded to 1/64 of a pixel.
const WEIGHT_BITS: u32 = 6;
/// Bits between the colors of a pixel in one word: a color times two weights, and the carry.
const LANE_BITS: u32 = 21;

/// The image seen through a map: bilinear, mirrored at the border without repeating it
/// (`dcb|abcd|cba`).
///
/// Places are rounded to 1/64 of a pixel (OpenCV: 1/32), so a level differs from the exact
/// bilinear one by at most 1/128 of the contrast between neighbours along each axis, and rounding
/// (`golden_affine_equals_an_exact_bilinear_warp`).
#[must_use]
pub fn warp_affine(image: &RgbImage, map: AffineMap) -> RgbImage {
    let (width, height) = image.dimensions();
    let mut output = RgbImage::new(width, height);
    if width == 0 || height == 0 {
        return output;
    }
    // One word for each pixel, a color in every lane: four products weigh all three colors.
    let words: Vec<u64> = image.as_chunks().0.iter().map(|&pixel| to_word(pixel)).collect();
    let source = Source { words: &words, width: width as usize, height: height as usize };
    let fixed = |value: f64| (value * (1_u64 << FRACTION_BITS) as f64).round() as i64;
    // Half of a weight's last bit, so that cutting a place off rounds it.
    let half = 1_i64 << (FRACTION_BITS - WEIGHT_BITS - 1);
    let [along_x, along_y] = map.0;
    let step = [fixed(along_x[0]), fixed(along_y[0])];
    let (pixels, _) = output.as_chunks_mut();
    for (y, row) in pixels.chunks_exact_mut(width as usize).enumerate() {
        let mut place =
            [along_x, along_y].map(|m| fixed(m[1] * y as f64 + m[2]).wrapping_add(half));
        for pixel in row {
            *pixel = source.at(place);
            place = [place[0].wrapping_add(step[0]), place[1].wrapping_add(step[1])];
        }
    }
    output
}

struct Source<'a> {
    words: &'a [u64],
    width: usize,
    height: usize,
}

impl Source<'_> {
    #[inline(always)]
    fn at(&self, place: [i64; 2]) -> [u8; 3] {
        let [x, y] = place.map(|value| value >> FRACTION_BITS);
        let [wx, wy] = place.map(|value| {
            (value >> (FRACTION_BITS - WEIGHT_BITS)) as u64 & ((1 << WEIGHT_BITS) - 1)
        });
        // As unsigned numbers, negative places are large.
        let inside = (x as u64) < self.width as u64 - 1 && (y as u64) < self.height as u64 - 1;
        let corners = if inside {
            let first = y as usize * self.width + x as usize;
            match (
                self.words.get(first..first + 2),
                self.words.get(first + self.width..first + self.width + 2),
            ) {
                (Some(&[a, b]), Some(&[c, d])) => [a, b, c, d],
                _ => [0; 4],
            }
        } else {
            self.mirrored(x, y)
        };
        mix(corners, wx, wy)
    }

    #[cold]
    fn mirrored(&self, x: i64, y: i64) -> [u64; 4] {
        let columns = [mirror(x, self.width), mirror(x.wrapping_add(1), self.width)];
        let rows = [mirror(y, self.height), mirror(y.wrapping_add(1), self.height)];
        let word = |row: usize, column: usize| self.words[rows[row] * self.width + columns[column]];
        [word(0, 0), word(0, 1), word(1, 0), word(1, 1)]
    }
}

#[inline(always)]
fn mix([a, b, c, d]: [u64; 4], wx: u64, wy: u64) -> [u8; 3] {
    const SHIFT: u32 = 2 * WEIGHT_BITS;
    const HALF: u64 = 1 << (SHIFT - 1);
    // Between two words and a weight the lanes may borrow from each other; the sum has none left.
    let between = |a: u64, b: u64, weight: u64| {
        (a << WEIGHT_BITS).wrapping_add(b.wrapping_sub(a).wrapping_mul(weight))
    };
    let (top, bottom) = (between(a, b, wx), between(c, d, wx));
    let half = HALF | HALF << LANE_BITS | HALF << (2 * LANE_BITS);
    let sum = between(top, bottom, wy).wrapping_add(half);
    [sum >> SHIFT, sum >> (SHIFT + LANE_BITS), sum >> (SHIFT + 2 * LANE_BITS)]
        .map(|value| value as u8)
}

#[inline(always)]
fn to_word([red, green, blue]: [u8; 3]) -> u64 {
    u64::from(red) | u64::from(green) << LANE_BITS | u64::from(blue) << (2 * LANE_BITS)
}

/// The pixel that stands at `place` of a row of `n` pixels mirrored again and again.
fn mirror(place: i64, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as i64 - 1);
    let place = place.rem_euclid(period);
    place.min(period - place) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use s5cl_random::stream;

    /// The sum of two float roundings of places about 200 pixels from the origin.
    const PLACE_TOLERANCE: f64 = 1e-9;

    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([x as u8 * 4, y as u8 * 4, 255 - x as u8])
        })
    }

    #[test]
    fn map_takes_the_moved_corners_back() {
        let (size, shifts) = ((60, 45), [[3.0, -2.0], [-1.5, 4.0], [0.5, 2.5]]);
        let AffineMap([mx, my]) = AffineMap::from_corner_shifts(size, shifts);
        let (middle, reach) = ([29.5, 22.0], 15.0);
        for ([sx, sy], [dx, dy]) in [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]].into_iter().zip(shifts)
        {
            let corner = [middle[0] + sx * reach, middle[1] + sy * reach];
            let (x, y) = (corner[0] + dx, corner[1] + dy);
            assert!((mx[0] * x + mx[1] * y + mx[2] - corner[0]).abs() < PLACE_TOLERANCE);
            assert!((my[0] * x + my[1] * y + my[2] - corner[1]).abs() < PLACE_TOLERANCE);
        }
    }

    #[test]
    fn map_stays_regular_up_to_the_largest_shift() {
        for sample in 0..5000 {
            let map = AffineMap::draw((224, 224), LARGEST_SHIFT, &mut stream(0, 0, sample, 1));
            let AffineMap([x, y]) = map;
            assert!(x[0] * y[1] - x[1] * y[0] > 0.0, "{map:?}");
        }
    }

    #[test]
    fn map_of_corners_on_a_line_is_the_identity() {
        let shifts = [[-5.0, 5.0], [5.0, -5.0], [-5.0, 5.0]];
        assert_ne!(
            AffineMap::from_corner_shifts((30, 30), [[0.0; 2], [1.0, 1.0], [0.0; 2]]),
            AffineMap::IDENTITY
        );
        assert_eq!(AffineMap::from_corner_shifts((30, 30), shifts), AffineMap::IDENTITY);
    }

    #[test]
    fn warp_by_nothing_is_the_identity() {
        for (width, height) in [(33, 20), (1, 1), (1, 7), (6, 1)] {
            let unmoved = AffineMap::from_corner_shifts((width, height), [[0.0; 2]; 3]);
            assert_eq!(warp_affine(&ramp(width, height), unmoved), ramp(width, height));
        }
    }

    #[test]
    fn warp_by_whole_pixels_mirrors_the_border() {
        let image = ramp(5, 3);
        let shifted = warp_affine(&image, AffineMap([[1.0, 0.0, -2.0], [0.0, 1.0, 7.0]]));
        for (x, y, pixel) in shifted.enumerate_pixels() {
            let column = [2, 1, 0, 1, 2][x as usize];
            let row = [1, 0, 1][y as usize];
            assert_eq!(pixel, image.get_pixel(column, row), "{x} {y}");
        }
    }

    #[test]
    fn warp_survives_huge_maps() {
        let map = AffineMap([[1e30, -1e300, f64::MAX], [f64::NAN, 1e9, -1e9]]);
        assert_eq!(warp_affine(&ramp(9, 9), map).dimensions(), (9, 9));
    }
}
