//! The kernels, run on the CPU, against the formula pair by pair in f64.

mod few_rows;

use std::cell::RefCell;

use candle_core::{Device, Tensor, Var};

use super::problem::{MOST_BLOCKS, TILE};
use super::{Contrast, Inputs};
use crate::checks::{assert_within, draw, gradient};
use crate::cuda::Gpu;
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu, with_emulated_gpus};
use crate::similarity::SimilarityPrecision as Precision;
use crate::similarity::op::Part;
use crate::similarity::tests::dense::{Dense, dense};
use crate::similarity::{Reduction, sup_con};

const REDUCTIONS: [Reduction; 3] = [
    Reduction::MeanValid,
    Reduction::PmlAvgNonZero,
    Reduction::SupContrastMeanAll { base_temperature: 0.07 },
];

/// What the kernels give.
struct Found {
    loss: f32,
    anchor_losses: Vec<f32>,
    gradient: Vec<f32>,
    temperatures: Vec<f32>,
}

fn run(
    gpu: &EmulatedGpu,
    values: &[f32],
    dim: usize,
    labels: &[u32],
    parts: &[Part],
    precision: Precision,
) -> Found {
    let (rows, on_device) = (gpu.upload(values).unwrap(), gpu.upload(labels).unwrap());
    let n = labels.len();
    let inputs =
        Inputs { rows: rows.pointer(), labels: on_device.pointer(), temperatures: None, n, dim };
    let mut anchor_losses = gpu.allocate::<f32>(n).unwrap();
    gpu.clear(&mut anchor_losses).unwrap();
    let place = Some(anchor_losses.pointer());
    let (contrast, loss) = Contrast::forward(gpu, inputs, parts, precision, place).unwrap();
    let one = gpu.upload(&[1.0_f32]).unwrap();
    let gradients = contrast.backward(gpu, one.pointer(), true).unwrap();
    Found {
        loss: gpu.download(&loss)[0],
        anchor_losses: gpu.download(&anchor_losses),
        gradient: gpu.download(&gradients.rows),
        temperatures: gpu.download(&gradients.temperatures.unwrap()),
    }
}

fn whole(n: usize, temperature: f64, reduction: Reduction) -> Part {
    Part { rows: 0..n, temperature, weight: 1.0, reduction }
}

fn expected(values: &[f32], dim: usize, labels: &[u32], part: &Part) -> Dense {
    let wide: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
    dense(&wide, dim, labels, part.temperature, part.reduction)
}

/// Errors relative to the largest value, or to 1 for losses.
#[derive(Clone, Copy)]
struct Tolerance {
    loss: f64,
    /// Of the loss of one anchor, where the errors of others are no help.
    anchor: f64,
    /// Pulls and pushes of up to `1 / t` cancel in it.
    gradient: f64,
}

impl Tolerance {
    /// What rounding to so many bits does to rows that are spread out, at a temperature of 0.07 and
    /// above.
    fn of(precision: Precision) -> Self {
        match precision {
            // 11 bits of each number.
            Precision::Fast => Self { loss: 1e-4, anchor: 1e-3, gradient: 5e-3 },
            // 11 bits of negatives and weights alone.
            Precision::Mixed => Self { loss: 1e-5, anchor: 2e-4, gradient: 2e-3 },
            Precision::Exact => Self { loss: 2e-6, anchor: 4e-6, gradient: 2e-5 },
        }
    }
}

/// Compares with the formula.
fn check(
    gpu: &EmulatedGpu,
    (values, dim, labels): (&[f32], usize, &[u32]),
    part: Part,
    precision: Precision,
    tolerance: Tolerance,
) {
    let what = format!("{} x {dim}, {part:?}, {precision:?}", labels.len());
    let expected = expected(values, dim, labels, &part);
    let found = run(gpu, values, dim, labels, &[part], precision);
    let most = tolerance.loss * expected.loss.abs().max(1.0);
    assert_within(&format!("{what}: loss"), &[found.loss], &[expected.loss], most);
    let largest = expected.anchor_losses.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
    let most = tolerance.anchor * largest;
    assert_within(&what, &found.anchor_losses, &expected.anchor_losses, most);
    let largest = expected.gradient.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
    assert_within(&what, &found.gradient, &expected.gradient, tolerance.gradient * largest);
    let slope = expected.temperature_gradient;
    let most = tolerance.gradient * slope.abs().max(1.0) * 2.0;
    assert_within(&format!("{what}: dL/dt"), &found.temperatures, &[slope], most);
}

