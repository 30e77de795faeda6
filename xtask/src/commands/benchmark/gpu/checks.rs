//! Whether a device computes what the processor does.

use anyhow::Result;
use candle_core::{Device as Tensors, Tensor, Var};
use s5cl_backbone::{EncoderConfig, Mode, Model, ModelConfig, Parameters, Precision};
use s5cl_kernels::{
    CrossEntropyConfig, Reduction, Segment, SimilarityPrecision, contrast_with_precision,
    cross_entropy,
};
use s5cl_random::named_stream;

use super::losses::{drawn, values};
use super::{Sizes, steps};
use crate::device::Device;

/// Rows of the contrastive loss: around tiles and blocks, and more than one of each.
const ROWS: [usize; 12] = [1, 2, 3, 63, 64, 65, 127, 128, 129, 257, 1000, 4097];
const DIMS: [usize; 5] = [1, 64, 128, 200, 256];
/// Largest differences of the gradient, relative to its largest value, and of the loss.
const PRECISIONS: [(SimilarityPrecision, f64, f64); 3] = [
    (SimilarityPrecision::Fast, 1e-2, 2e-4),
    (SimilarityPrecision::Mixed, 5e-3, 2e-5),
    (SimilarityPrecision::Exact, 5e-5, 5e-6),
];
/// Lengths of differences relative to those of the values: where few pixels are left, normalization
/// magnifies a rounding of their sums.
const NETWORK_PRECISIONS: [(Precision, f64); 3] =
    [(Precision::F32, 1e-3), (Precision::Tf32, 5e-2), (Precision::Bf16, 3e-1)];
/// Losses of single steps drift apart by roundings that later steps magnify.
const CURVE_TOLERANCE: f64 = 5e-2;

/// One comparison.
pub(super) struct Check {
    pub(super) name: String,
    pub(super) error: f64,
    pub(super) tolerance: f64,
}

impl Check {
    pub(super) fn is_good(&self) -> bool {
        self.error <= self.tolerance
    }

    pub(super) fn line(&self) -> String {
        let verdict = if self.is_good() { "good" } else { "BAD" };
        format!("{verdict:4} {}: {:.2e} (at most {:.0e})", self.name, self.error, self.tolerance)
    }
}

/// All comparisons.
pub(super) fn all(device: &Device, sizes: &Sizes) -> Result<Vec<Check>> {
    let tensors = &device.tensors;
    let mut checks = contrasts(tensors)?;
    checks.push(cross_entropies(tensors)?);
    for (precision, tolerance) in NETWORK_PRECISIONS {
        if precision.check(tensors).is_ok() {
            checks.push(network(tensors, sizes, precision, tolerance)?);
        }
    }
    let error = steps::curves_apart(device, sizes)?;
    let name = "loss curve of a training in f32".to_owned();
    checks.push(Check { name, error, tolerance: CURVE_TOLERANCE });
    Ok(checks)
}

/// The worst of all sizes for each precision, and whether a second run gives the same bits.
fn contrasts(device: &Tensors) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (precision, of_gradient, of_loss) in PRECISIONS {
        let (mut gradient_error, mut loss_error, mut differs) = (0.0_f64, 0.0_f64, 0.0_f64);
        for n in ROWS {
            for dim in DIMS.into_iter().filter(|dim| n < 1000 || *dim == 64) {
                let (loss, gradient) = contrast_on(device, n, dim, precision)?;
                let again = contrast_on(device, n, dim, precision)?;
                let (expected, of_cpu) = contrast_on(&Tensors::Cpu, n, dim, precision)?;
                loss_error = worse(loss_error, (loss - expected).abs() / expected.abs().max(1.0));
                gradient_error = worse(gradient_error, apart(&gradient, &of_cpu));
                if (loss.to_bits(), bits(&gradient)) != (again.0.to_bits(), bits(&again.1)) {
                    differs += 1.0;
                }
            }
        }
        let name = |what: &str| format!("contrast, {precision:?}: {what}");
        checks.extend([
            Check { name: name("loss"), error: loss_error, tolerance: of_loss },
            Check { name: name("gradient"), error: gradient_error, tolerance: of_gradient },
            Check { name: name("sizes with other bits again"), error: differs, tolerance: 0.0 },
        ]);
    }
    Ok(checks)
}

