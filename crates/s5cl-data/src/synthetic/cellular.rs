//! Lymphocytes and debris.

use super::canvas::{Blob, ink};
use super::noise::{mix, step_between};
use super::scene::{Nucleus, Scene};

/// A sheet of small round dark nuclei with next to no cytoplasm.
pub(super) fn lymphocytes(scene: &mut Scene) {
    let (noise, at) = (scene.noise, scene.offset());
    let eosin = scene.stream.uniform_in(0.1, 0.55);
    let tint = scene.stream.uniform_in(0.02, 0.15);
    scene.canvas.shade(|(x, y), _| {
        let mesh = noise.cloud(x / 6.0 + at.0, y / 6.0 + at.1);
        ink(tint, eosin * mix(0.4, 1.2, mesh))
    });
    let spacing = scene.stream.uniform_in(7.8, 11.0);
    let missing = scene.stream.uniform_in(0.02, 0.3);
    let radius = scene.stream.uniform_in(2.9, 3.5);
    let density = scene.stream.uniform_in(1.0, 1.7);
    for center in scene.cells(spacing, 0.24) {
        if scene.stream.chance(missing) {
            continue;
        }
        let own = radius * scene.stream.uniform_in(0.9, 1.12);
        let look = Nucleus {
            semi_axes: (own, own * scene.stream.uniform_in(0.88, 1.0)),
            hematoxylin: density * scene.stream.uniform_in(0.85, 1.15),
            unevenness: 0.03,
            vesicular: 0.0,
        };
        let axis = scene.any_direction();
        scene.nucleus(center, axis, &look);
    }
}

/// Necrosis: clotted granular remains with cracks, ghosts of cells and clusters of nuclear dust.
pub(super) fn debris(scene: &mut Scene) {
    let (noise, a, b, c) = (scene.noise, scene.offset(), scene.offset(), scene.offset());
    let eosin = scene.stream.uniform_in(0.4, 1.0);
    let tint = scene.stream.uniform_in(0.05, 0.35);
    let holes = scene.stream.uniform_in(0.22, 0.42);
    let grain = scene.stream.uniform_in(3.2, 4.8);
    scene.canvas.shade(|(x, y), _| {
        let clot = noise.cloud(x / 13.0 + a.0, y / 13.0 + a.1);
        let solid = step_between(holes, holes + 0.12, clot);
        let granule = noise.cloud(x / grain + b.0, y / grain + b.1);
        let stain = noise.cloud(x / 9.0 + c.0, y / 9.0 + c.1);
        let body = ink(tint * mix(0.3, 1.8, stain), eosin * mix(0.25, 1.4, granule));
        ink(0.02, 0.08).covered(body, solid)
    });
    let n_ghosts = 4 + scene.stream.below(8);
    for _ in 0..n_ghosts {
        let center = scene.any_point();
        let radius = scene.stream.uniform_in(3.5, 6.0);
        let lobes = [(); 4].map(|()| scene.stream.uniform_in(-0.12, 0.12));
        let semi_axes = (radius, radius * scene.stream.uniform_in(0.6, 1.0));
        let blob = Blob { center, semi_axes, direction: scene.any_direction(), lobes };
        let fade = ink(scene.stream.uniform_in(0.2, 0.5), 0.9 * eosin);
        scene.patch(&blob, fade, 0.6);
    }
    let n_clusters = 5 + scene.stream.below(9);
    for _ in 0..n_clusters {
        dust_cluster(scene);
    }
}

/// Fragments of one or a few burst nuclei.
fn dust_cluster(scene: &mut Scene) {
    let middle = scene.any_point();
    let spread = scene.stream.uniform_in(3.0, 9.0);
    let n_fragments = 4 + scene.stream.below(9);
    for _ in 0..n_fragments {
        let (dx, dy) = scene.any_direction();
        let distance = spread * scene.stream.uniform();
        let center = (middle.0 + distance * dx, middle.1 + distance * dy);
        let size = scene.stream.uniform();
        let radius = mix(0.7, 2.3, size * size);
        let look = Nucleus {
            semi_axes: (radius, radius * scene.stream.uniform_in(0.5, 1.0)),
            hematoxylin: scene.stream.uniform_in(0.9, 1.9),
            unevenness: 0.22,
            vesicular: 0.0,
        };
        let axis = scene.any_direction();
        scene.nucleus(center, axis, &look);
    }
}
