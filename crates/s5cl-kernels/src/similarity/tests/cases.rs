//! Batches at the edge of what the formula is made for, segments, and layouts in memory.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::square::{REDUCTIONS, check_reduction, fused};
use crate::checks::{draw, gradient, refusal};
use crate::simd::with_each_instruction_set;
use crate::similarity::{Reduction, Segment, contrast, nt_xent, sup_con, sup_con_anchor_losses};

const CPU: Device = Device::Cpu;
/// f32 rounding of losses of a few units.
const TOLERANCE: f64 = 2e-6;

fn segment(rows: std::ops::Range<usize>, temperature: f64, weight: f64) -> Segment<'static> {
    Segment { rows, temperature: temperature.into(), weight, reduction: Reduction::MeanValid }
}

#[test]
fn contrast_without_positives_is_zero_without_gradient() -> Result<()> {
    for reduction in REDUCTIONS {
        for labels in [&[0][..], &[0, 1], &[0, 1, 2, 3, 4, 5, 6]] {
            let found = fused(&draw(1, labels.len() * 3), 3, labels, 0.2, reduction)?;
            assert_eq!((found.loss, found.temperature_gradient), (0.0, 0.0), "{reduction:?}");
            assert!(found.gradient.iter().all(|g| *g == 0.0), "{reduction:?}");
        }
    }
    let none = Tensor::zeros((0, 3), DType::F32, &CPU)?;
    let labels = Tensor::zeros(0, DType::U32, &CPU)?;
    let loss = sup_con(&none, &labels, 0.2, Reduction::MeanValid)?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.0);
    Ok(())
}

#[test]
fn contrast_of_one_class_is_zero_for_pml_alone() -> Result<()> {
    let loss = |reduction| Ok(fused(&draw(1, 20), 4, &[3; 5], 0.2, reduction)?.loss);
    let losses: Vec<f64> = REDUCTIONS.into_iter().map(loss).collect::<Result<_>>()?;
    assert!(losses[0] > 0.1 && losses[1] == 0.0 && losses[2] > 0.1, "{losses:?}");
    Ok(())
}

#[test]
fn contrast_of_collapsed_rows_is_the_logarithm_of_the_others() -> Result<()> {
    for temperature in [0.005, 0.07, 0.5] {
        let rows = [0.3, -0.4, 1.2].repeat(150);
        let labels: Vec<u32> = (0..150).map(|i| i % 10).collect();
        let found = fused(&rows, 3, &labels, temperature, Reduction::MeanValid)?;
        assert!((found.loss - 149_f64.ln()).abs() < TOLERANCE * 5.0, "{}", found.loss);
        assert!(found.gradient.iter().all(|g| g.abs() < 1e-5 / temperature as f32));
    }
    Ok(())
}

#[test]
fn contrast_of_opposite_rows_stays_finite_at_any_temperature() -> Result<()> {
    // The positive is opposite, the negative beside the anchor: the loss is 2 / t and a bit.
    let rows = [1.0, 0.0, -1.0, 0.0, 1.0, 1e-3, -1.0, 1e-3];
    for temperature in [0.005, 0.0229, 0.0231, 0.1] {
        let found = fused(&rows, 2, &[0, 0, 1, 1], temperature, Reduction::MeanValid)?;
        let expected = 2.0 / temperature;
        assert!((found.loss / expected - 1.0).abs() < 1e-4, "{} {expected}", found.loss);
        assert!(found.gradient.iter().all(|g| g.is_finite()));
        // No negative at all: the only other row is the positive, however far it is.
        let found = fused(&rows[..4], 2, &[0, 0], temperature, Reduction::MeanValid)?;
        assert!(found.loss.abs() < 1e-3, "{temperature}: {}", found.loss);
    }
    Ok(())
}

#[test]
fn contrast_of_an_anchor_without_a_loss_has_a_gradient_at_small_temperatures() {
    // Beside an anchor that takes no part, exponents lie anywhere up to log2(e) / t, and a power
    // of 128 and more is beyond f32.
    let (rows, labels) = ([1.0, 0.0, 0.89, 0.456, 0.6, 0.8], [0, 1, 1]);
    with_each_instruction_set(|| {
        for temperature in [0.01, 0.011_27, 0.005, 0.003, 0.002] {
            for reduction in REDUCTIONS {
                let found = fused(&rows, 2, &labels, temperature, reduction).unwrap();
                assert!(
                    found.gradient.iter().all(|g| g.is_finite()),
                    "{temperature} {reduction:?}"
                );
                // Which losses are rounded to 0, and dropped, is not the same in f32 and f64.
                if reduction != Reduction::PmlAvgNonZero {
                    check_reduction(&rows, 2, &labels, temperature, reduction).unwrap();
                }
            }
        }
    });
}

