//! Absorbance planes of hematoxylin and eosin, and the shapes that are drawn on them.
//!
//! Everything is given in micrometers on a fixed field of view; the canvas only decides how
//! finely it is sampled. Edges are one sample wide, so that a coarse canvas shows about the area
//! average of a fine one.

/// Side of the field of view that every tile shows, in micrometers, at any size in pixels.
pub(super) const FIELD_MICRONS: f32 = 96.0;

/// Edges are never sharper than the optics, in micrometers.
const OPTICAL_EDGE_MICRONS: f32 = 0.7;

/// A point or a vector in micrometers.
pub(super) type Point = (f32, f32);

/// Absorbance of the two stains (natural logarithm, before the patient's and the tile's gains).
#[derive(Clone, Copy, Debug)]
pub(super) struct Ink {
    pub(super) hematoxylin: f32,
    pub(super) eosin: f32,
}

/// An ink from its two absorbances, hematoxylin first.
pub(super) fn ink(hematoxylin: f32, eosin: f32) -> Ink {
    Ink { hematoxylin, eosin }
}

/// An ellipse with an uneven outline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blob {
    /// Center, in micrometers.
    pub(super) center: Point,
    /// Semi-axes, in micrometers; the first one lies along `direction`.
    pub(super) semi_axes: Point,
    /// Unit vector.
    pub(super) direction: Point,
    /// Relative amplitudes of the outline's second and third harmonics (cosine, sine each).
    pub(super) lobes: [f32; 4],
}

/// The two planes.
pub(super) struct Canvas {
    side: usize,
    step: f32,
    samples: Vec<Ink>,
}

impl Canvas {
    /// An empty canvas of `side * side` samples over the field of view.
    pub(super) fn new(side: usize) -> Self {
        let samples = vec![ink(0.0, 0.0); side * side];
        Self { side, step: FIELD_MICRONS / side as f32, samples }
    }

    /// Samples along one side.
    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// Distance between samples, in micrometers.
    pub(super) fn step(&self) -> f32 {
        self.step
    }

    /// The samples, row by row.
    pub(super) fn samples(&self) -> &[Ink] {
        &self.samples
    }

    /// Rewrites every sample from its place and what is there.
    pub(super) fn shade(&mut self, mut paint: impl FnMut(Point, Ink) -> Ink) {
        for (row, samples) in self.samples.chunks_exact_mut(self.side).enumerate() {
            let y = (row as f32 + 0.5) * self.step;
            for (column, sample) in samples.iter_mut().enumerate() {
                *sample = paint(((column as f32 + 0.5) * self.step, y), *sample);
            }
        }
    }

    /// Covers a blob; `paint` gets the place and the depth below the outline in micrometers and
    /// returns the ink and its opacity.
    pub(super) fn blob(&mut self, blob: &Blob, mut paint: impl FnMut(Point, f32) -> (Ink, f32)) {
        let (a, b) = blob.semi_axes;
        let (cos, sin) = blob.direction;
        let swell = 1.0 + blob.lobes.iter().map(|lobe| lobe.abs()).sum::<f32>();
        let edge = self.step.max(OPTICAL_EDGE_MICRONS);
        let reach_x = ((a * cos) * (a * cos) + (b * sin) * (b * sin)).sqrt() * swell + edge;
        let reach_y = ((a * sin) * (a * sin) + (b * cos) * (b * cos)).sqrt() * swell + edge;
        let farthest = swell + 0.5 * edge / a.min(b);
        let (left, right) = self.range(blob.center.0, reach_x);
        let (top, bottom) = self.range(blob.center.1, reach_y);
        for row in top..bottom {
            let y = (row as f32 + 0.5) * self.step;
            for column in left..right {
                let x = (column as f32 + 0.5) * self.step;
                if blob.radius_squared((x, y)) > farthest * farthest {
                    continue;
                }
                let depth = blob.depth((x, y));
                let coverage = (0.5 + depth / edge).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    let (ink, opacity) = paint((x, y), depth);
                    self.samples[row * self.side + column].cover(ink, coverage * opacity);
                }
            }
        }
    }

    /// A straight piece of a fiber with round ends. Pieces thinner than a sample lose opacity
    /// instead of vanishing.
    pub(super) fn segment(&mut self, from: Point, to: Point, width: f32, ink: Ink, opacity: f32) {
        let half = width / 2.0;
        let edge = self.step.max(OPTICAL_EDGE_MICRONS);
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length_squared = (dx * dx + dy * dy).max(1e-6);
        let (left, right) = self.range((from.0 + to.0) / 2.0, dx.abs() / 2.0 + half + edge);
        let (top, bottom) = self.range((from.1 + to.1) / 2.0, dy.abs() / 2.0 + half + edge);
        for row in top..bottom {
            let y = (row as f32 + 0.5) * self.step - from.1;
            for column in left..right {
                let x = (column as f32 + 0.5) * self.step - from.0;
                let along = ((x * dx + y * dy) / length_squared).clamp(0.0, 1.0);
                let (rx, ry) = (x - along * dx, y - along * dy);
                let coverage = band_coverage((rx * rx + ry * ry).sqrt(), half, edge);
                if coverage > 0.0 {
                    self.samples[row * self.side + column].cover(ink, coverage * opacity);
                }
            }
        }
    }

    /// The sample indices within `reach` of a coordinate.
    fn range(&self, center: f32, reach: f32) -> (usize, usize) {
        let low = ((center - reach) / self.step - 0.5).ceil().max(0.0) as usize;
        let high = ((center + reach) / self.step + 0.5).ceil().max(0.0) as usize;
        (low.min(self.side), high.min(self.side))
    }
}

