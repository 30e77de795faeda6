//! The kernels, run on the CPU, against the formula pair by pair in f64.

use std::cell::RefCell;

use super::launch::{Cross, Given, Inputs, Temperatures};
use crate::checks::assert_within;
use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
use crate::cuda::{Gpu, Memory, Plain, Pointer};
use crate::similarity::gpu::split_rows::Rows;
use crate::similarity::tests::cross::Problem;

/// Products of 22 bits, and exponents with a rounding of about 1e-7, magnified by a temperature down
/// to 0.05: that of the operation on the CPU.
const TOLERANCE: f64 = 1e-5;

/// Loss, gradient of the queries, gradient of the keys.
fn run(gpu: &EmulatedGpu, problem: &Problem, is_soft: bool, is_plain: bool) -> [Vec<f32>; 3] {
    fn up<T: Plain>(gpu: &EmulatedGpu, values: &[T], is_wanted: bool) -> Memory<EmulatedGpu, T> {
        gpu.upload(if is_wanted { values } else { &[] }).unwrap()
    }
    fn at<T>(memory: &Memory<EmulatedGpu, T>) -> Pointer<T> {
        if memory.len() == 0 { Pointer::NULL } else { memory.pointer() }
    }
    let queries = (up(gpu, &problem.queries, true), up(gpu, &problem.query_labels, !is_soft));
    let keys = (up(gpu, &problem.keys, true), up(gpu, &problem.key_labels, !is_soft));
    let shares = [&problem.query_shares, &problem.key_shares].map(|s| up(gpu, s, is_soft));
    let weights = [&problem.query_weights, &problem.key_weights].map(|w| up(gpu, w, !is_plain));
    let excluded = up(gpu, &problem.excluded, !is_plain);
    let each = up(gpu, &problem.temperatures, true);
    let given = |(rows, labels): &(Memory<_, f32>, Memory<_, u32>), side: usize| Given {
        rows: Rows { values: rows.pointer(), n: rows.len() / problem.dim },
        labels: at(labels),
        shares: at(&shares[side]),
        weights: at(&weights[side]),
    };
    let inputs = Inputs {
        queries: given(&queries, 0),
        keys: given(&keys, 1),
        temperatures: match *problem.temperatures {
            [one, ref rest @ ..] if rest.iter().all(|t| *t == one) => Temperatures::One(one),
            _ => Temperatures::Each(each.pointer()),
        },
        excluded: at(&excluded),
        n_classes: if is_soft { problem.n_classes } else { 0 },
        dim: problem.dim,
    };
    let (cross, loss) = Cross::forward(gpu, inputs).unwrap();
    // The factor stands for what comes behind the loss.
    let from_above = gpu.upload(&[2.0_f32]).unwrap();
    let gradient = |is_of_keys| -> Vec<f32> {
        let gradient = cross.backward(gpu, is_of_keys, from_above.pointer()).unwrap();
        gpu.download(&gradient).into_iter().map(|g| g / 2.0).collect()
    };
    [gpu.download(&loss), gradient(false), gradient(true)]
}

fn check_one(gpu: &EmulatedGpu, problem: &Problem, is_soft: bool, is_plain: bool) {
    let found = run(gpu, problem, is_soft, is_plain);
    for (part, (found, expected)) in found.iter().zip(problem.dense(is_soft, is_plain)).enumerate()
    {
        // Where pulls cancel, what is left is a rounding of the pulls.
        let largest = expected.iter().fold(0.1, |max: f64, value| max.max(value.abs()));
        let sizes = (problem.query_labels.len(), problem.key_labels.len(), problem.dim);
        let what = format!("{sizes:?}, soft {is_soft}, plain {is_plain}, part {part}");
        assert_within(&what, found, &expected, TOLERANCE * largest);
    }
}

fn check(gpu: &EmulatedGpu, problem: &Problem) {
    for (is_soft, is_plain) in [(false, false), (true, false), (false, true), (true, true)] {
        check_one(gpu, problem, is_soft, is_plain);
    }
}

#[test]
fn cross_kernels_are_the_formula_at_every_size() {
    with_emulated_gpu(|gpu| {
        for (n, n_keys, dim) in [(1, 1, 1), (3, 40, 5), (65, 33, 16), (40, 150, 63), (9, 5, 200)] {
            check(gpu, &Problem::draw(n, n_keys, dim));
        }
        // More than a tile of both, and more than a block's part of the keys.
        check(gpu, &Problem::draw(130, 1100, 8));
        // Parts of the queries, and more classes than are in shared memory at a time.
        check_one(gpu, &Problem::draw_with_classes(300, 20, 4, 70), true, false);
    });
}