#[test]
fn contrast_sees_a_zero_row_as_a_row_beside_all_others() -> Result<()> {
    let rows = [0.0, 0.0, 1.0, 0.0, 0.6, 0.8];
    let found = fused(&rows, 2, &[0, 0, 0], 0.5, Reduction::MeanValid)?;
    // Cosines 0, 0 and 0.6; each anchor: ln of both powers less the mean of both logits.
    let anchor = |a: f64, b: f64| (a.exp() + b.exp()).ln() - (a + b) / 2.0;
    let expected = (anchor(0.0, 0.0) + 2.0 * anchor(0.0, 1.2)) / 3.0;
    assert!((found.loss - expected).abs() < TOLERANCE, "{} {expected}", found.loss);
    assert!(found.gradient.iter().all(|g| g.is_finite()));
    Ok(())
}

#[test]
fn contrast_of_what_is_not_finite_is_nan() -> Result<()> {
    for value in [f32::NAN, f32::INFINITY] {
        let mut rows = draw(1, 12);
        rows[5] = value;
        for temperature in [0.01, 0.2] {
            let found = fused(&rows, 3, &[0, 1, 0, 1], temperature, Reduction::MeanValid)?;
            assert!(found.loss.is_nan() && found.temperature_gradient.is_nan());
            assert!(found.gradient.iter().all(|g| g.is_nan()));
        }
    }
    Ok(())
}

#[test]
fn contrast_of_segments_is_the_weighted_sum_of_each() -> Result<()> {
    let (n, dim) = (100, 6);
    let embeddings = Var::from_vec(draw(2, n * dim), (n, dim), &CPU)?;
    let labels = Tensor::new((0..n as u32).map(|i| i % 4).collect::<Vec<_>>(), &CPU)?;
    let parts = [(70..100, 0.2, 0.5), (0..40, 0.7, 2.0)];
    let segments = parts.clone().map(|(rows, t, weight)| segment(rows, t, weight));
    let loss = contrast(&embeddings, &labels, &segments)?;
    let found = gradient(&loss.backward()?, &embeddings)?;
    let mut expected = 0.0;
    let mut expected_gradient = vec![0.0; n * dim];
    for (rows, temperature, weight) in parts {
        let own = embeddings.narrow(0, rows.start, rows.len())?;
        let labels = labels.narrow(0, rows.start, rows.len())?;
        let loss = (sup_con(&own, &labels, temperature, Reduction::MeanValid)? * weight)?;
        expected += loss.to_scalar::<f32>()?;
        for (sum, g) in expected_gradient.iter_mut().zip(gradient(&loss.backward()?, &embeddings)?)
        {
            *sum += g;
        }
    }
    assert!((loss.to_scalar::<f32>()? - expected).abs() < 1e-5);
    for (found, expected) in found.iter().zip(&expected_gradient) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    // Rows 40 to 70 are in no segment.
    assert!(found[40 * dim..70 * dim].iter().all(|g| *g == 0.0));
    Ok(())
}

/// Two segments, the first with a temperature that is learned or about 0.3.
fn two_segments(learned: Option<&Tensor>, shift: f64) -> [Segment<'_>; 2] {
    let first = segment(0..20, 0.3 + shift, 0.5);
    let temperature = learned.map_or(first.temperature, Into::into);
    [Segment { temperature, ..first }, segment(20..40, 0.6, 1.0)]
}

#[test]
fn contrast_learns_the_temperature_of_each_segment() -> Result<()> {
    let embeddings = Tensor::from_vec(draw(3, 40 * 5), (40, 5), &CPU)?;
    let labels = Tensor::new((0..40_u32).map(|i| i % 3).collect::<Vec<_>>(), &CPU)?;
    let logarithm = Var::new(0.3_f64.ln() as f32, &CPU)?;
    let temperature = logarithm.exp()?;
    let loss = contrast(&embeddings, &labels, &two_segments(Some(&temperature), 0.0))?;
    let slope = f64::from(gradient(&loss.backward()?, &logarithm)?[0]) / 0.3;
    let step = 0.01;
    let at = |shift| -> Result<f64> {
        Ok(f64::from(
            contrast(&embeddings, &labels, &two_segments(None, shift))?.to_scalar::<f32>()?,
        ))
    };
    let expected = (at(step)? - at(-step)?) / (2.0 * step);
    // A difference of f32 losses over 0.02, and what is left of third derivatives.
    assert!((slope - expected).abs() < 2e-3 * expected.abs().max(1.0), "{slope} {expected}");
    Ok(())
}

