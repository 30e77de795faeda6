//! What must hold for the loss and its gradients whatever the batch.

use super::dense::dense;
use super::square::{REDUCTIONS, fused};
use crate::checks::draw;
use crate::similarity::Reduction;

/// Steps of a difference in f64, whose error is of the square of the step.
const STEP: f64 = 1e-5;
/// f32 rounding in the largest part of a gradient at temperatures from 0.1 on.
const GRADIENT: f64 = 2e-5;

const N: usize = 150;
const DIM: usize = 20;
const TEMPERATURES: [f64; 3] = [0.01, 0.1, 0.5];

fn labels() -> Vec<u32> {
    (0..N).map(|i| (i * i % 11) as u32).collect()
}

fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |max: f64, value| max.max(f64::from(value.abs())))
}

#[test]
fn dense_gradients_are_the_slopes_of_the_dense_loss() {
    let labels = [0, 1, 0, 2, 1, 0, 3];
    let values: Vec<f64> = draw(1, labels.len() * 3).into_iter().map(f64::from).collect();
    for reduction in REDUCTIONS {
        let loss =
            |values: &[f64], temperature| dense(values, 3, &labels, temperature, reduction).loss;
        let at = dense(&values, 3, &labels, 0.3, reduction);
        for (index, slope) in at.gradient.iter().enumerate() {
            let moved = |step: f64| {
                let mut values = values.clone();
                values[index] += step;
                loss(&values, 0.3)
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!(
                (slope - expected).abs() < 1e-8 * expected.abs().max(1.0),
                "{slope} {expected}"
            );
        }
        let expected = (loss(&values, 0.3 + STEP) - loss(&values, 0.3 - STEP)) / (2.0 * STEP);
        let slope = at.temperature_gradient;
        assert!((slope - expected).abs() < 1e-6 * expected.abs().max(1.0), "{slope} {expected}");
    }
}

#[test]
fn contrast_gradient_is_orthogonal_to_its_row() {
    let values = draw(2, N * DIM);
    for temperature in TEMPERATURES {
        let found = fused(&values, DIM, &labels(), temperature, Reduction::MeanValid).unwrap();
        let largest = largest(&found.gradient);
        for (row, gradient) in values.chunks(DIM).zip(found.gradient.chunks(DIM)) {
            let product: f64 =
                row.iter().zip(gradient).map(|(x, g)| f64::from(*x) * f64::from(*g)).sum();
            assert!(product.abs() < 1e-6 * largest * DIM as f64, "{product}");
        }
    }
}

#[test]
fn contrast_does_not_see_the_order_of_the_rows() {
    let (values, labels) = (draw(3, N * DIM), labels());
    // Seven and the number of rows have no common divisor.
    let order: Vec<usize> = (0..N).map(|i| i * 7 % N).collect();
    let moved: Vec<f32> =
        order.iter().flat_map(|&i| &values[i * DIM..(i + 1) * DIM]).copied().collect();
    let moved_labels: Vec<u32> = order.iter().map(|&i| labels[i]).collect();
    for (temperature, reduction) in TEMPERATURES.into_iter().zip(REDUCTIONS) {
        let before = fused(&values, DIM, &labels, temperature, reduction).unwrap();
        let after = fused(&moved, DIM, &moved_labels, temperature, reduction).unwrap();
        let tolerance = 1e-6 + 1e-7 / temperature;
        assert!((after.loss - before.loss).abs() < tolerance * before.loss.abs());
        let largest = largest(&before.gradient);
        for (&i, found) in order.iter().zip(after.gradient.chunks(DIM)) {
            for (found, expected) in found.iter().zip(&before.gradient[i * DIM..]) {
                let difference = f64::from((found - expected).abs());
                assert!(difference < 10.0 * tolerance * largest, "{found} {expected}");
            }
        }
    }
}

#[test]
fn contrast_turns_with_the_space() {
    let (values, labels) = (draw(4, N * DIM), labels());
    // A rotation by a right angle in the planes of neighboring axes is exact in f32.
    let turn = |values: &[f32]| -> Vec<f32> {
        values.chunks(2).flat_map(|pair| [-pair[1], pair[0]]).collect()
    };
    let before = fused(&values, DIM, &labels, 0.1, Reduction::MeanValid).unwrap();
    let after = fused(&turn(&values), DIM, &labels, 0.1, Reduction::MeanValid).unwrap();
    assert!((after.loss - before.loss).abs() < 1e-5);
    let largest = largest(&before.gradient);
    for (found, expected) in after.gradient.iter().zip(turn(&before.gradient)) {
        assert!(f64::from((found - expected).abs()) < GRADIENT * largest, "{found} {expected}");
    }
}

#[test]
fn contrast_gradient_for_the_temperature_is_the_slope_of_the_loss() {
    let (values, labels) = (draw(5, N * DIM), labels());
    for reduction in REDUCTIONS {
        let loss = |t: f64| fused(&values, DIM, &labels, t, reduction).unwrap();
        let (t, step) = (f64::from(0.5_f32), f64::from(0.0078125_f32));
        let slope = loss(t).temperature_gradient;
        let expected = (loss(t + step).loss - loss(t - step).loss) / (2.0 * step);
        // The third derivative over a step of 1/128, and a difference of two f32 losses.
        assert!(
            (slope - expected).abs() < 2e-3 * expected.abs(),
            "{reduction:?} {slope} {expected}"
        );
    }
}
