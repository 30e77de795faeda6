//! The fibrous classes: smooth muscle and stroma.

use super::canvas::{FIELD_MICRONS, Point, ink};
use super::noise::{Noise, direction, mix, step_between, wave};
use super::scene::{Nucleus, Scene};

/// Density of collagen in `[0.2, 1]`, with fibers across `along` and a pitch of 4 micrometers.
pub(super) fn collagen(noise: &Noise, at: Point, along: f32, across: f32) -> f32 {
    mix(0.2, 1.0, noise.fibers(across / 24.0 + at.0, along / 4.0 + at.1))
}

/// Parallel bundles of long muscle cells, with cigar-shaped nuclei along them.
pub(super) fn smooth_muscle(scene: &mut Scene) {
    let angle = scene.stream.uniform();
    let axis = direction(angle);
    let (noise, a, b) = (scene.noise, scene.offset(), scene.offset());
    let bow = scene.stream.uniform_in(0.0, 5.0);
    let phase = scene.stream.uniform();
    let pitch = scene.stream.uniform_in(10.0, 17.0);
    let eosin = scene.stream.uniform_in(0.4, 1.0);
    let tint = scene.stream.uniform_in(0.03, 0.25);
    let cleft = scene.stream.uniform_in(0.3, 0.95);
    let half = FIELD_MICRONS / 2.0;
    scene.canvas.shade(|(x, y), _| {
        let along = (x - half) * axis.0 + (y - half) * axis.1;
        let across = (y - half) * axis.0 - (x - half) * axis.1 + bow * wave(along / 130.0 + phase);
        let fiber = noise.fibers(along / 60.0 + a.0, across / 4.4 + a.1);
        // Where the slow phase crosses a whole number, a cleft parts two bundles; it opens and
        // closes along its way.
        let drift = 1.6 * noise.at(along / 75.0 + b.0, across / 30.0 + b.1);
        let turn = across / pitch + drift + 40.0;
        let to_cleft = (turn - turn.round()).abs() * pitch;
        let open = noise.at(along / 26.0 + b.1, turn.round() + b.0);
        let gap = cleft * step_between(0.25, 0.65, open) * (1.0 - step_between(0.4, 2.0, to_cleft));
        let body = eosin * mix(0.55, 1.25, fiber);
        ink(tint, body).covered(ink(0.02, 0.12), gap)
    });
    let spacing = scene.stream.uniform_in(14.0, 26.0);
    for (x, y) in scene.cells(spacing, 0.35) {
        let along = (x - half) * axis.0 + (y - half) * axis.1;
        // Nuclei follow the bow of the fibers: d(across)/d(along) of the line above.
        let slope = -bow / 130.0 * wave(along / 130.0 + phase + 0.25);
        let tilt = slope + scene.stream.uniform_in(-0.012, 0.012);
        let look = Nucleus {
            semi_axes: (scene.stream.uniform_in(5.5, 8.0), scene.stream.uniform_in(1.4, 2.0)),
            hematoxylin: scene.stream.uniform_in(0.9, 1.5),
            unevenness: 0.04,
            vesicular: 0.3,
        };
        scene.nucleus((x, y), direction(angle + tilt), &look);
    }
}

/// Loose wavy collagen with gaps and sparse thin spindle nuclei.
pub(super) fn stroma(scene: &mut Scene) {
    let flow = Flow::new(scene);
    let (noise, a, b) = (scene.noise, scene.offset(), scene.offset());
    let eosin = scene.stream.uniform_in(0.4, 1.0);
    let looseness = scene.stream.uniform_in(0.38, 0.52);
    let pale = ink(scene.stream.uniform_in(0.0, 0.12), scene.stream.uniform_in(0.02, 0.2));
    let tint = scene.stream.uniform_in(0.03, 0.2);
    scene.canvas.shade(|(x, y), _| {
        let (along, across) = flow.place((x, y), noise);
        let bundle = noise.fibers(along / 40.0 + a.0, across / 9.0 + a.1);
        let fiber = noise.fibers(along / 34.0 + b.0, across / 3.6 + b.1);
        let fibril = noise.at(along / 18.0 + a.1, across / 1.7 + b.0);
        let thick = step_between(looseness - 0.16, looseness + 0.1, bundle);
        let strand = step_between(0.45, 0.75, fiber) * 0.5;
        let body = eosin * mix(0.3, 1.3, fiber) * mix(0.75, 1.25, fibril);
        pale.covered(ink(tint, body), thick.max(strand))
    });
    let spacing = scene.stream.uniform_in(24.0, 36.0);
    for (x, y) in scene.cells(spacing, 0.45) {
        let look = Nucleus {
            semi_axes: (scene.stream.uniform_in(4.0, 7.0), scene.stream.uniform_in(1.0, 1.7)),
            hematoxylin: scene.stream.uniform_in(0.9, 1.6),
            unevenness: 0.12,
            vesicular: 0.1,
        };
        scene.nucleus((x, y), flow.tangent((x, y), noise), &look);
    }
}

/// Coordinates that follow wavy fibers.
struct Flow {
    axis: Point,
    at: Point,
    amplitude: f32,
    wavelength: f32,
    swirl: f32,
    phase: f32,
}

impl Flow {
    fn new(scene: &mut Scene) -> Self {
        Self {
            axis: scene.any_direction(),
            at: scene.offset(),
            amplitude: scene.stream.uniform_in(2.0, 4.2),
            wavelength: scene.stream.uniform_in(28.0, 46.0),
            swirl: scene.stream.uniform_in(15.0, 40.0),
            phase: scene.stream.uniform(),
        }
    }

    /// The place along and across the fibers, in micrometers.
    fn place(&self, (x, y): Point, noise: &Noise) -> Point {
        let along = x * self.axis.0 + y * self.axis.1;
        let across = y * self.axis.0 - x * self.axis.1;
        let bend = noise.at(x / 46.0 + self.at.0, y / 46.0 + self.at.1) - 0.5;
        // The waves of neighboring bundles run out of step.
        let step = 0.8 * noise.at(along / 60.0 + self.at.1, across / 22.0 + self.at.0);
        let crimp = self.amplitude * wave(along / self.wavelength + self.phase + step);
        (along, across + self.swirl * bend + crimp)
    }

    /// The direction of the fibers around a place, over about the length of a nucleus: across the
    /// gradient of the second coordinate.
    fn tangent(&self, (x, y): Point, noise: &Noise) -> Point {
        let across = |x, y| self.place((x, y), noise).1;
        let gradient_x = across(x + 4.0, y) - across(x - 4.0, y);
        let gradient_y = across(x, y + 4.0) - across(x, y - 4.0);
        let length = (gradient_x * gradient_x + gradient_y * gradient_y).sqrt();
        if length > 1e-3 { (gradient_y / length, -gradient_x / length) } else { self.axis }
    }
}
