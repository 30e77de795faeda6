//! Metrics of classification and calibration against scikit-learn's.

use std::collections::BTreeMap;

use s5cl_eval::{
    ClassificationResult, Conformal, ConformalScore, Confusion, CostMatrix, CoverageCurve,
    EvalError, N_BINS, Probabilities, Temperature, log_loss, reliability_bins, top_k_accuracy,
};
use serde::Deserialize;

use crate::golden_files::{TestResult, json};

/// Sums of a hundred `f64` in another order than numpy's.
const VALUE: f64 = 1e-12;
/// scikit-learn takes the logarithm of `float32` probabilities in `float32`.
const LOSS: f64 = 1e-6;
/// The minimum of a loss is flat: where it lies is known to the root of the precision of a value.
const TEMPERATURE: f64 = 1e-6;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    temperature: Vec<TemperatureCase>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    labels: Vec<u32>,
    probabilities: Vec<Vec<f32>>,
    costs: Vec<Vec<f64>>,
    accuracy: f64,
    balanced_accuracy: f64,
    macro_f1: f64,
    weighted_f1: f64,
    micro_f1: f64,
    kappa: Option<f64>,
    quadratic_kappa: Option<f64>,
    mcc: f64,
    top_k: BTreeMap<usize, f64>,
    top_1: Option<f64>,
    auroc: Option<f64>,
    average_precision: Option<f64>,
    loss: f64,
    brier: f64,
    ece: f64,
    class_auroc: Vec<Option<f64>>,
    class_average_precision: Vec<Option<f64>>,
    confusion: Vec<Vec<u64>>,
    normalized: Vec<Vec<f64>>,
    mean_cost: f64,
    bin_counts: Vec<u64>,
    aurc: f64,
    conformal: Vec<ConformalCase>,
}

#[derive(Deserialize)]
struct ConformalCase {
    score: String,
    level: f64,
    threshold: Option<f64>,
    coverage: f64,
    sizes: Vec<u64>,
}

#[derive(Deserialize)]
struct TemperatureCase {
    name: String,
    labels: Vec<u32>,
    probabilities: Vec<Vec<f32>>,
    temperature: f64,
    loss: f64,
}

fn table(rows: &[Vec<f32>]) -> Result<Probabilities, EvalError> {
    Probabilities::new(rows.concat(), rows[0].len())
}

#[track_caller]
fn assert_near(what: &str, found: Option<f64>, expected: Option<f64>, tolerance: f64) {
    let is_near = match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= tolerance,
        (found, expected) => found == expected,
    };
    assert!(is_near, "{what} is {found:?}, expected {expected:?} within {tolerance}");
}

fn cases() -> TestResult<Vec<Case>> {
    let golden: Golden = json("classification.json")?;
    assert_eq!(golden.cases.len(), 7);
    Ok(golden.cases)
}

#[test]
fn classification_result_is_the_golden_one() -> TestResult {
    for case in cases()? {
        let probabilities = table(&case.probabilities)?;
        let names: Vec<String> = (0..probabilities.n_classes()).map(|c| c.to_string()).collect();
        let found = ClassificationResult::new(&case.labels, &probabilities, &names)?;
        let metrics = [
            ("accuracy", Some(found.accuracy), Some(case.accuracy)),
            ("balanced_accuracy", Some(found.balanced_accuracy), Some(case.balanced_accuracy)),
            ("macro_f1", Some(found.macro_f1), Some(case.macro_f1)),
            ("weighted_f1", Some(found.weighted_f1), Some(case.weighted_f1)),
            ("micro_f1", Some(found.micro_f1), Some(case.micro_f1)),
            ("kappa", found.kappa, case.kappa),
            ("quadratic_kappa", found.quadratic_kappa, case.quadratic_kappa),
            ("mcc", Some(found.mcc), Some(case.mcc)),
            ("auroc", found.auroc, case.auroc),
            ("average_precision", found.average_precision, case.average_precision),
            ("brier", found.brier, Some(case.brier)),
            ("ece", found.ece, Some(case.ece)),
        ];
        for (what, found, expected) in metrics {
            assert_near(&format!("{}: {what}", case.name), found, expected, VALUE);
        }
        assert_near(&format!("{}: loss", case.name), found.loss, Some(case.loss), LOSS);
        assert_eq!(found.top_k, case.top_k, "{}", case.name);
        assert_eq!(found.confusion, case.confusion, "{}", case.name);
        for (class_idx, class) in found.per_class.iter().enumerate() {
            let what = format!("{}: class {class_idx}", case.name);
            assert_near(&what, class.auroc, case.class_auroc[class_idx], VALUE);
            let expected = case.class_average_precision[class_idx];
            assert_near(&what, class.average_precision, expected, VALUE);
        }
        let text = serde_json::to_string(&found)?;
        assert!(!text.contains("NaN"), "{text}");
    }
    Ok(())
}