#[test]
fn cross_kernels_give_the_same_bits_in_any_order_of_threads() {
    let expected = RefCell::new(None);
    with_emulated_gpu(|gpu| {
        let found = run(gpu, &Problem::draw(70, 600, 10), true, false);
        let bits = found.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>());
        let mut expected = expected.borrow_mut();
        assert!(bits == *expected.get_or_insert_with(|| bits.clone()));
    });
}

#[test]
fn cross_kernels_take_rows_of_any_length() {
    with_emulated_gpu(|gpu| {
        // Lengths of queries and keys between 1e-6 and 1e6, with products of about 1.
        let drawn = Problem::draw(20, 90, 12);
        let scale = |row: usize| 10_f32.powi(row as i32 % 13 - 6);
        let scaled = |values: &[f32], row_of: fn(usize) -> usize| -> Vec<f32> {
            let rows = values.chunks(12).enumerate();
            rows.flat_map(|(i, row)| row.iter().map(move |x| x * scale(row_of(i)))).collect()
        };
        // Each query meets keys of one length by its temperature, and all others as long.
        let queries = Problem {
            queries: scaled(&drawn.queries, |i| i),
            temperatures: (0..20).map(|i| f64::from(scale(i))).collect(),
            ..drawn.clone()
        };
        check(gpu, &queries);
        let keys =
            Problem { keys: scaled(&drawn.keys, |j| j), temperatures: vec![1e6; 20], ..drawn };
        check(gpu, &keys);
        // The first query sees its positive 6000 below the other key, the second sees only its own.
        let long = Problem {
            queries: vec![300.0, 0.0, 0.0, 200.0],
            keys: vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0],
            temperatures: vec![0.1; 2],
            query_labels: vec![2, 1],
            key_labels: vec![0, 1, 2],
            ..Problem::draw(2, 3, 2)
        };
        let [loss, ..] = run(gpu, &long, false, true);
        assert!((loss[0] - 3000.0).abs() < 0.01, "{loss:?}");
    });
}

#[test]
fn cross_kernels_give_a_query_without_positives_no_loss_at_small_temperatures() {
    with_emulated_gpu(|gpu| {
        // The first query has no positive, and its exponents are where powers are beyond f32.
        for temperature in [0.01, 0.005, 0.003] {
            let problem = Problem {
                queries: vec![1.0, 0.0, 0.0, 1.0],
                keys: vec![0.89, 0.456, 0.0, 1.0],
                temperatures: vec![temperature; 2],
                query_labels: vec![7, 1],
                key_labels: vec![0, 1],
                ..Problem::draw(2, 2, 2)
            };
            check_one(gpu, &problem, false, false);
            check_one(gpu, &problem, false, true);
        }
        // No positive anywhere, no valid key, and no key at all.
        let drawn = Problem::draw(5, 9, 4);
        let others = Problem { key_labels: vec![9; 9], ..drawn.clone() };
        let invalid = Problem { key_weights: vec![0.0; 9], ..drawn.clone() };
        let none = Problem { keys: vec![], key_labels: vec![], key_weights: vec![], ..drawn };
        for problem in [others, invalid, none] {
            let values = run(gpu, &problem, false, false).concat();
            assert!(values.iter().all(|value| *value == 0.0), "{values:?}");
        }
    });
}

#[test]
fn cross_kernels_see_classes_that_are_unlikely_everywhere() {
    with_emulated_gpu(|gpu| {
        // Every affinity of a query is as small as its share of its class among the keys.
        let drawn = Problem::draw(4, 30, 6);
        let shares = |n: usize, small: f32| -> Vec<f32> {
            (0..n).flat_map(|i| [if i % 2 == 0 { 1.0 } else { small }, small, 0.0]).collect()
        };
        let problem = Problem {
            query_shares: [0.0, 1.0, 0.0].repeat(4),
            key_shares: shares(30, 1e-20),
            ..drawn
        };
        check_one(gpu, &problem, true, false);
    });
}

#[test]
fn cross_kernels_do_not_hide_what_is_not_allowed() {
    with_emulated_gpu(|gpu| {
        let drawn = Problem::draw(5, 9, 4);
        for value in [f32::NAN, f32::INFINITY] {
            let mut problems = vec![drawn.clone(); 4];
            problems[0].queries[7] = value;
            problems[1].keys[3] = value;
            problems[2].key_weights[4] = -value;
            problems[3].key_shares[2] = -value;
            for (i, problem) in problems.iter().enumerate() {
                let values = run(gpu, problem, true, false).concat();
                assert!(values.iter().all(|value| value.is_nan()), "{i}: {values:?}");
            }
        }
    });
}