fn labels(n: usize, n_classes: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7 % n_classes * 3) as u32).collect()
}

#[test]
fn contrast_kernels_are_the_formula_at_every_size() {
    with_emulated_gpu(|gpu| {
        for (n, dim) in [
            (1, 1),
            (2, 16),
            (3, 63),
            (63, 64),
            (64, 65),
            (65, 200),
            (127, 64),
            (128, 128),
            (129, 16),
            (300, 256),
            (1000, 8),
        ] {
            let (values, labels) = (draw(1, n * dim), labels(n, n.div_ceil(5).min(9)));
            let part = whole(n, 0.2, Reduction::MeanValid);
            let problem = (&values[..], dim, &labels[..]);
            check(gpu, problem, part, Precision::Mixed, Tolerance::of(Precision::Mixed));
        }
    });
}

#[test]
fn contrast_kernels_keep_their_precision() {
    with_emulated_gpu(|gpu| {
        let (n, dim) = (200, 64);
        let (values, labels) = (draw(2, n * dim), labels(n, 9));
        for precision in [Precision::Fast, Precision::Mixed, Precision::Exact] {
            for temperature in [0.07, 0.5] {
                let part = whole(n, temperature, Reduction::MeanValid);
                let problem = (&values[..], dim, &labels[..]);
                check(gpu, problem, part, precision, Tolerance::of(precision));
            }
        }
    });
}

#[test]
fn contrast_kernels_know_every_reduction_and_temperature() {
    with_emulated_gpu(|gpu| {
        let (n, dim) = (90, 16);
        let (values, labels) = (draw(3, n * dim), labels(n, 4));
        for reduction in REDUCTIONS {
            for temperature in [0.005, 0.0228, 0.023, 0.1, 1.0] {
                let part = whole(n, temperature, reduction);
                let problem = (&values[..], dim, &labels[..]);
                // Exponents are rounded relative to their size, which is that of 1 / t.
                let rounding = 2e-6_f64.max(2e-8 / temperature);
                let tolerance =
                    Tolerance { loss: rounding, anchor: 2.0 * rounding, gradient: 10.0 * rounding };
                check(gpu, problem, part, Precision::Exact, tolerance);
            }
        }
    });
}

#[test]
fn contrast_kernels_cut_large_problems_into_blocks() {
    with_emulated_gpu(|gpu| {
        // More tiles than blocks, so that a block has several; classes over several tiles, and
        // one that ends with a tile.
        let (n, dim) = (MOST_BLOCKS * TILE + 77, 16);
        let values = draw(4, n * dim);
        let labels: Vec<u32> =
            (0..n).map(|i| if i < 2 * TILE { 0 } else { 1 + i as u32 % 3 }).collect();
        let found = run(
            gpu,
            &values,
            dim,
            &labels,
            &[whole(n, 0.3, Reduction::MeanValid)],
            Precision::Mixed,
        );
        let embeddings = Var::from_slice(&values, (n, dim), &Device::Cpu).unwrap();
        let labels = Tensor::new(labels, &Device::Cpu).unwrap();
        let loss = sup_con(&embeddings, &labels, 0.3, Reduction::MeanValid).unwrap();
        let expected = gradient(&loss.backward().unwrap(), &embeddings).unwrap();
        let loss = f64::from(loss.to_scalar::<f32>().unwrap());
        let tolerance = Tolerance::of(Precision::Mixed);
        assert_within("loss", &[found.loss], &[loss], tolerance.loss * loss);
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        assert_within("gradient", &found.gradient, &expected, tolerance.gradient * largest);
    });
}