#[test]
fn nt_xent_is_sup_con_with_a_label_for_each_image() -> Result<()> {
    let embeddings = Tensor::from_vec(draw(4, 24 * 4), (24, 4), &CPU)?;
    let labels = Tensor::new((0..24_u32).map(|i| i % 12).collect::<Vec<_>>(), &CPU)?;
    let expected: f32 = sup_con(&embeddings, &labels, 0.5, Reduction::MeanValid)?.to_scalar()?;
    assert_eq!(nt_xent(&embeddings, 0.5)?.to_scalar::<f32>()?, expected);
    assert!(nt_xent(&embeddings.narrow(0, 0, 23)?, 0.5).is_err());
    Ok(())
}

#[test]
fn contrast_reads_any_strides_and_offsets() -> Result<()> {
    let (n, dim) = (37, 11);
    let values = Var::from_vec(draw(5, (n + 3) * dim), (n + 3, dim), &CPU)?;
    let labels = Tensor::new((0..n as u32).map(|i| i % 5).collect::<Vec<_>>(), &CPU)?;
    let offset = values.narrow(0, 3, n)?;
    let strided = offset.t()?.contiguous()?.t()?;
    let losses = [offset, strided].map(|rows| sup_con(&rows, &labels, 0.2, Reduction::MeanValid));
    let [first, second] = losses;
    let (first, second) = (first?, second?);
    assert_eq!(first.to_scalar::<f32>()?, second.to_scalar::<f32>()?);
    assert_eq!(gradient(&first.backward()?, &values)?, gradient(&second.backward()?, &values)?);
    Ok(())
}

#[test]
fn contrast_without_a_variable_computes_the_same_loss() -> Result<()> {
    let (values, labels) = (draw(6, 200 * 8), (0..200).map(|i| i % 7).collect::<Vec<u32>>());
    let tracked = fused(&values, 8, &labels, 0.25, Reduction::MeanValid)?.loss;
    let embeddings = Tensor::from_vec(values, (200, 8), &CPU)?;
    let labels = Tensor::new(labels, &CPU)?;
    let loss = sup_con(&embeddings, &labels, 0.25, Reduction::MeanValid)?;
    assert_eq!(f64::from(loss.to_scalar::<f32>()?), tracked);
    Ok(())
}

#[test]
fn contrast_refuses_what_does_not_fit() -> Result<()> {
    let embeddings = Tensor::ones((4, 2), DType::F32, &CPU)?;
    let labels = Tensor::zeros(4, DType::U32, &CPU)?;
    let refused = |embeddings: &Tensor, labels: &Tensor, segments: &[Segment<'_>]| {
        refusal(contrast(embeddings, labels, segments))
    };
    let all = [segment(0..4, 0.1, 1.0)];
    assert_eq!(refused(&embeddings, &labels, &all), "");
    assert!(refused(&embeddings.to_dtype(DType::F64)?, &labels, &all).contains("F64"));
    assert!(refused(&embeddings, &labels.narrow(0, 0, 3)?, &all).contains("[4], got U32 [3]"));
    assert!(refused(&embeddings, &labels, &[segment(0..5, 0.1, 1.0)]).contains("0..5"));
    let overlapping = [segment(0..3, 0.1, 1.0), segment(2..4, 0.1, 1.0)];
    assert!(refused(&embeddings, &labels, &overlapping).contains("0..3"));
    for temperature in [0.0, -1.0, f64::NAN] {
        assert!(
            refused(&embeddings, &labels, &[segment(0..4, temperature, 1.0)]).contains("above 0")
        );
    }
    let row = Tensor::ones(4, DType::F32, &CPU)?;
    let number = Tensor::ones((), DType::F32, &CPU)?;
    let reduction = Reduction::MeanValid;
    for (tensor, shape) in [(&row, "F32 [4]"), (&number, "F32 []")] {
        let found = [
            ("contrast", contrast(tensor, &labels, &all)),
            ("sup_con", sup_con(tensor, &labels, 0.1, reduction)),
            ("sup_con_anchor_losses", sup_con_anchor_losses(tensor, &labels, 0.1)),
            ("nt_xent", nt_xent(tensor, 0.1)),
        ];
        for (name, result) in found {
            let message = refusal(result);
            let expected = format!("{name}: expected a matrix, got {shape}");
            assert!(message.contains(&expected), "{message}");
        }
    }
    Ok(())
}
