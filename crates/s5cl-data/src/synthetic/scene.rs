//! What the classes share: a tile's scene, where cells are put and how a nucleus looks.

use s5cl_random::Stream;

use super::canvas::{Blob, Canvas, FIELD_MICRONS, Ink, Point, ink};
use super::noise::{Noise, direction};

/// Cells are placed this far outside the field too, in micrometers, so that it has no rim.
const MARGIN_MICRONS: f32 = 10.0;

/// A tile while it is drawn.
pub(super) struct Scene<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) noise: &'a Noise,
    pub(super) canvas: &'a mut Canvas,
}

/// How a kind of nucleus looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nucleus {
    /// Semi-axes along and across its direction, in micrometers.
    pub(super) semi_axes: Point,
    /// Absorbance of hematoxylin.
    pub(super) hematoxylin: f32,
    /// Amplitude of the outline's unevenness, relative to the radius.
    pub(super) unevenness: f32,
    /// 0 for an even dark nucleus, 1 for a pale one with a dark rim and a nucleolus.
    pub(super) vesicular: f32,
}

impl Scene<'_> {
    /// A random place in lattice units, where a texture of the tile starts.
    pub(super) fn offset(&mut self) -> Point {
        (self.stream.uniform_in(0.0, 32.0), self.stream.uniform_in(0.0, 32.0))
    }

    /// A random unit vector.
    pub(super) fn any_direction(&mut self) -> Point {
        direction(self.stream.uniform())
    }

    /// A random point of the field.
    pub(super) fn any_point(&mut self) -> Point {
        let high = FIELD_MICRONS;
        (self.stream.uniform_in(0.0, high), self.stream.uniform_in(0.0, high))
    }

    /// Points on a hexagonal grid turned at random, each moved by up to `jitter * spacing` along
    /// both axes; also outside the field, up to `margin` micrometers.
    pub(super) fn grid(&mut self, spacing: f32, jitter: f32, margin: f32) -> Vec<Point> {
        let (cos, sin) = self.any_direction();
        let (phase_x, phase_y) = (self.stream.uniform(), self.stream.uniform());
        let half = FIELD_MICRONS / 2.0;
        let rows = ((half * 1.42 + margin * 1.42) / (spacing * 0.866)) as i32 + 1;
        let columns = ((half * 1.42 + margin * 1.42) / spacing) as i32 + 1;
        let mut points = Vec::new();
        let inside = -margin..FIELD_MICRONS + margin;
        for row in -rows..=rows {
            let shift = if row % 2 == 0 { 0.0 } else { 0.5 };
            for column in -columns..=columns {
                let u = (column as f32 + shift + phase_x) * spacing;
                let v = (row as f32 + phase_y) * spacing * 0.866;
                let x = half + u * cos - v * sin;
                let y = half + u * sin + v * cos;
                if inside.contains(&x) && inside.contains(&y) {
                    let reach = jitter * spacing;
                    let move_x = self.stream.uniform_in(-reach, reach);
                    points.push((x + move_x, y + self.stream.uniform_in(-reach, reach)));
                }
            }
        }
        points
    }

    /// [`Scene::grid`] with the margin that cells need.
    pub(super) fn cells(&mut self, spacing: f32, jitter: f32) -> Vec<Point> {
        self.grid(spacing, jitter, MARGIN_MICRONS)
    }

    /// Draws one nucleus.
    pub(super) fn nucleus(&mut self, center: Point, direction: Point, look: &Nucleus) {
        let amplitude = look.unevenness;
        let lobes = [(); 4].map(|()| self.stream.uniform_in(-amplitude, amplitude));
        let grain = self.offset();
        let blob = Blob { center, semi_axes: look.semi_axes, direction, lobes };
        let noise = self.noise;
        let inner = 1.0 - 0.5 * look.vesicular;
        let core = 0.28 * look.semi_axes.1;
        let nucleolus = (
            center.0 + self.stream.uniform_in(-1.0, 1.0) * core,
            center.1 + self.stream.uniform_in(-1.0, 1.0) * core,
        );
        self.canvas.blob(&blob, |(x, y), depth| {
            let chromatin = noise.at(x / 1.6 + grain.0, y / 1.6 + grain.1) - 0.5;
            let rim = (1.0 - depth / 1.3).clamp(0.0, 1.0);
            let (dx, dy) = (x - nucleolus.0, y - nucleolus.1);
            let dot = (1.6 - (dx * dx + dy * dy).sqrt() / 1.1).clamp(0.0, 1.0) * look.vesicular;
            let filling = inner + (1.0 - inner) * rim.max(dot);
            let density = look.hematoxylin * filling * (1.0 + 0.35 * chromatin);
            (ink(density, 0.18 + 0.25 * dot), 0.95)
        });
    }

    /// Draws a cell without a nucleus: an even patch.
    pub(super) fn patch(&mut self, blob: &Blob, inside: Ink, opacity: f32) {
        self.canvas.blob(blob, |_, _| (inside, opacity));
    }
}
