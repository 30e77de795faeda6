//! The epithelial classes: normal mucosa and tumor.

use super::canvas::{Blob, FIELD_MICRONS, Point, ink};
use super::fibrous::collagen;
use super::noise::{direction, mix, step_between};
use super::scene::{Nucleus, Scene};

/// Round crypts cut across, each with a lumen, goblet cells and one row of basal nuclei, in a
/// loose lamina propria.
pub(super) fn normal_mucosa(scene: &mut Scene) {
    let (noise, at) = (scene.noise, scene.offset());
    let eosin = scene.stream.uniform_in(0.2, 0.65);
    scene.canvas.shade(|(x, y), _| {
        let mesh = noise.cloud(x / 6.0 + at.0, y / 6.0 + at.1);
        ink(0.08, eosin * mix(0.35, 1.2, mesh))
    });
    let radius = scene.stream.uniform_in(17.0, 23.0);
    let spacing = 2.0 * radius + scene.stream.uniform_in(6.0, 12.0);
    let plasma_spacing = scene.stream.uniform_in(11.0, 17.0);
    for center in scene.cells(plasma_spacing, 0.35) {
        let look = Nucleus {
            semi_axes: (2.7, scene.stream.uniform_in(1.7, 2.6)),
            hematoxylin: scene.stream.uniform_in(0.9, 1.4),
            unevenness: 0.06,
            vesicular: 0.1,
        };
        let axis = scene.any_direction();
        scene.nucleus(center, axis, &look);
    }
    let cytoplasm = scene.stream.uniform_in(0.3, 0.8);
    let goblets = scene.stream.uniform_in(0.4, 0.95);
    for center in scene.grid(spacing, 0.05, 1.4 * radius) {
        let squeeze = scene.stream.uniform_in(0.72, 1.0);
        let crypt = Blob::ellipse(center, (radius, radius * squeeze), scene.any_direction());
        draw_crypt(scene, &crypt, cytoplasm, goblets);
    }
}

/// One crypt: `cytoplasm` is the eosin of its cells, `goblets` the share of goblet cells.
fn draw_crypt(scene: &mut Scene, crypt: &Blob, cytoplasm: f32, goblets: f32) {
    let (noise, at) = (scene.noise, scene.offset());
    scene.canvas.blob(crypt, |(x, y), _| {
        let grain = noise.cloud(x / 4.0 + at.0, y / 4.0 + at.1);
        (ink(0.2, cytoplasm * mix(0.8, 1.2, grain)), 1.0)
    });
    let lumen = scene.stream.uniform_in(0.16, 0.3);
    let n_goblets = (0.62 * crypt.semi_axes.0) as usize;
    let phase = scene.stream.uniform();
    for i in 0..n_goblets {
        if scene.stream.chance(goblets) {
            let turns = (i as f32 + phase) / n_goblets as f32;
            let (center, outward) = on_ellipse(crypt, turns, 0.56);
            let long = 0.2 * crypt.semi_axes.0;
            let vacuole = Blob::ellipse(center, (long, 0.75 * long), outward);
            scene.patch(&vacuole, ink(0.12, 0.04), 0.92);
        }
    }
    let hole = Blob::ellipse(
        crypt.center,
        (lumen * crypt.semi_axes.0, lumen * crypt.semi_axes.1),
        crypt.direction,
    );
    scene.patch(&hole, ink(0.03, 0.04), 1.0);
    let n_nuclei = (1.0 * crypt.semi_axes.0) as usize;
    let density = scene.stream.uniform_in(1.0, 1.5);
    for i in 0..n_nuclei {
        let turns = (i as f32 + scene.stream.uniform_in(-0.2, 0.2)) / n_nuclei as f32;
        let (center, outward) = on_ellipse(crypt, turns, 0.84);
        let look = Nucleus {
            semi_axes: (scene.stream.uniform_in(2.5, 3.2), scene.stream.uniform_in(1.8, 2.3)),
            hematoxylin: density * scene.stream.uniform_in(0.85, 1.15),
            unevenness: 0.05,
            vesicular: 0.2,
        };
        scene.nucleus(center, outward, &look);
    }
}

