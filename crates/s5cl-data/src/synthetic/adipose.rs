//! Adipose tissue.

use super::canvas::{FIELD_MICRONS, Point, band_coverage, ink};
use super::noise::mix;
use super::scene::{Nucleus, Scene};

/// Large empty polygonal cells with thin membranes and a few flat nuclei pressed against them.
pub(super) fn adipose(scene: &mut Scene) {
    let spacing = scene.stream.uniform_in(28.0, 46.0);
    let centers = scene.grid(spacing, 0.24, 1.6 * spacing);
    let half_width = scene.stream.uniform_in(0.5, 1.8);
    let rounding = scene.stream.uniform_in(0.1, 0.7) * spacing * 0.1;
    let polygons = Polygons::new(centers, spacing, rounding);
    let membrane = ink(scene.stream.uniform_in(0.02, 0.4), scene.stream.uniform_in(0.3, 1.0));
    let lipid = ink(0.0, scene.stream.uniform_in(0.0, 0.12));
    let edge = scene.canvas.step().max(0.7);
    let (noise, at) = (scene.noise, scene.offset());
    scene.canvas.shade(|(x, y), _| {
        // The outline of fat cells is gently bent, never a ruled line.
        let bend_x = 5.0 * (noise.at(x / 14.0 + at.0, y / 14.0) - 0.5);
        let bend_y = 5.0 * (noise.at(x / 14.0, y / 14.0 + at.1) - 0.5);
        let place = (x + bend_x, y + bend_y);
        let wall = polygons.to_wall((x, y), place);
        let width = half_width * mix(0.6, 1.4, noise.at(x / 9.0 + at.1, y / 9.0 + at.0));
        let cover = if wall < 0.0 { 1.0 } else { band_coverage(wall, width, edge) };
        lipid.covered(membrane, cover)
    });
    let n_nuclei = scene.stream.below(5);
    for _ in 0..n_nuclei {
        let from = polygons.centers[scene.stream.below(polygons.centers.len())];
        let (dx, dy) = scene.any_direction();
        let radius = 0.46 * spacing;
        let look = Nucleus {
            semi_axes: (scene.stream.uniform_in(3.5, 5.0), 1.5),
            hematoxylin: 1.3,
            unevenness: 0.08,
            vesicular: 0.0,
        };
        scene.nucleus((from.0 + radius * dx, from.1 + radius * dy), (-dy, dx), &look);
    }
}

/// The polygons around scattered centers (a Voronoi diagram), prepared for quick look-ups.
struct Polygons {
    centers: Vec<Point>,
    /// For each center its neighbors, each with 1 / (2 * distance).
    neighbors: Vec<Vec<(Point, f32)>>,
    /// For each block of the field the centers that may be nearest there.
    blocks: Vec<Vec<usize>>,
    /// How far corners are rounded, in micrometers.
    rounding: f32,
}

impl Polygons {
    /// Blocks along one side of the field.
    const BLOCKS: usize = 8;

    fn new(centers: Vec<Point>, spacing: f32, rounding: f32) -> Self {
        let block = FIELD_MICRONS / Self::BLOCKS as f32;
        // Half a block's diagonal and the bend of the walls come on top of the largest cell.
        let reach = 0.95 * spacing + 0.71 * block + 4.0;
        let blocks = (0..Self::BLOCKS * Self::BLOCKS).map(|idx| {
            let x = ((idx % Self::BLOCKS) as f32 + 0.5) * block;
            let y = ((idx / Self::BLOCKS) as f32 + 0.5) * block;
            let within = |&i: &usize| squared_distance(centers[i], (x, y)) < reach * reach;
            (0..centers.len()).filter(within).collect()
        });
        let blocks = blocks.collect();
        let neighbors = centers.iter().map(|&own| {
            let others = centers.iter().map(|&c| (c, squared_distance(own, c).sqrt()));
            let near = others.filter(|&(_, distance)| distance > 1e-3 && distance < 1.9 * spacing);
            near.map(|(c, distance)| (c, 0.5 / distance)).collect()
        });
        Self { neighbors: neighbors.collect(), blocks, rounding, centers }
    }

    /// Distance of a bent place to the nearest wall; negative in the corners that rounding fills.
    fn to_wall(&self, (x, y): Point, bent: Point) -> f32 {
        let at =
            |v: f32| ((v * Self::BLOCKS as f32 / FIELD_MICRONS) as usize).min(Self::BLOCKS - 1);
        let mut own = (f32::MAX, 0);
        for &idx in &self.blocks[at(y) * Self::BLOCKS + at(x)] {
            let distance = squared_distance(self.centers[idx], bent);
            if distance < own.0 {
                own = (distance, idx);
            }
        }
        let (mut first, mut second) = (f32::MAX, f32::MAX);
        for &(other, half_inverse) in &self.neighbors[own.1] {
            let distance = (squared_distance(other, bent) - own.0) * half_inverse;
            second = second.min(distance.max(first));
            first = first.min(distance);
        }
        // A polynomial minimum of the two nearest walls rounds the corner between them.
        let blend = (1.0 - (second - first) / (4.0 * self.rounding + 1e-3)).max(0.0);
        first - blend * blend * self.rounding
    }
}

fn squared_distance(a: Point, b: Point) -> f32 {
    (a.0 - b.0) * (a.0 - b.0) + (a.1 - b.1) * (a.1 - b.1)
}