#[test]
fn confusion_shares_and_costs_are_the_golden_ones() -> TestResult {
    for case in cases()? {
        let probabilities = table(&case.probabilities)?;
        let n_classes = probabilities.n_classes();
        let confusion = Confusion::new(n_classes, &case.labels, &probabilities.predictions())?;
        let (found, expected) = (confusion.normalized_rows().concat(), case.normalized.concat());
        for (found, expected) in found.into_iter().zip(expected) {
            assert_near(&case.name, Some(found), Some(expected), VALUE);
        }
        let found = confusion.mean_cost(&CostMatrix::new(case.costs)?)?;
        assert_near(&case.name, Some(found), Some(case.mean_cost), VALUE);
        if case.top_1.is_some() {
            let found = top_k_accuracy(&probabilities, &case.labels, 1)?;
            assert_near(&case.name, Some(found), case.top_1, VALUE);
        }
    }
    Ok(())
}

#[test]
fn reliability_and_coverage_are_the_golden_ones() -> TestResult {
    for case in cases()? {
        let probabilities = table(&case.probabilities)?;
        let bins = reliability_bins(&probabilities, &case.labels, N_BINS)?;
        let counts: Vec<u64> = bins.iter().map(|bin| bin.n).collect();
        assert_eq!(counts, case.bin_counts, "{}", case.name);
        let curve = CoverageCurve::new(&probabilities, &case.labels)?;
        assert_near(&case.name, Some(curve.aurc), Some(case.aurc), VALUE);
    }
    Ok(())
}

#[test]
fn conformal_sets_are_the_golden_ones() -> TestResult {
    for case in cases()? {
        let n = case.labels.len() / 2;
        let (calibration, test) = case.probabilities.split_at(n);
        let (calibration, test) = (table(calibration)?, table(test)?);
        let (labels, test_labels) = case.labels.split_at(n);
        for expected in case.conformal {
            let score = ConformalScore::named(&expected.score)?;
            let conformal = Conformal::fit(score, &calibration, labels, expected.level)?;
            let what = format!("{}: {} {}", case.name, expected.score, expected.level);
            let finite = Some(conformal.threshold()).filter(|threshold| threshold.is_finite());
            assert_near(&what, finite, expected.threshold, VALUE);
            let found = conformal.evaluate(&test, test_labels)?;
            assert_near(&what, Some(found.coverage), Some(expected.coverage), VALUE);
            assert_eq!(found.sizes, expected.sizes, "{what}");
        }
    }
    Ok(())
}

#[test]
fn temperature_is_the_golden_one() -> TestResult {
    let golden: Golden = json("classification.json")?;
    assert_eq!(golden.temperature.len(), 2);
    for case in golden.temperature {
        let probabilities = table(&case.probabilities)?;
        let found = Temperature::fit(&probabilities, &case.labels)?;
        assert_near(&case.name, Some(found.value()), Some(case.temperature), TEMPERATURE);
        let loss = log_loss(&found.apply(&probabilities), &case.labels)?;
        assert_near(&case.name, Some(loss), Some(case.loss), LOSS);
    }
    Ok(())
}
