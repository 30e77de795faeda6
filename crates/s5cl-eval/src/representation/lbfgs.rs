//! Minimization of a smooth function by L-BFGS.

use std::collections::VecDeque;

use crate::vectors::dot_f64 as dot;

/// Steps that the curvature is estimated from.
const MEMORY: usize = 10;
/// Share of the decrease that the gradient promises which a step must reach (Armijo).
const DECREASE: f64 = 1e-4;
/// Share of the slope that may be left behind a step (the weak Wolfe condition).
const CURVATURE: f64 = 0.9;
/// Halvings and doublings of a step before the search ends.
const MOST_TRIALS: usize = 60;
/// Rounding of a value, relative to it: a decrease below it cannot be seen.
const ROUNDING: f64 = 1e-15;

/// When a minimization ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    /// Steps after which it ends without having converged.
    pub max_iterations: usize,
    /// Largest absolute component of the gradient at which it has converged, above 0.
    pub gradient_tolerance: f64,
}

/// Where a minimization ended.
pub(crate) struct Minimum {
    pub(crate) point: Vec<f64>,
    /// Largest absolute component of the gradient.
    pub(crate) gradient_norm: f64,
    pub(crate) n_iterations: usize,
}

/// Minimizes `objective`, which writes its gradient and returns its value.
///
/// # Source
///
/// Nocedal and Wright, "Numerical optimization", 2006, algorithms 7.4 and 7.5; the step is found
/// by bisection for the weak Wolfe conditions, as in Lewis and Overton, "Nonsmooth optimization
/// via quasi-Newton methods", 2013, algorithm 2.6. These keep the curvature of every pair
/// positive.
pub(crate) fn minimize(
    start: Vec<f64>,
    stopping: Stopping,
    mut objective: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Minimum {
    let mut gradient = vec![0.0; start.len()];
    let value = objective(&start, &mut gradient);
    let mut at = Place { point: start, value, gradient };
    let mut pairs: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    let mut n_iterations = 0;
    while n_iterations < stopping.max_iterations && at.norm() > stopping.gradient_tolerance {
        let direction = direction(&at.gradient, &pairs);
        // Before anything is known of the curvature, a step of length 1 at most.
        let longest = if pairs.is_empty() { 1.0 / dot(&direction, &direction).sqrt() } else { 1.0 };
        let Some(next) = search(&at, &direction, longest.min(1.0), &mut objective) else {
            break;
        };
        let step = difference(&next.point, &at.point);
        let change = difference(&next.gradient, &at.gradient);
        let curvature = dot(&step, &change);
        if curvature > 0.0 {
            pairs.truncate(MEMORY - 1);
            pairs.push_front(Pair { step, change, inverse_curvature: 1.0 / curvature });
        }
        at = next;
        n_iterations += 1;
    }
    let gradient_norm = at.norm();
    Minimum { point: at.point, gradient_norm, n_iterations }
}

struct Place {
    point: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

impl Place {
    fn norm(&self) -> f64 {
        self.gradient.iter().fold(0.0, |largest, value| value.abs().max(largest))
    }
}

/// A step and how the gradient changed along it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse_curvature: f64,
}

/// `-H gradient` with the inverse Hessian `H` that the latest pairs, newest first, suggest.
fn direction(gradient: &[f64], pairs: &VecDeque<Pair>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|value| -value).collect();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let share = pair.inverse_curvature * dot(&pair.step, &direction);
        add(&mut direction, -share, &pair.change);
        shares.push(share);
    }
    if let Some(newest) = pairs.front() {
        let scale = 1.0 / (newest.inverse_curvature * dot(&newest.change, &newest.change));
        direction.iter_mut().for_each(|value| *value *= scale);
    }
    for (pair, share) in pairs.iter().zip(shares).rev() {
        let back = pair.inverse_curvature * dot(&pair.change, &direction);
        add(&mut direction, share - back, &pair.step);
    }
    direction
}

/// A place along the direction that is lower and less steep; none if rounding hides all of them.
fn search(
    at: &Place,
    direction: &[f64],
    first_length: f64,
    objective: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<Place> {
    let slope = dot(&at.gradient, direction);
    let (mut shortest, mut longest) = (0.0, f64::INFINITY);
    let mut length = first_length;
    for _ in 0..MOST_TRIALS {
        let mut point = at.point.clone();
        add(&mut point, length, direction);
        let mut gradient = vec![0.0; point.len()];
        let value = objective(&point, &mut gradient);
        let allowed = at.value + DECREASE * length * slope + ROUNDING * at.value.abs();
        // Where the value is not a number, the step is too long as well.
        if value > allowed || value.is_nan() {
            longest = length;
        } else if dot(&gradient, direction) < CURVATURE * slope {
            shortest = length;
        } else {
            return Some(Place { point, value, gradient });
        }
        length = if longest.is_finite() { (shortest + longest) / 2.0 } else { 2.0 * length };
    }
    None
}

fn add(sum: &mut [f64], scale: f64, other: &[f64]) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += scale * other);
}

fn difference(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter().zip(right).map(|(a, b)| a - b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPING: Stopping = Stopping { max_iterations: 200, gradient_tolerance: 1e-9 };

    /// Rosenbrock's valley, whose minimum is at (1, 1).
    fn valley(point: &[f64], gradient: &mut [f64]) -> f64 {
        let (x, y) = (point[0], point[1]);
        gradient[0] = -2.0 * (1.0 - x) - 400.0 * x * (y - x * x);
        gradient[1] = 200.0 * (y - x * x);
        (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2)
    }

    #[test]
    fn lbfgs_finds_the_end_of_a_curved_valley() {
        let found = minimize(vec![-1.2, 1.0], STOPPING, valley);
        assert!(found.gradient_norm <= STOPPING.gradient_tolerance);
        assert!(found.n_iterations < 60, "{}", found.n_iterations);
        assert!(found.point.iter().all(|x| (x - 1.0).abs() < 1e-8), "{:?}", found.point);
    }

    #[test]
    fn lbfgs_says_where_it_was_when_it_ran_out_of_steps() {
        let stopping = Stopping { max_iterations: 3, ..STOPPING };
        let found = minimize(vec![-1.2, 1.0], stopping, valley);
        assert_eq!(found.n_iterations, 3);
        assert!(found.gradient_norm > stopping.gradient_tolerance);
        let mut gradient = [0.0; 2];
        let value = valley(&found.point, &mut gradient);
        assert!(value < valley(&[-1.2, 1.0], &mut [0.0; 2]));
        assert_eq!(found.gradient_norm, gradient[0].abs().max(gradient[1].abs()));
    }

    #[test]
    fn lbfgs_stays_at_a_minimum() {
        let found = minimize(vec![1.0, 1.0], STOPPING, valley);
        assert_eq!((found.n_iterations, found.point), (0, vec![1.0, 1.0]));
    }
}
