//! The loss and its gradient pair by pair, in f64 from their definition.

use crate::similarity::Reduction;

/// Loss, gradient for the rows, gradient for the temperature.
pub(in crate::similarity) struct Dense {
    pub(in crate::similarity) loss: f64,
    pub(in crate::similarity) anchor_losses: Vec<f64>,
    pub(in crate::similarity) gradient: Vec<f64>,
    pub(in crate::similarity) temperature_gradient: f64,
}

/// Rows of unit length with their norms, torch's `eps` included.
fn normalize(values: &[f64], dim: usize) -> (Vec<f64>, Vec<f64>) {
    let norms: Vec<f64> =
        values.chunks(dim).map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
    let divide = |(row, norm): (&[f64], &f64)| -> Vec<f64> {
        row.iter().map(|x| x / norm.max(1e-12)).collect()
    };
    (values.chunks(dim).zip(&norms).flat_map(divide).collect(), norms)
}

pub(in crate::similarity) fn dense(
    values: &[f64],
    dim: usize,
    labels: &[u32],
    temperature: f64,
    reduction: Reduction,
) -> Dense {
    let n = labels.len();
    let (units, norms) = normalize(values, dim);
    let unit = |i: usize| &units[i * dim..(i + 1) * dim];
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |i: usize, j: usize| dot(unit(i), unit(j));
    let n_positives: Vec<usize> =
        (0..n).map(|i| (0..n).filter(|&j| j != i && labels[i] == labels[j]).count()).collect();

    // ln of each softmax sum, and the loss of each anchor.
    let mut log_sums = vec![0.0; n];
    let mut losses = vec![0.0; n];
    for i in 0..n {
        let others = || (0..n).filter(move |&j| j != i);
        let logits: Vec<f64> = others().map(|j| cosine(i, j) / temperature).collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        log_sums[i] = max + logits.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
        if n_positives[i] > 0 {
            let positives = others().filter(|&j| labels[i] == labels[j]);
            let sum: f64 = positives.map(|j| cosine(i, j) / temperature - log_sums[i]).sum();
            losses[i] = -sum / n_positives[i] as f64;
        }
    }

    let has_negatives = labels.iter().any(|label| *label != labels[0]);
    let counts = |i: usize| match reduction {
        Reduction::PmlAvgNonZero => has_negatives && n_positives[i] > 0 && losses[i] as f32 > 0.0,
        _ => n_positives[i] > 0,
    };
    let n_counted = (0..n).filter(|&i| counts(i)).count().max(1) as f64;
    let share = match reduction {
        Reduction::SupContrastMeanAll { base_temperature } => {
            temperature / base_temperature / n as f64
        }
        _ => 1.0 / n_counted,
    };
    let weights: Vec<f64> = (0..n).map(|i| if counts(i) { share } else { 0.0 }).collect();
    let loss = weights.iter().zip(&losses).map(|(w, loss)| w * loss).sum();

    // d loss / d logit for every ordered pair, then the chain rule.
    let mut of_units = vec![0.0; n * dim];
    let mut temperature_gradient = match reduction {
        Reduction::SupContrastMeanAll { .. } => loss / temperature,
        _ => 0.0,
    };
    for i in (0..n).filter(|&i| weights[i] > 0.0) {
        for j in (0..n).filter(|&j| j != i) {
            let logit = cosine(i, j) / temperature;
            let positive = f64::from(u8::from(labels[i] == labels[j])) / n_positives[i] as f64;
            let slope = weights[i] * ((logit - log_sums[i]).exp() - positive);
            temperature_gradient -= slope * logit / temperature;
            for d in 0..dim {
                of_units[i * dim + d] += slope / temperature * units[j * dim + d];
                of_units[j * dim + d] += slope / temperature * units[i * dim + d];
            }
        }
    }
    let mut gradient = of_units.clone();
    for (i, row) in gradient.chunks_mut(dim).enumerate() {
        let along = if norms[i] >= 1e-12 { dot(row, unit(i)) } else { 0.0 };
        for (value, z) in row.iter_mut().zip(unit(i)) {
            *value = (*value - along * z) / norms[i].max(1e-12);
        }
    }
    Dense { loss, anchor_losses: losses, gradient, temperature_gradient }
}
