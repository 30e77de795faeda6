//! Gradient descent of the points of t-SNE.

use rayon::prelude::*;

/// Sums that are kept side by side.
const LANES: usize = 16;
/// What a coordinate's own step is raised by, lowered by, and never below (van der Maaten's code).
const GAIN: (f32, f32, f32) = (0.2, 0.8, 0.01);

/// Points on their way; arrays hold x and y.
pub(super) struct Map {
    pub(super) places: [Vec<f32>; 2],
    velocities: [Vec<f32>; 2],
    gains: [Vec<f32>; 2],
}

/// What all other points do to one: attraction, repulsion that is not yet normalized, and its part
/// of the normalizer.
#[derive(Clone, Copy, Default)]
struct Forces {
    attraction: [f32; 2],
    repulsion: [f32; 2],
    total: f32,
}

impl Map {
    pub(super) fn new(places: [Vec<f32>; 2]) -> Self {
        let n = places[0].len();
        Self {
            places,
            velocities: [vec![0.0; n], vec![0.0; n]],
            gains: [vec![1.0; n], vec![1.0; n]],
        }
    }

    pub(super) fn step(&mut self, affinities: &[f32], exaggeration: f32, momentum: f32, rate: f32) {
        let n = self.places[0].len();
        let of_point = |(own, affinities): (usize, &[f32])| self.forces(own, affinities);
        let forces: Vec<Forces> = affinities.par_chunks(n).enumerate().map(of_point).collect();
        let total: f64 = forces.iter().map(|forces| f64::from(forces.total)).sum();
        let normalizer = (1.0 / total.max(f64::MIN_POSITIVE)) as f32;
        for axis in 0..2 {
            let moving = self.velocities[axis].iter_mut().zip(&mut self.gains[axis]);
            for ((place, (velocity, gain)), forces) in
                self.places[axis].iter_mut().zip(moving).zip(&forces)
            {
                let attraction = exaggeration * forces.attraction[axis];
                let gradient = 4.0 * (attraction - normalizer * forces.repulsion[axis]);
                let is_turning = *velocity * gradient >= 0.0;
                *gain = if is_turning { (*gain * GAIN.1).max(GAIN.2) } else { *gain + GAIN.0 };
                *velocity = momentum * *velocity - rate * *gain * gradient;
                *place += *velocity;
            }
        }
    }

    fn forces(&self, own: usize, affinities: &[f32]) -> Forces {
        let (x, y) = (self.places[0][own], self.places[1][own]);
        let ((xs, xs_left), (ys, ys_left)) =
            (self.places[0].as_chunks::<LANES>(), self.places[1].as_chunks::<LANES>());
        let (chunks, affinities_left) = affinities.as_chunks::<LANES>();
        let mut sums = [[0.0_f32; LANES]; 5];
        for ((xs, ys), affinities) in xs.iter().zip(ys).zip(chunks) {
            for lane in 0..LANES {
                let (dx, dy) = (x - xs[lane], y - ys[lane]);
                let weight = 1.0 / (1.0 + dx * dx + dy * dy);
                let (pull, push) = (affinities[lane] * weight, weight * weight);
                sums[0][lane] += pull * dx;
                sums[1][lane] += pull * dy;
                sums[2][lane] += push * dx;
                sums[3][lane] += push * dy;
                sums[4][lane] += weight;
            }
        }
        for (lane, ((&other_x, &other_y), affinity)) in
            xs_left.iter().zip(ys_left).zip(affinities_left).enumerate()
        {
            let (dx, dy) = (x - other_x, y - other_y);
            let weight = 1.0 / (1.0 + dx * dx + dy * dy);
            sums[0][lane] += affinity * weight * dx;
            sums[1][lane] += affinity * weight * dy;
            sums[2][lane] += weight * weight * dx;
            sums[3][lane] += weight * weight * dy;
            sums[4][lane] += weight;
        }
        let sum = |of: usize| sums[of].iter().sum::<f32>();
        // The point itself is at distance 0 and has weight 1.
        Forces { attraction: [sum(0), sum(1)], repulsion: [sum(2), sum(3)], total: sum(4) - 1.0 }
    }

    pub(super) fn kl_divergence(&self, affinities: &[f32]) -> f64 {
        let n = self.places[0].len();
        let weight = |own: usize, other: usize| {
            let d = [0, 1].map(|axis| f64::from(self.places[axis][own] - self.places[axis][other]));
            1.0 / (1.0 + d[0] * d[0] + d[1] * d[1])
        };
        let of_row = |own: usize| {
            let (mut total, mut sum) = (0.0, 0.0);
            for other in (0..n).filter(|&other| other != own) {
                let affinity = f64::from(affinities[own * n + other]);
                let weight = weight(own, other);
                total += weight;
                // p ln p is 0 where p is.
                sum += if affinity > 0.0 { affinity * (affinity / weight).ln() } else { 0.0 };
            }
            (total, sum)
        };
        let rows: Vec<(f64, f64)> = (0..n).into_par_iter().map(of_row).collect();
        let total: f64 = rows.iter().map(|row| row.0).sum();
        rows.iter().map(|row| row.1).sum::<f64>() + total.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_follows_the_gradient_of_the_divergence() {
        // 19 points: whole lanes and a rest.
        let n = 19;
        let wave = |frequency: f32| (0..n).map(|i| (i as f32 * frequency).sin()).collect();
        let places: [Vec<f32>; 2] = [wave(1.3), wave(2.9)];
        let raw = |i: usize, j: usize| if i == j { 0.0 } else { 1.0 + (i + j) as f32 % 5.0 };
        let total: f32 = (0..n * n).map(|cell| raw(cell / n, cell % n)).sum();
        let affinities: Vec<f32> = (0..n * n).map(|cell| raw(cell / n, cell % n) / total).collect();
        let mut map = Map::new(places.clone());
        // The first step of gain 1.2 or 0.8 from rest: a velocity of zero counts as turning.
        map.step(&affinities, 1.0, 0.0, 1.0);
        for axis in 0..2 {
            for point in 0..n {
                let divergence = |shift: f32| {
                    let mut moved = places.clone();
                    moved[axis][point] += shift;
                    let shift = f64::from(moved[axis][point] - places[axis][point]);
                    (Map::new(moved).kl_divergence(&affinities), shift)
                };
                let ((up, above), (down, below)) = (divergence(1e-3), divergence(-1e-3));
                let gradient = (up - down) / (above - below);
                let step = f64::from(map.velocities[axis][point] / map.gains[axis][point]);
                assert!((step + gradient).abs() < 1e-5, "{step} against {gradient}");
            }
        }
    }
}
