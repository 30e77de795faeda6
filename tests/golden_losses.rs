//! SupCon in each of its reductions, NT-Xent, batch-hard triplets, and contrast of queries against
//! keys, against PyTorch.

use candle_core::{Device, NdArray, Tensor, Var};
use s5cl_kernels::{CrossContrast, Positives, cross_contrast};
use s5cl_losses::{Reduction, SupCon, SupervisedLoss, TripletMargin, instance_labels};
use serde::Deserialize;

use crate::golden_files::{TestResult, assert_close, assert_values_close, gradient, json, values};

/// f32 sums of a few dozen similarities that a temperature of 0.07 has magnified by 14; the
/// golden values are f64.
const VALUE: f64 = 2e-6;
/// The same, of the largest part of a gradient, in which terms cancel.
const GRADIENT: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    triplet: Vec<TripletCase>,
    cross: Vec<CrossCase>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    temperature: f64,
    base_temperature: f64,
    labels: Vec<u32>,
    embeddings: Vec<Vec<f32>>,
    reductions: Reductions,
}

#[derive(Deserialize)]
struct Reductions {
    pml_avg_nonzero: Expected,
    supcontrast_mean_all: Expected,
    mean_valid: Expected,
}

#[derive(Deserialize)]
struct Expected {
    loss: f64,
    gradient: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct TripletCase {
    name: String,
    margin: f64,
    labels: Vec<u32>,
    embeddings: Vec<Vec<f32>>,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Deserialize)]
struct CrossCase {
    name: String,
    temperatures: Vec<f64>,
    queries: Vec<Vec<f32>>,
    keys: Vec<Vec<f32>>,
    query_labels: Option<Vec<u32>>,
    key_labels: Option<Vec<u32>>,
    query_shares: Option<Vec<Vec<f32>>>,
    key_shares: Option<Vec<Vec<f32>>>,
    query_weights: Option<Vec<f32>>,
    key_weights: Option<Vec<f32>>,
    /// -1: none.
    excluded: Option<Vec<i64>>,
    loss: f64,
    query_gradient: Vec<Vec<f32>>,
    key_gradient: Vec<Vec<f32>>,
}

fn golden() -> TestResult<Golden> {
    json("supcon.json")
}

fn check(
    what: &str,
    loss: &dyn SupervisedLoss,
    embeddings: &[Vec<f32>],
    labels: &Tensor,
    expected: &Expected,
) -> TestResult {
    let embeddings = Var::new(embeddings.to_vec(), &Device::Cpu)?;
    let value = loss.forward(&embeddings, labels)?;
    assert_values_close(what, &values(&value)?, &[expected.loss], VALUE);
    let gradients = value.backward()?;
    let expected = Tensor::new(expected.gradient.clone(), &Device::Cpu)?;
    assert_close(what, gradient(&gradients, &embeddings)?, &expected, GRADIENT)
}

/// Checks every case with the reduction and the expectation that `select` picks from it.
fn check_supcon(select: impl Fn(&Case) -> (Reduction, &Expected)) -> TestResult {
    let cases = golden()?.cases;
    assert!(cases.len() >= 10, "only {} cases", cases.len());
    for case in &cases {
        let (reduction, expected) = select(case);
        let loss = SupCon { temperature: case.temperature, reduction };
        let labels = Tensor::new(case.labels.as_slice(), &Device::Cpu)?;
        check(&case.name, &loss, &case.embeddings, &labels, expected)?;
    }
    Ok(())
}

#[test]
fn supcon_mean_valid_is_the_golden_one() -> TestResult {
    check_supcon(|case| (Reduction::MeanValid, &case.reductions.mean_valid))
}

#[test]
fn supcon_pml_avg_non_zero_is_the_golden_one() -> TestResult {
    check_supcon(|case| (Reduction::PmlAvgNonZero, &case.reductions.pml_avg_nonzero))
}

#[test]
fn supcon_supcontrast_mean_all_is_the_golden_one() -> TestResult {
    check_supcon(|case| {
        let Case { base_temperature, .. } = *case;
        let reduction = Reduction::SupContrastMeanAll { base_temperature };
        (reduction, &case.reductions.supcontrast_mean_all)
    })
}

#[test]
fn nt_xent_is_supcon_on_instance_labels() -> TestResult {
    let golden = golden()?;
    let mut n_checked = 0;
    for case in golden.cases.iter().filter(|case| case.name.starts_with("nt_xent")) {
        let loss = SupCon { temperature: case.temperature, reduction: Reduction::MeanValid };
        let labels = instance_labels(case.labels.len() / 2, &Device::Cpu)?;
        let expected = &case.reductions.pml_avg_nonzero;
        check(&case.name, &loss, &case.embeddings, &labels, expected)?;
        n_checked += 1;
    }
    assert_eq!(n_checked, 2);
    Ok(())
}

#[test]
fn triplet_with_batch_hard_mining_is_the_golden_one() -> TestResult {
    let cases = golden()?.triplet;
    assert!(cases.len() >= 3, "only {} cases", cases.len());
    for case in &cases {
        let loss = TripletMargin { margin: case.margin };
        let labels = Tensor::new(case.labels.as_slice(), &Device::Cpu)?;
        check(&case.name, &loss, &case.embeddings, &labels, &case.expected)?;
    }
    Ok(())
}

/// The tensor of values that a case may not have.
fn optional<T: NdArray + Clone>(values: &Option<T>) -> TestResult<Option<Tensor>> {
    Ok(values.clone().map(|values| Tensor::new(values, &Device::Cpu)).transpose()?)
}

#[test]
fn cross_contrast_is_the_golden_one() -> TestResult {
    let cases = golden()?.cross;
    assert_eq!(cases.len(), 6);
    for case in &cases {
        let queries = Var::new(case.queries.clone(), &Device::Cpu)?;
        let keys = Var::new(case.keys.clone(), &Device::Cpu)?;
        let labels = (optional(&case.query_labels)?, optional(&case.key_labels)?);
        let shares = (optional(&case.query_shares)?, optional(&case.key_shares)?);
        let positives = match (&labels, &shares) {
            ((Some(queries), Some(keys)), _) => Positives::Labels { queries, keys },
            (_, (Some(queries), Some(keys))) => Positives::Shares { queries, keys },
            _ => return Err(format!("{} has no positives", case.name).into()),
        };
        let place = |excluded: &i64| u32::try_from(*excluded).unwrap_or(u32::MAX);
        let excluded: Option<Vec<u32>> =
            case.excluded.as_ref().map(|places| places.iter().map(place).collect());
        let (query_weights, key_weights) =
            (optional(&case.query_weights)?, optional(&case.key_weights)?);
        let excluded = optional(&excluded)?;
        let config = CrossContrast {
            temperatures: &case.temperatures,
            positives,
            query_weights: query_weights.as_ref(),
            key_weights: key_weights.as_ref(),
            excluded: excluded.as_ref(),
        };
        let loss = cross_contrast(&queries, &keys, &config)?;
        assert_values_close(&case.name, &values(&loss)?, &[case.loss], VALUE);
        let gradients = loss.backward()?;
        for (variable, expected) in [(&queries, &case.query_gradient), (&keys, &case.key_gradient)]
        {
            let expected = Tensor::new(expected.clone(), &Device::Cpu)?;
            assert_close(&case.name, gradient(&gradients, variable)?, &expected, GRADIENT)?;
        }
    }
    Ok(())
}
