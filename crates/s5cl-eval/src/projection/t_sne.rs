//! Maps in the plane that keep neighbors together.

use rayon::prelude::*;
use s5cl_random::named_stream;

use super::affinities::affinities;
use super::pca::Pca;
use crate::error::{EvalError, at_least, positive};
use crate::features::Features;

/// Sums that are kept side by side.
const LANES: usize = 16;
/// Spread of the first coordinate at the start, and of the noise beside it, which parts points
/// that PCA puts in one place.
const START: (f64, f64) = (1e-4, 1e-6);
/// Momentum before and after the exaggeration ends, as in the paper.
const MOMENTUM: (f32, f32) = (0.5, 0.8);
/// What a coordinate's own step is raised by, lowered by, and never below (van der Maaten's code).
const GAIN: (f32, f32, f32) = (0.2, 0.8, 0.01);

/// How a map is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TsneConfig {
    /// Effective number of neighbors of a point, above 0 and below the number of points.
    pub perplexity: f64,
    /// Steps of gradient descent.
    pub n_iterations: usize,
    /// The first of them, in which attraction is multiplied.
    pub n_exaggerated: usize,
    /// What it is multiplied by, above 0.
    pub exaggeration: f64,
    /// Length of a step, above 0.
    pub learning_rate: f64,
    /// Decides how points are parted that lie in one place.
    pub seed: u64,
}

impl TsneConfig {
    /// What scikit-learn does by default for this many points: perplexity 30, 1000 steps, 250 of
    /// them with attraction times 12, and a learning rate of `n / 48`, at least 50; but for fewer
    /// than 91 points a perplexity of a third of the others, so that there is a map of any four.
    #[must_use]
    pub fn scikit_learn(n_points: usize, seed: u64) -> Self {
        let exaggeration = 12.0;
        Self {
            perplexity: (n_points.saturating_sub(1) as f64 / 3.0).min(30.0),
            n_iterations: 1000,
            n_exaggerated: 250,
            exaggeration,
            learning_rate: (n_points as f64 / exaggeration / 4.0).max(50.0),
            seed,
        }
    }
}

/// A map.
#[derive(Clone, Debug, PartialEq)]
pub struct Tsne {
    /// Places of the points, `f32 [n, 2]`, around the origin, in no unit.
    pub points: Features,
    /// What was minimized: the divergence of the map's neighborhoods from those of the features,
    /// in nats.
    pub kl_divergence: f64,
}

/// Places points in the plane so that near ones stay near:
///
/// minimizes `sum_ij p_ij ln(p_ij / q_ij)`, `q_ij ~ 1 / (1 + |y_i - y_j|^2)`
///
/// where `p_ij` falls with the Euclidean distance of the features. All pairs are computed: time and
/// memory (4 bytes a pair) grow with the square of the number of points. Starts at the first two
/// principal components. The result is a function of features and config; it does not depend on
/// the number of threads.
///
/// # Shapes
///
/// `features`: `f32 [n, width]`, n at least 4.
///
/// # Errors
///
/// When there are fewer than four points, the perplexity is not below their number, or a number
/// of the config that must be above 0 is not.
///
/// # Source
///
/// Van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008; the start is that of
/// Kobak and Berens, "The art of using t-SNE for single-cell transcriptomics", 2019.
pub fn t_sne(features: &Features, config: TsneConfig) -> Result<Tsne, EvalError> {
    let n = features.n();
    at_least("points", n, 4)?;
    positive("perplexity", config.perplexity)?;
    positive("exaggeration", config.exaggeration)?;
    positive("learning rate", config.learning_rate)?;
    at_least("points for this perplexity", n, config.perplexity as usize + 1)?;
    let affinities = affinities(features, config.perplexity);
    let mut map = Map::new(start(features, config.seed)?);
    for iteration in 0..config.n_iterations {
        let is_exaggerated = iteration < config.n_exaggerated;
        let exaggeration = if is_exaggerated { config.exaggeration as f32 } else { 1.0 };
        let momentum = if is_exaggerated { MOMENTUM.0 } else { MOMENTUM.1 };
        map.step(&affinities, exaggeration, momentum, config.learning_rate as f32);
    }
    let kl_divergence = map.kl_divergence(&affinities);
    let [x, y] = map.places.map(centered);
    let points = x.iter().zip(&y).flat_map(|(&x, &y)| [x, y]).collect();
    Ok(Tsne { points: Features::new(points, 2)?, kl_divergence })
}

/// Coordinates at the start, x and y.
fn start(features: &Features, seed: u64) -> Result<[Vec<f32>; 2], EvalError> {
    let n_components = features.width().min(2);
    let pca = Pca::fit(features, n_components)?;
    let spread = pca.explained_variance()[0].sqrt();
    let scale = if spread > 0.0 { START.0 / spread } else { 0.0 };
    let projected = pca.transform(features)?;
    let mut stream = named_stream(seed, "t-SNE");
    let mut places = [Vec::new(), Vec::new()];
    for row in projected.rows() {
        for (axis, places) in places.iter_mut().enumerate() {
            let along = row.get(axis).map_or(0.0, |&value| f64::from(value) * scale);
            places.push((along + START.1 * f64::from(stream.normal())) as f32);
        }
    }
    Ok(places)
}

fn centered(mut values: Vec<f32>) -> Vec<f32> {
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
    values.iter_mut().for_each(|value| *value -= mean as f32);
    values
}

/// Points on their way, x and y.
struct Map {
    places: [Vec<f32>; 2],
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
    fn new(places: [Vec<f32>; 2]) -> Self {
        let n = places[0].len();
        Self {
            places,
            velocities: [vec![0.0; n], vec![0.0; n]],
            gains: [vec![1.0; n], vec![1.0; n]],
        }
    }

    fn step(&mut self, affinities: &[f32], exaggeration: f32, momentum: f32, rate: f32) {
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

    fn kl_divergence(&self, affinities: &[f32]) -> f64 {
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