impl Ink {
    /// Lays another ink over this one.
    pub(super) fn cover(&mut self, over: Ink, opacity: f32) {
        self.hematoxylin += (over.hematoxylin - self.hematoxylin) * opacity;
        self.eosin += (over.eosin - self.eosin) * opacity;
    }

    /// This ink with another one laid over it.
    pub(super) fn covered(mut self, over: Ink, opacity: f32) -> Ink {
        self.cover(over, opacity);
        self
    }
}

impl Blob {
    /// An even ellipse.
    pub(super) fn ellipse(center: Point, semi_axes: Point, direction: Point) -> Self {
        Self { center, semi_axes, direction, lobes: [0.0; 4] }
    }

    /// The place in the axes of the ellipse, each in units of its semi-axis.
    fn local(&self, place: Point) -> Point {
        let (dx, dy) = (place.0 - self.center.0, place.1 - self.center.1);
        let (cos, sin) = self.direction;
        ((dx * cos + dy * sin) / self.semi_axes.0, (dy * cos - dx * sin) / self.semi_axes.1)
    }

    /// Square of the distance from the center, where the even ellipse has 1.
    fn radius_squared(&self, place: Point) -> f32 {
        let (u, v) = self.local(place);
        u * u + v * v
    }

    /// Depth of a place below the outline in micrometers (negative outside), to first order.
    pub(super) fn depth(&self, place: Point) -> f32 {
        let (a, b) = self.semi_axes;
        let (u, v) = self.local(place);
        let square = (u * u + v * v).max(1e-6);
        let radius = square.sqrt();
        let [cos_2, sin_2, cos_3, sin_3] = self.lobes;
        let second = (cos_2 * (u * u - v * v) + sin_2 * 2.0 * u * v) / square;
        let third = (cos_3 * u * (u * u - 3.0 * v * v) + sin_3 * v * (3.0 * u * u - v * v))
            / (square * radius);
        let slope = ((u / a) * (u / a) + (v / b) * (v / b)).sqrt() / radius;
        (1.0 + second + third - radius) / slope
    }
}

/// Share of a sample of width `edge` at `distance` from the middle of a band that the band fills.
pub(super) fn band_coverage(distance: f32, half_width: f32, edge: f32) -> f32 {
    let near = (distance - edge / 2.0).max(-half_width);
    let far = (distance + edge / 2.0).min(half_width);
    ((far - near) / edge).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_covers_its_area_at_any_sampling() {
        let blob = Blob::ellipse((48.0, 40.0), (12.0, 6.0), (0.6, 0.8));
        for side in [48, 64, 256] {
            let mut canvas = Canvas::new(side);
            canvas.blob(&blob, |_, _| (ink(1.0, 0.0), 1.0));
            let sum: f32 = canvas.samples().iter().map(|sample| sample.hematoxylin).sum();
            let area = sum * canvas.step() * canvas.step();
            let expected = std::f32::consts::PI * 12.0 * 6.0;
            assert!((area / expected - 1.0).abs() < 0.03, "{side}: {area} instead of {expected}");
        }
    }

    #[test]
    fn segment_thinner_than_a_sample_keeps_its_mass() {
        let mass = |side| {
            let mut canvas = Canvas::new(side);
            canvas.segment((20.0, 30.0), (70.0, 60.0), 0.6, ink(0.0, 1.0), 1.0);
            canvas.samples().iter().map(|sample| sample.eosin).sum::<f32>() * canvas.step().powi(2)
        };
        assert!((mass(64) / mass(512) - 1.0).abs() < 0.1, "{} {}", mass(64), mass(512));
    }

    #[test]
    fn shapes_outside_the_field_are_clipped() {
        let mut canvas = Canvas::new(32);
        let blob = Blob::ellipse((-40.0, 200.0), (8.0, 5.0), (1.0, 0.0));
        canvas.blob(&blob, |_, _| (ink(1.0, 1.0), 1.0));
        canvas.segment((-9.0, -9.0), (-3.0, 300.0), 2.0, ink(1.0, 1.0), 1.0);
        assert!(canvas.samples().iter().all(|sample| sample.hematoxylin == 0.0));
    }
}
