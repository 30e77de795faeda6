//! Cross entropy of logits and labels, with its gradient made on the way.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod launch;

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::values::operand;

/// How labels become the probabilities that logits are compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropyConfig {
    /// The share of a label that is spread evenly over all classes, its own included; 0 to 1.
    pub label_smoothing: f64,
}

/// The mean cross entropy of the rows, as `torch.nn.functional.cross_entropy`.
///
/// ```text
/// target[i, k] = (1 - label_smoothing) * [k = labels[i]] + label_smoothing / classes
/// loss = mean_i(sum_k(target[i, k] * (log(sum_j exp(logits[i, j])) - logits[i, k])))
/// ```
///
/// Exponentials and sums are in f64. When something before the logits can use a gradient, it is
/// made in the forward pass, where the probabilities are at hand. On a CUDA device the sums of a
/// row are in f32, and a label that is not below `classes` gives NaN, as reading the labels back
/// would stall the device.
///
/// # Shapes
///
/// - `logits`: f32 `[n, classes]`, any finite values
/// - `labels`: u32 `[n]`, each below `classes`
/// - result: f32 scalar
///
/// # Errors
///
/// If a shape or type is another, there is no row or no class, a label is not below the number of
/// classes, or the smoothing is not between 0 and 1.
///
/// # Source
///
/// Label smoothing: Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7.
pub fn cross_entropy(
    logits: &Tensor,
    labels: &Tensor,
    config: CrossEntropyConfig,
) -> Result<Tensor> {
    let CrossEntropyConfig { label_smoothing } = config;
    if !(0.0..=1.0).contains(&label_smoothing) {
        bail!("cross_entropy: label_smoothing {label_smoothing} is not between 0 and 1")
    }
    let (n, classes) = match *logits.dims() {
        [n, classes] if n * classes > 0 => (n, classes),
        _ => bail!("cross_entropy: expected logits [n, classes], got {:?}", logits.shape()),
    };
    if labels.dims() != [n] || labels.dtype() != DType::U32 {
        bail!(
            "cross_entropy: expected u32 labels [{n}] for logits {:?}, got {:?} {:?}",
            logits.shape(),
            labels.dtype(),
            labels.shape()
        )
    }
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        return cuda::apply(logits, labels, config);
    }
    let labels = labels.to_vec1::<u32>()?;
    if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
        let label = labels[row];
        bail!("cross_entropy: label {label} in row {row} is not below the {classes} classes")
    }
    let gradient = logits.track_op().then(OnceLock::new);
    logits.contiguous()?.apply_op1(CrossEntropy { labels, label_smoothing, gradient })
}

struct CrossEntropy {
    labels: Vec<u32>,
    label_smoothing: f64,
    /// Of the logits, for a gradient of 1 from above; absent where nobody can ask for it.
    gradient: Option<OnceLock<Vec<f32>>>,
}