/// The point at a share of the way from an ellipse's center to its rim, and the way outward.
fn on_ellipse(ellipse: &Blob, turns: f32, share: f32) -> (Point, Point) {
    let (cos, sin) = direction(turns);
    let (u, v) = (share * ellipse.semi_axes.0 * cos, share * ellipse.semi_axes.1 * sin);
    let (dx, dy) = ellipse.direction;
    let center = (ellipse.center.0 + u * dx - v * dy, ellipse.center.1 + u * dy + v * dx);
    (center, (cos * dx - sin * dy, cos * dy + sin * dx))
}

/// Crowded, large, uneven nuclei around irregular lumens, with a strip of stroma now and then.
pub(super) fn tumor(scene: &mut Scene) {
    let (noise, at) = (scene.noise, scene.offset());
    let eosin = scene.stream.uniform_in(0.35, 0.95);
    let tint = scene.stream.uniform_in(0.1, 0.35);
    scene.canvas.shade(|(x, y), _| {
        let grain = noise.cloud(x / 8.0 + at.0, y / 8.0 + at.1);
        ink(tint, eosin * mix(0.7, 1.2, grain))
    });
    let n_lumens = scene.stream.below(5);
    let lumens: Vec<Blob> = (0..n_lumens).map(|_| lumen(scene)).collect();
    for lumen in &lumens {
        scene.patch(lumen, ink(0.04, 0.06), 1.0);
    }
    let strip = scene.stream.chance(0.35).then(|| stroma_strip(scene));
    let spacing = scene.stream.uniform_in(10.5, 13.5);
    let size = spacing * scene.stream.uniform_in(0.44, 0.54);
    let density = scene.stream.uniform_in(0.9, 1.5);
    let vesicular = scene.stream.uniform_in(0.3, 0.9);
    for center in scene.cells(spacing, 0.3) {
        let depth = lumens.iter().map(|lumen| lumen.depth(center)).fold(-1e3, f32::max);
        if depth > -2.5 || strip.is_some_and(|strip| strip.depth(center) > -3.0) {
            continue;
        }
        // Cells that border on a lumen stand upright on it, most of the time.
        let bordering = lumens.iter().find(|lumen| lumen.depth(center) > -8.5);
        let upright = bordering.filter(|_| scene.stream.chance(0.8));
        let axis = match upright {
            Some(lumen) => toward(lumen.center, center),
            None => scene.any_direction(),
        };
        let long = size * scene.stream.uniform_in(0.75, 1.35);
        let look = Nucleus {
            semi_axes: (long, long * scene.stream.uniform_in(0.55, 0.9)),
            hematoxylin: density * scene.stream.uniform_in(0.65, 1.3),
            unevenness: 0.12,
            vesicular: vesicular * scene.stream.uniform_in(0.5, 1.0),
        };
        scene.nucleus(center, axis, &look);
    }
}

/// The unit vector from one point to another.
fn toward(from: Point, to: Point) -> Point {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = (dx * dx + dy * dy).sqrt().max(1e-3);
    (dx / length, dy / length)
}

/// An irregular hole.
fn lumen(scene: &mut Scene) -> Blob {
    let radius = scene.stream.uniform_in(5.0, 13.0);
    Blob {
        center: scene.any_point(),
        semi_axes: (radius * scene.stream.uniform_in(1.0, 1.5), radius),
        direction: scene.any_direction(),
        lobes: [(); 4].map(|()| scene.stream.uniform_in(-0.15, 0.15)),
    }
}

/// Half a plane of stroma.
#[derive(Clone, Copy)]
struct Strip {
    normal: Point,
    inset: f32,
}

impl Strip {
    fn depth(&self, (x, y): Point) -> f32 {
        let half = FIELD_MICRONS / 2.0;
        (x - half) * self.normal.0 + (y - half) * self.normal.1 - self.inset
    }
}

/// Draws the strip along one side of the field.
fn stroma_strip(scene: &mut Scene) -> Strip {
    let strip = Strip { normal: scene.any_direction(), inset: scene.stream.uniform_in(28.0, 44.0) };
    let (noise, at) = (scene.noise, scene.offset());
    let eosin = scene.stream.uniform_in(0.3, 0.8);
    scene.canvas.shade(|(x, y), cells| {
        let across = y * strip.normal.0 - x * strip.normal.1;
        let depth = strip.depth((x, y)) + 5.0 * (noise.at(x / 16.0 + at.1, y / 16.0) - 0.5);
        let fiber = collagen(noise, at, depth, across);
        cells.covered(ink(0.06, eosin * fiber), step_between(0.0, 2.0, depth))
    });
    strip
}
