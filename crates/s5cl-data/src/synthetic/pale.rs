//! The pale classes: background and mucus.

use super::canvas::{Blob, FIELD_MICRONS, ink};
use super::fibrous::collagen;
use super::noise::{direction, mix, step_between, wave};
use super::scene::{Nucleus, Scene};

/// Empty glass: haze, dust, a hair or an air bubble, sometimes the edge of a tissue.
pub(super) fn background(scene: &mut Scene) {
    let haze = (scene.stream.uniform_in(0.0, 0.08), scene.stream.uniform_in(0.0, 0.2));
    let (noise, at) = (scene.noise, scene.offset());
    let scale = scene.stream.uniform_in(25.0, 60.0);
    scene.canvas.shade(|(x, y), _| {
        let cloud = noise.cloud(x / scale + at.0, y / scale + at.1);
        ink(haze.0 * cloud, haze.1 * cloud)
    });
    let n_dust = scene.stream.below(7);
    for _ in 0..n_dust {
        let center = scene.any_point();
        let radius = scene.stream.uniform_in(0.6, 2.4);
        let lobes = [(); 4].map(|()| scene.stream.uniform_in(-0.2, 0.2));
        let semi_axes = (radius, radius * scene.stream.uniform_in(0.5, 1.0));
        let blob = Blob { center, semi_axes, direction: scene.any_direction(), lobes };
        let dirt = scene.stream.uniform_in(0.3, 1.2);
        scene.patch(&blob, ink(dirt, 0.6 * dirt), 0.8);
    }
    if scene.stream.chance(0.25) {
        hair(scene);
    }
    if scene.stream.chance(0.55) {
        tissue_edge(scene);
    }
}

/// A long bent fiber of dust.
fn hair(scene: &mut Scene) {
    let mut place = scene.any_point();
    let mut turns = scene.stream.uniform();
    let bend = scene.stream.uniform_in(-0.02, 0.02);
    let width = scene.stream.uniform_in(0.8, 1.8);
    let tint = ink(scene.stream.uniform_in(0.2, 0.8), scene.stream.uniform_in(0.1, 0.5));
    for _ in 0..18 {
        let (dx, dy) = direction(turns);
        let next = (place.0 + 4.0 * dx, place.1 + 4.0 * dy);
        scene.canvas.segment(place, next, width, tint, 0.7);
        place = next;
        turns += bend + scene.stream.uniform_in(-0.01, 0.01);
    }
}

/// A strip of connective tissue along one side of the field.
fn tissue_edge(scene: &mut Scene) {
    let normal = scene.any_direction();
    let half = FIELD_MICRONS / 2.0;
    let inset = scene.stream.uniform_in(18.0, 40.0);
    let (noise, at) = (scene.noise, scene.offset());
    let strength = scene.stream.uniform_in(0.4, 1.0);
    scene.canvas.shade(|(x, y), glass| {
        let along = (x - half) * normal.0 + (y - half) * normal.1;
        let ragged = 14.0 * (noise.cloud(x / 12.0 + at.0, y / 12.0 + at.1) - 0.5);
        let inside = step_between(inset, inset + 3.0, along + ragged);
        let fiber = noise.cloud(x / 5.0 + at.1, y / 5.0 + at.0);
        glass.covered(ink(0.12, strength * mix(0.3, 1.0, fiber)), inside)
    });
    let n_nuclei = scene.stream.below(7);
    for _ in 0..n_nuclei {
        let (along, across) =
            (inset + scene.stream.uniform_in(4.0, 20.0), scene.any_point().0 - half);
        let center = (
            half + along * normal.0 - across * normal.1,
            half + along * normal.1 + across * normal.0,
        );
        let look =
            Nucleus { semi_axes: (4.5, 1.8), hematoxylin: 1.2, unevenness: 0.1, vesicular: 0.2 };
        scene.nucleus(center, (-normal.1, normal.0), &look);
    }
}

/// Pools of mucin: pale bluish streaks in swirls, with clefts and a few floating cells.
pub(super) fn mucus(scene: &mut Scene) {
    let main = scene.any_direction();
    let (noise, a, b) = (scene.noise, scene.offset(), scene.offset());
    let swirl = scene.stream.uniform_in(18.0, 34.0);
    let pitch = scene.stream.uniform_in(5.0, 8.5);
    let density = scene.stream.uniform_in(0.26, 0.7);
    let tint = scene.stream.uniform_in(0.05, 0.7);
    let strands = scene.stream.uniform_in(0.0, 0.7);
    let floor = scene.stream.uniform_in(0.1, 0.45);
    scene.canvas.shade(|(x, y), _| {
        let warp_x = swirl * (noise.at(x / 38.0 + a.0, y / 38.0 + a.1) - 0.5);
        let warp_y = swirl * (noise.at(x / 38.0 + b.0, y / 38.0 + b.1) - 0.5);
        let (wx, wy) = (x + 2.0 * warp_x, y + 2.0 * warp_y);
        let along = wx * main.0 + wy * main.1;
        let across = wy * main.0 - wx * main.1;
        let streak = noise.at(along / 34.0 + b.0, across / pitch + b.1);
        // The crest of the noise makes thin strands, its level the soft streaks between them.
        let ridge = 1.0 - (2.0 * streak - 1.0).abs();
        let crest = ridge * ridge * ridge * ridge;
        let soft = noise.fibers(along / 44.0 + a.1, across / (0.7 * pitch) + a.0);
        let cloud = noise.cloud(x / 30.0 + a.0, y / 30.0 + b.1);
        let level = density * (floor + 0.5 * cloud + 0.6 * (soft - 0.3).max(0.0) + strands * crest);
        ink(level, level * tint)
    });
    if scene.stream.chance(0.4) {
        let n_cells = 1 + scene.stream.below(6);
        for _ in 0..n_cells {
            let (center, radius) = (scene.any_point(), scene.stream.uniform_in(2.6, 3.6));
            let look = Nucleus {
                semi_axes: (radius, 0.8 * radius),
                hematoxylin: 1.2,
                unevenness: 0.1,
                vesicular: 0.0,
            };
            let axis = scene.any_direction();
            scene.nucleus(center, axis, &look);
        }
    }
    if scene.stream.chance(0.25) {
        collagen_rim(scene);
    }
}

/// The wall of a mucin pool in one corner.
fn collagen_rim(scene: &mut Scene) {
    let corner = direction(0.125 + 0.25 * scene.stream.below(4) as f32);
    let (noise, at) = (scene.noise, scene.offset());
    let half = FIELD_MICRONS / 2.0;
    let inset = scene.stream.uniform_in(38.0, 54.0);
    let phase = scene.stream.uniform();
    scene.canvas.shade(|(x, y), pool| {
        let along = (x - half) * corner.0 + (y - half) * corner.1;
        let across = (y - half) * corner.0 - (x - half) * corner.1;
        let front = inset + 4.0 * wave(across / 60.0 + phase);
        let fiber = collagen(noise, at, along, across);
        pool.covered(ink(0.12, 0.75 * fiber), step_between(front, front + 2.5, along))
    });
}
