//! Maps in the plane that keep neighbors together.

use s5cl_random::named_stream;

use super::affinities::affinities;
use super::descent::Map;
use super::pca::Pca;
use crate::error::{EvalError, at_least, positive};
use crate::features::Features;

/// Spread of the first coordinate at the start, and of the noise beside it, which parts points
/// that PCA puts in one place.
const START: (f64, f64) = (1e-4, 1e-6);
/// Momentum before and after the exaggeration ends, as in the paper.
const MOMENTUM: (f32, f32) = (0.5, 0.8);

/// Points that a map has at most: all their pairs are 1.6 GB.
const MOST_POINTS: usize = 20_000;

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
/// `features`: `f32 [n, width]`, n from 4 to 20,000.
///
/// # Errors
///
/// When there are fewer than four points or more than 20,000, the perplexity is not below their number, or a number
/// of the config that must be above 0 is not.
///
/// # Source
///
/// Van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008; the start is that of
/// Kobak and Berens, "The art of using t-SNE for single-cell transcriptomics", 2019.
pub fn t_sne(features: &Features, config: TsneConfig) -> Result<Tsne, EvalError> {
    let n = features.n();
    at_least("points", n, 4)?;
    if n > MOST_POINTS {
        let range = "at most 20000, as all pairs are held in memory: take a sample";
        return Err(EvalError::OutOfRange { what: "the number of points", value: n as f64, range });
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clouds of 30 points, far from each other, in a line or in more columns.
    fn clouds(width: usize) -> Features {
        let mut stream = named_stream(0, "clouds");
        let values = (0..60 * width).map(|i| (i / width % 2) as f32 * 20.0 + stream.normal());
        Features::new(values.collect(), width).unwrap()
    }

    #[test]
    fn t_sne_keeps_clouds_apart() {
        for width in [1, 2, 5] {
            let map = t_sne(&clouds(width), TsneConfig::scikit_learn(60, 0)).unwrap();
            let rows: Vec<&[f32]> = map.points.rows().collect();
            let squared = |i: usize, j: usize| {
                (rows[i][0] - rows[j][0]).powi(2) + (rows[i][1] - rows[j][1]).powi(2)
            };
            for i in 0..60 {
                let others = (0..60).filter(|&j| j != i);
                let nearest = others.min_by(|&a, &b| squared(i, a).total_cmp(&squared(i, b)));
                assert_eq!(nearest.unwrap() % 2, i % 2, "point {i} of width {width}");
            }
            let mean = map.points.rows().map(|row| row[0]).sum::<f32>() / 60.0;
            assert!(mean.abs() < 1e-3, "{mean}");
        }
    }

    #[test]
    fn t_sne_depends_on_features_and_config_alone() {
        let (features, config) = (clouds(5), TsneConfig::scikit_learn(60, 0));
        let config = TsneConfig { n_iterations: 300, ..config };
        let with_threads = |n| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| t_sne(&features, config)).unwrap()
        };
        let found = with_threads(1);
        assert_eq!(with_threads(3), found);
        assert_ne!(t_sne(&features, TsneConfig { seed: 1, ..config }).unwrap(), found);
    }

    #[test]
    fn t_sne_parts_points_that_are_equal() {
        let features = Features::new(vec![1.0; 8], 2).unwrap();
        let map = t_sne(&features, TsneConfig::scikit_learn(4, 0)).unwrap();
        assert!(map.kl_divergence.is_finite());
        assert_ne!(map.points.as_slice()[..2], map.points.as_slice()[2..4]);
    }

    #[test]
    fn t_sne_refuses_bad_input() {
        let features = clouds(2);
        let config = TsneConfig::scikit_learn(60, 0);
        let error = |config| t_sne(&features, config).unwrap_err().to_string();
        assert_eq!(
            error(TsneConfig { perplexity: 60.0, ..config }),
            "there are 60 points for this perplexity, but at least 61 are needed"
        );
        assert!(error(TsneConfig { perplexity: f64::NAN, ..config }).starts_with("perplexity is"));
        assert!(error(TsneConfig { exaggeration: 0.0, ..config }).starts_with("exaggeration is 0"));
        assert!(error(TsneConfig { learning_rate: 0.0, ..config }).starts_with("learning rate"));
        let three = Features::new(vec![0.0; 6], 2).unwrap();
        let error = t_sne(&three, TsneConfig::scikit_learn(3, 0)).unwrap_err().to_string();
        assert_eq!(error, "there are 3 points, but at least 4 are needed");
    }
}