fn contrast_on(
    device: &Tensors,
    n: usize,
    dim: usize,
    precision: SimilarityPrecision,
) -> Result<(f64, Vec<f32>)> {
    let (rows, labels) = drawn(n, dim, device)?;
    let (temperature, reduction) = (0.2.into(), Reduction::MeanValid);
    let segment = Segment { rows: 0..n, temperature, weight: 1.0, reduction };
    values(&contrast_with_precision(&rows, &labels, &[segment], precision)?, &rows)
}

fn cross_entropies(device: &Tensors) -> Result<Check> {
    let on = |device: &Tensors| -> Result<(f64, Vec<f32>)> {
        let (logits, labels) = drawn(300, 9, device)?;
        let config = CrossEntropyConfig { label_smoothing: 0.1 };
        values(&cross_entropy(&logits, &labels, config)?, &logits)
    };
    let ((loss, gradient), (expected, of_cpu)) = (on(device)?, on(&Tensors::Cpu)?);
    let error = worse((loss - expected).abs(), apart(&gradient, &of_cpu));
    Ok(Check { name: "cross entropy".to_owned(), error, tolerance: 1e-5 })
}

/// Logits of a model in training mode, and the gradients of all of its weights.
fn network(device: &Tensors, sizes: &Sizes, precision: Precision, tolerance: f64) -> Result<Check> {
    let on = |device: &Tensors, precision| -> Result<Vec<Vec<f32>>> {
        let parameters = Parameters::new(3);
        let encoder = EncoderConfig { precision, ..EncoderConfig::named(sizes.encoder, 64)? };
        let config = ModelConfig { encoder, embedding_dim: 16, n_classes: 9 };
        let model = Model::new(&config, &parameters.builder(device))?;
        let mut random = named_stream(1, "benchmark gpu");
        let pixels: Vec<f32> = (0..8 * 64 * 64 * 3).map(|_| random.normal()).collect();
        let images = Tensor::from_vec(pixels, (8, 64, 64, 3), device)?;
        let logits = model.forward(&images, Mode::Train)?.logits;
        let gradients = logits.sqr()?.sum_all()?.backward()?;
        let mut values = vec![logits.flatten_all()?.to_vec1()?];
        for weight in parameters.trainable().values() {
            let weight: &Var = weight;
            if let Some(gradient) = gradients.get(weight) {
                values.push(gradient.flatten_all()?.to_vec1()?);
            }
        }
        Ok(values)
    };
    let (got, expected) = (on(device, precision)?, on(&Tensors::Cpu, Precision::F32)?);
    let missing = if got.len() == expected.len() { 0.0 } else { f64::INFINITY };
    let error = got.iter().zip(&expected).map(|(a, b)| length_apart(a, b)).fold(missing, worse);
    Ok(Check { name: format!("network and its gradients in {precision}"), error, tolerance })
}

/// The larger error; one that is no number is the worst.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::INFINITY } else { a.max(b) }
}

/// The largest difference, relative to the largest expected value.
fn apart(got: &[f32], expected: &[f32]) -> f64 {
    if got.len() != expected.len() {
        return f64::INFINITY;
    }
    let largest = expected.iter().fold(1e-6_f64, |most, value| most.max(f64::from(value.abs())));
    let differences = got.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, worse) / largest
}

/// The length of the difference, relative to that of what is expected.
fn length_apart(got: &[f32], expected: &[f32]) -> f64 {
    if got.len() != expected.len() {
        return f64::INFINITY;
    }
    let length = |squares: f64| squares.sqrt();
    let squares = expected.iter().map(|value| f64::from(*value).powi(2)).sum();
    let differences = got.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    length(differences) / length(squares).max(1e-6)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Check, apart, length_apart, worse};

    #[test]
    fn apart_sees_nan_missing_values_and_differences() {
        assert_eq!(apart(&[1.0, 2.5], &[1.0, 2.0]), 0.25);
        assert!(apart(&[1.0], &[1.0, 2.0]).is_infinite());
        assert!(apart(&[f32::NAN], &[1.0]).is_infinite());
        assert!(worse(0.0, f64::NAN).is_infinite());
        assert!((length_apart(&[3.0, 4.5], &[3.0, 4.0]) - 0.1).abs() < 1e-12);
        assert!(
            length_apart(&[1.0], &[]).is_infinite() && length_apart(&[f32::NAN], &[1.0]).is_nan()
        );
        let check = |error| Check { name: "it".to_owned(), error, tolerance: 0.1 };
        assert!(check(0.1).is_good() && !check(0.11).is_good() && !check(f64::NAN).is_good());
    }
}