impl CrossEntropy {
    /// The loss of one row, and its gradient where there is a place for it.
    fn row(&self, logits: &[f32], label: u32, gradient: Option<&mut [f32]>) -> f64 {
        let (n, classes) = (self.labels.len() as f64, logits.len() as f64);
        let (own, spread) = (1.0 - self.label_smoothing, self.label_smoothing / classes);
        let value = |logit: &f32| f64::from(*logit);
        let largest = logits.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (value(logit) - largest).exp()).sum();
        let log_sum = largest + sum.ln();
        if let Some(gradient) = gradient {
            for (class_idx, (out, logit)) in gradient.iter_mut().zip(logits).enumerate() {
                let target = spread + if class_idx == label as usize { own } else { 0.0 };
                *out = (((value(logit) - log_sum).exp() - target) / n) as f32;
            }
        }
        let of_label = log_sum - value(&logits[label as usize]);
        if self.label_smoothing == 0.0 {
            // A class that was ruled out by a logit of minus infinity costs nothing.
            return of_label;
        }
        own * of_label + spread * logits.iter().map(|logit| log_sum - value(logit)).sum::<f64>()
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = operand(logits, layout, self.name())?;
        let classes = logits.len() / self.labels.len();
        let rows = logits.par_chunks(classes).zip(&self.labels);
        let losses: Vec<f64> = match &self.gradient {
            None => rows.map(|(row, &label)| self.row(row, label, None)).collect(),
            Some(kept) => {
                let mut gradient = vec![0.0; logits.len()];
                let rows = rows.zip(gradient.par_chunks_mut(classes));
                let losses = rows.map(|((row, &label), out)| self.row(row, label, Some(out)));
                let losses = losses.collect();
                kept.get_or_init(|| gradient);
                losses
            }
        };
        // One after the other: the sum is the same for any number of threads.
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        Ok((CpuStorage::F32(vec![loss as f32]), ().into()))
    }

    fn bwd(&self, logits: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let Some(kept) = self.gradient.as_ref().and_then(OnceLock::get) else {
            bail!("cross_entropy: backward before forward")
        };
        let from_above = gradient.to_scalar::<f32>()?;
        let scaled = kept.iter().map(|value| value * from_above).collect();
        Ok(Some(Tensor::from_vec(scaled, logits.shape(), logits.device())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor, Var};

    use super::{CrossEntropyConfig, cross_entropy};
    use crate::checks::{drawn, gradient, refusal, same_everywhere, values};

    const PLAIN: CrossEntropyConfig = CrossEntropyConfig { label_smoothing: 0.0 };
    /// One rounding to f32.
    const ROUNDED: f32 = 1e-6;

    #[test]
    fn cross_entropy_of_even_logits_is_the_logarithm_of_the_classes() -> Result<()> {
        let logits = Var::new(&[[3_f32; 5]], &Device::Cpu)?;
        let labels = Tensor::new(&[4_u32], &Device::Cpu)?;
        let loss = cross_entropy(&logits, &labels, PLAIN)?;
        assert_eq!(loss.to_scalar::<f32>()?, 5_f32.ln());
        let gradients = (loss * 2.0)?.backward()?;
        for (got, expected) in gradient(&gradients, &logits)?.iter().zip([0.4, 0.4, 0.4, 0.4, -1.6])
        {
            assert!((got - expected).abs() < ROUNDED, "{got}, expected {expected}");
        }
        Ok(())
    }

    #[test]
    fn cross_entropy_of_large_logits_is_finite() -> Result<()> {
        let logits = Var::new(&[[1e30_f32, -1e30], [f32::NEG_INFINITY, 88.0]], &Device::Cpu)?;
        let labels = Tensor::new(&[0_u32, 1], &Device::Cpu)?;
        let loss = cross_entropy(&logits, &labels, PLAIN)?;
        assert_eq!(loss.to_scalar::<f32>()?, 0.0);
        assert_eq!(gradient(&loss.backward()?, &logits)?, [0.0; 4]);
        Ok(())
    }

    #[test]
    fn cross_entropy_does_not_hide_what_is_no_number() -> Result<()> {
        let logits = Tensor::new(&[[0_f32, f32::NAN, 1.0]], &Device::Cpu)?;
        let labels = Tensor::new(&[0_u32], &Device::Cpu)?;
        assert!(cross_entropy(&logits, &labels, PLAIN)?.to_scalar::<f32>()?.is_nan());
        Ok(())
    }

    #[test]
    fn cross_entropy_has_the_same_bits_everywhere_and_without_gradient() -> Result<()> {
        let config = CrossEntropyConfig { label_smoothing: 0.1 };
        let labels = Tensor::from_vec((0..301_u32).map(|i| i % 7).collect(), 301, &Device::Cpu)?;
        let tracked = same_everywhere(|| {
            let logits = Var::from_tensor(&drawn(3, &[301, 7])?)?;
            let loss = cross_entropy(&logits, &labels, config)?;
            Ok([values(&loss)?, gradient(&loss.backward()?, &logits)?].concat())
        });
        // The same logits, column by column.
        let strided = drawn(3, &[301, 7])?.t()?.contiguous()?.t()?;
        assert_eq!(cross_entropy(&strided, &labels, config)?.to_scalar::<f32>()?, tracked[0]);
        Ok(())
    }

    #[test]
    fn cross_entropy_refuses_what_does_not_fit() -> Result<()> {
        let logits = drawn(4, &[3, 2])?;
        let labels = |labels: &[u32]| Tensor::new(labels, &Device::Cpu);
        let message = refusal(cross_entropy(&logits, &labels(&[0, 1, 2])?, PLAIN));
        assert!(message.contains("label 2 in row 2 is not below the 2 classes"), "{message}");
        let message = refusal(cross_entropy(&logits, &labels(&[0, 1])?, PLAIN));
        assert!(message.contains("labels [3] for logits [3, 2], got U32 [2]"), "{message}");
        let signed = Tensor::new(&[0_i64, 1, 1], &Device::Cpu)?;
        assert!(refusal(cross_entropy(&logits, &signed, PLAIN)).contains("I64"));
        let message = refusal(cross_entropy(&logits.flatten_all()?, &labels(&[0])?, PLAIN));
        assert!(message.contains("cross_entropy: expected logits [n, classes], got [6]"));
        let too_smooth = CrossEntropyConfig { label_smoothing: 1.5 };
        assert!(refusal(cross_entropy(&logits, &labels(&[0, 1, 0])?, too_smooth)).contains("1.5"));
        Ok(())
    }
}
