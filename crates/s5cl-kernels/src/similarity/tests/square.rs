//! Loss and gradients of one segment.

use candle_core::{Device, Result, Tensor, Var};

use super::dense::{Dense, dense};
use crate::checks::{assert_within, draw, gradient};
use crate::similarity::{Reduction, sup_con, sup_con_anchor_losses};

pub(super) const REDUCTIONS: [Reduction; 3] = [
    Reduction::MeanValid,
    Reduction::PmlAvgNonZero,
    Reduction::SupContrastMeanAll { base_temperature: 0.07 },
];

/// Similarities are f32, with a rounding of about 1e-7 that the temperature magnifies.
fn tolerance(temperature: f64) -> f64 {
    1e-6 + 3e-7 / temperature
}

/// What the operation gives.
pub(super) struct Fused {
    pub(super) loss: f64,
    pub(super) gradient: Vec<f32>,
    pub(super) temperature_gradient: f64,
}

pub(super) fn fused(
    values: &[f32],
    dim: usize,
    labels: &[u32],
    temperature: f64,
    reduction: Reduction,
) -> Result<Fused> {
    let embeddings = Var::from_slice(values, (labels.len(), dim), &Device::Cpu)?;
    let labels = Tensor::new(labels, &Device::Cpu)?;
    let learned = Var::new(temperature as f32, &Device::Cpu)?;
    let loss = sup_con(&embeddings, &labels, learned.as_tensor(), reduction)?;
    let gradients = loss.backward()?;
    Ok(Fused {
        loss: f64::from(loss.to_scalar::<f32>()?),
        gradient: gradient(&gradients, &embeddings)?,
        temperature_gradient: f64::from(gradient(&gradients, &learned)?[0]),
    })
}

/// Checks all reductions.
fn check(values: &[f32], dim: usize, labels: &[u32], temperature: f64) -> Result<()> {
    let check = |reduction| check_reduction(values, dim, labels, temperature, reduction);
    REDUCTIONS.into_iter().try_for_each(check)
}

pub(super) fn check_reduction(
    values: &[f32],
    dim: usize,
    labels: &[u32],
    temperature: f64,
    reduction: Reduction,
) -> Result<()> {
    // What a learned temperature is in f32, so that both sides see the same number.
    let temperature = f64::from(temperature as f32);
    let exact: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    let what = format!("{} x {dim}, t = {temperature}, {reduction:?}", labels.len());
    let tolerance = tolerance(temperature);
    let Dense { loss, anchor_losses, gradient, temperature_gradient } =
        dense(&exact, dim, labels, temperature, reduction);
    let found = fused(values, dim, labels, temperature, reduction)?;
    let scale = loss.abs().max(1.0);
    assert!((found.loss - loss).abs() <= tolerance * scale, "{what}: {} {loss}", found.loss);
    // Times the norm, the gradient does not grow for a short row; where no pair pulls in the
    // end, the pulls that cancel are of the size of an anchor's share.
    let norm = |at: usize| {
        let row = &exact[at / dim * dim..(at / dim + 1) * dim];
        row.iter().map(|x| x * x).sum::<f64>().sqrt()
    };
    let scaled: Vec<f64> = gradient.iter().enumerate().map(|(at, g)| g * norm(at)).collect();
    let largest = scaled.iter().fold(0.0, |max: f64, g| max.max(g.abs()));
    let largest = largest.max(0.1 / (temperature * labels.len() as f64));
    let found_scaled: Vec<f64> =
        found.gradient.iter().enumerate().map(|(at, g)| f64::from(*g) * norm(at)).collect();
    let most = 10.0 * tolerance * largest;
    assert_within(&format!("{what}, gradient"), &found_scaled, &scaled, most);
    let of_temperature = found.temperature_gradient;
    let scale = temperature_gradient.abs().max(loss.abs() / temperature).max(1.0);
    assert!(
        (of_temperature - temperature_gradient).abs() <= 10.0 * tolerance * scale,
        "{what}: dL/dt {of_temperature} {temperature_gradient}"
    );
    if reduction == Reduction::MeanValid {
        let embeddings = Tensor::from_slice(values, (labels.len(), dim), &Device::Cpu)?;
        let losses =
            sup_con_anchor_losses(&embeddings, &Tensor::new(labels, &Device::Cpu)?, temperature)?;
        for (found, expected) in losses.to_vec1::<f32>()?.into_iter().zip(&anchor_losses) {
            let scale = expected.abs().max(1.0);
            assert!(
                (f64::from(found) - expected).abs() <= tolerance * scale,
                "{what}: {found} {expected}"
            );
        }
    }
    Ok(())
}

fn labels(n: usize, n_classes: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7 + i / 3) % n_classes) as u32).collect()
}

#[test]
fn sup_con_is_the_dense_formula_for_any_number_of_rows() -> Result<()> {
    for n in [1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200] {
        check(&draw(n as u64, n * 16), 16, &labels(n, 4), 0.2)?;
    }
    Ok(())
}

#[test]
fn sup_con_is_the_dense_formula_for_any_length_of_a_row() -> Result<()> {
    for dim in [1, 2, 15, 16, 17, 63, 64, 128, 200] {
        check(&draw(dim as u64, 70 * dim), dim, &labels(70, 5), 0.1)?;
    }
    Ok(())
}

#[test]
fn sup_con_is_the_dense_formula_at_any_temperature() -> Result<()> {
    for temperature in [0.005, 0.01, 0.02, 0.0228, 0.0229, 0.0231, 0.05, 0.07, 0.2, 0.5, 1.0] {
        check(&draw(3, 90 * 24), 24, &labels(90, 6), temperature)?;
        check(&draw(4, 90 * 2), 2, &labels(90, 6), temperature)?;
    }
    Ok(())
}

#[test]
fn sup_con_of_many_rows_is_the_dense_formula() -> Result<()> {
    check(&draw(7, 1000 * 16), 16, &labels(1000, 20), 0.1)?;
    // So many that not every tile is kept for the backward pass.
    check_reduction(&draw(8, 4097 * 4), 4, &labels(4097, 9), 0.2, Reduction::MeanValid)
}

#[test]
fn sup_con_is_the_same_with_any_instructions() -> Result<()> {
    let (values, labels) = (draw(9, 150 * 40), labels(150, 6));
    let mut result = Ok(());
    crate::simd::with_each_instruction_set(|| {
        for temperature in [0.01, 0.1] {
            let found = check(&values, 40, &labels, temperature);
            result = std::mem::replace(&mut result, Ok(())).and(found);
        }
    });
    result
}
