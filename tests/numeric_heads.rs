//! Average pooling, linear layers and cross entropy against plain f64 formulas, and their
//! gradients against central differences of these.

use candle_core::{Device, Tensor};
use s5cl_kernels::{CrossEntropyConfig, cross_entropy, global_average_pool, linear};

use crate::golden_files::TestResult;
use crate::numeric_gradients::{check, draw};

#[test]
fn global_average_pool_is_its_formula() -> TestResult {
    for shape in [[2, 3, 5, 7], [1, 4, 1, 3], [3, 1, 1, 2], [1, 7, 6, 33]] {
        let [batch, height, width, channels] = shape;
        let pixels = height * width;
        let formula = |maps: &[f64]| -> Vec<f64> {
            let mut means = vec![0.0; batch * channels];
            for (i, value) in maps.iter().enumerate() {
                let image = i / (pixels * channels);
                means[image * channels + i % channels] += value / pixels as f64;
            }
            means
        };
        check(
            &format!("maps {shape:?}"),
            &[(shape.to_vec(), draw("maps", shape.iter().product()))],
            |plain| formula(&plain[0]),
            |variables| global_average_pool(&variables[0]),
        )?;
    }
    Ok(())
}

#[test]
fn linear_is_its_formula() -> TestResult {
    for (rows, in_dim, out_dim, has_bias) in [
        (vec![5], 7, 3, true),
        (vec![1], 9, 1, true),
        (vec![], 4, 5, true),
        (vec![2, 3], 6, 5, false),
        // Three parts, the last one not full.
        (vec![131], 5, 2, true),
    ] {
        let shape = [rows.as_slice(), &[in_dim]].concat();
        let mut inputs = vec![
            (shape.clone(), draw("input", shape.iter().product())),
            (vec![out_dim, in_dim], draw("weight", out_dim * in_dim)),
        ];
        if has_bias {
            inputs.push((vec![out_dim], draw("bias", out_dim)));
        }
        check(
            &format!("input {shape:?}, {out_dim} outputs, bias {has_bias}"),
            &inputs,
            |plain| {
                let mut out = Vec::new();
                for row in plain[0].chunks(in_dim) {
                    for (o, weight) in plain[1].chunks(in_dim).enumerate() {
                        let product: f64 = row.iter().zip(weight).map(|(x, w)| x * w).sum();
                        out.push(product + plain.get(2).map_or(0.0, |bias| bias[o]));
                    }
                }
                out
            },
            |variables| {
                linear(&variables[0], &variables[1], variables.get(2).map(|v| v.as_tensor()))
            },
        )?;
    }
    Ok(())
}

#[test]
fn cross_entropy_is_its_formula() -> TestResult {
    for (n, classes, label_smoothing) in
        [(5, 3, 0.0), (1, 7, 0.0), (4, 2, 0.1), (3, 1, 0.3), (6, 9, 1.0)]
    {
        let labels: Vec<u32> = (0..n).map(|i| (3 * i + 1) as u32 % classes as u32).collect();
        let label_tensor = Tensor::new(labels.as_slice(), &Device::Cpu)?;
        let formula = |logits: &[f64]| -> f64 {
            let rows = logits.chunks(classes).zip(&labels).map(|(row, &label)| {
                let sum: f64 = row.iter().map(|logit| logit.exp()).sum();
                let of_class = |(k, logit): (usize, &f64)| {
                    let hot = if k == label as usize { 1.0 - label_smoothing } else { 0.0 };
                    -(hot + label_smoothing / classes as f64) * (logit.exp() / sum).ln()
                };
                row.iter().enumerate().map(of_class).sum::<f64>()
            });
            rows.sum::<f64>() / n as f64
        };
        check(
            &format!("{n} rows, {classes} classes, smoothing {label_smoothing}"),
            &[(vec![n, classes], draw("logits", n * classes))],
            |plain| vec![formula(&plain[0])],
            |variables| {
                let config = CrossEntropyConfig { label_smoothing };
                cross_entropy(&variables[0], &label_tensor, config)
            },
        )?;
    }
    Ok(())
}