#[test]
fn contrast_kernels_give_the_weighted_sum_of_segments_and_nothing_to_other_rows() {
    with_emulated_gpu(|gpu| {
        let (n, dim) = (330, 6);
        let (values, labels) = (draw(5, n * dim), labels(n, 4));
        let part = |rows, temperature, weight| Part {
            rows,
            temperature,
            weight,
            reduction: Reduction::MeanValid,
        };
        let parts = [part(170..300, 0.2, 0.5), part(0..40, 0.01, 2.0), part(310..310, 0.2, 1.0)];
        let found = run(gpu, &values, dim, &labels, &parts, Precision::Exact);
        let (mut loss, mut of_rows) = (0.0, vec![0.0; n * dim]);
        for (index, part) in parts.iter().take(2).enumerate() {
            let rows = part.rows.clone();
            let of_part = rows.start * dim..rows.end * dim;
            let dense = expected(&values[of_part.clone()], dim, &labels[rows], part);
            loss += part.weight * dense.loss;
            for (sum, value) in of_rows[of_part].iter_mut().zip(dense.gradient) {
                *sum += part.weight * value;
            }
            let slope = part.weight * dense.temperature_gradient;
            assert_within(
                "dL/dt",
                &found.temperatures[index..=index],
                &[slope],
                1e-4 * slope.abs(),
            );
        }
        assert_within("loss", &[found.loss], &[loss], 1e-5 * loss);
        let largest = of_rows.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        assert_within("gradient", &found.gradient, &of_rows, 1e-4 * largest);
        assert!(found.gradient[40 * dim..170 * dim].iter().all(|value| *value == 0.0));
        assert_eq!(found.temperatures[2], 0.0);
    });
}

#[test]
fn contrast_kernels_agree_on_batches_at_the_edge() {
    with_emulated_gpu(|gpu| {
        let run = |values: &[f32], dim, labels: &[u32], temperature, reduction| {
            let part = whole(labels.len(), temperature, reduction);
            run(gpu, values, dim, labels, &[part], Precision::Mixed)
        };
        for temperature in [0.01, 0.2] {
            for reduction in REDUCTIONS {
                // No positives: no loss, no gradient.
                let found = run(&draw(1, 21), 3, &[0, 1, 2, 3, 4, 5, 6], temperature, reduction);
                assert_eq!((found.loss, found.temperatures[0]), (0.0, 0.0), "{reduction:?}");
                assert!(found.gradient.iter().all(|value| *value == 0.0));
            }
            // All rows the same: the loss is the logarithm of the others.
            let found =
                run(&[0.3, -0.4, 1.2].repeat(150), 3, &labels(150, 10), temperature, REDUCTIONS[0]);
            // Equal rows are not quite so in 11 bits.
            let error = (f64::from(found.loss) - 149_f64.ln()).abs();
            assert!(error < 5e-5 / temperature, "{error}");
            // What is not finite makes everything so.
            for value in [f32::NAN, f32::INFINITY] {
                let mut values = draw(1, 12);
                values[5] = value;
                let found = run(&values, 3, &[0, 1, 0, 1], temperature, REDUCTIONS[0]);
                assert!(found.loss.is_nan() && found.temperatures[0].is_nan());
                assert!(found.gradient.iter().all(|value| value.is_nan()));
            }
        }
        // One class: pytorch-metric-learning alone sees no loss there.
        let losses = REDUCTIONS.map(|reduction| run(&draw(1, 20), 4, &[3; 5], 0.2, reduction).loss);
        assert!(losses[0] > 0.1 && losses[1] == 0.0 && losses[2] > 0.1, "{losses:?}");
        // A row of zeros is beside all others.
        let values = [0.0, 0.0, 1.0, 0.0, 0.6, 0.8];
        let tolerance = Tolerance::of(Precision::Mixed);
        check(
            gpu,
            (&values, 2, &[0, 0, 0]),
            whole(3, 0.5, REDUCTIONS[0]),
            Precision::Mixed,
            tolerance,
        );
    });
}

#[test]
fn contrast_kernels_do_not_depend_on_the_order_of_threads() {
    let (n, dim) = (390, 70);
    let (values, labels) = (draw(6, n * dim), labels(n, 5));
    for is_hopper in [false, true] {
        let first = RefCell::new(None);
        with_emulated_gpus(&[[false, is_hopper], [true, is_hopper]], |gpu| {
            let part = whole(n, 0.1, Reduction::MeanValid);
            let Found { loss, gradient, .. } =
                run(gpu, &values, dim, &labels, &[part], Precision::Mixed);
            let bits: Vec<u32> = gradient.into_iter().chain([loss]).map(f32::to_bits).collect();
            let mut first = first.borrow_mut();
            assert!(first.get_or_insert_with(|| bits.clone()) == &bits, "Hopper: {is_hopper}");
        });
    }
}
