//! The libraries' stand-ins against the definition: what the network's tests rest on.
#![expect(unsafe_code, reason = "operands are raw pointers")]

use half::bf16;

use super::{Convolution, Factor, Library, MatrixProduct, Operands, Pass};
use crate::Conv2dConfig;
use crate::checks::{assert_close, draw};
use crate::conv2d::geometry::Geometry;
use crate::cuda::Gpu;
use crate::cuda::emulated::with_emulated_gpu;

/// Sums of some dozen products in f32, against the largest.
const TOLERANCE: f64 = 1e-6;

#[test]
fn convolution_of_the_emulated_gpu_is_the_definition() {
    with_emulated_gpu(|gpu| {
        let config = Conv2dConfig { stride: 2, padding: 1, dilation: 1, groups: 2 };
        let geometry = Geometry::new(&[2, 5, 4, 6], &[4, 3, 3, 2], config).unwrap();
        let (inputs, outputs) = (2 * geometry.input.len(), 2 * geometry.output.len());
        // What every type has, so that only sums are rounded.
        let stored =
            |seed, n| -> Vec<bf16> { draw(seed, n).into_iter().map(bf16::from_f32).collect() };
        let values = [stored(1, inputs), stored(2, 4 * 3 * 3 * 2), stored(3, outputs)];
        let wide = |values: &[bf16]| values.iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
        let [maps, weight, gradient] = values.each_ref().map(|values| wide(values));
        let mut expected = values.each_ref().map(|values| wide(values));
        // By output, tap and input, the weight's order here.
        let out = geometry.output;
        for at in 0..outputs {
            let (pixel, o) = (at / out.channels, at % out.channels);
            let (row, x) = (pixel / out.width, pixel % out.width);
            let (n, y) = (row / out.height, row % out.height);
            for (u, v, c) in (0..18).map(|i| (i / 6, i / 3 % 2, i % 3)) {
                let (Some(from_y), Some(from_x)) =
                    ((2 * y + u).checked_sub(1), (2 * x + v).checked_sub(1))
                else {
                    continue;
                };
                if from_y >= 5 || from_x >= 4 {
                    continue;
                }
                let m = ((n * 5 + from_y) * 4 + from_x) * 6 + o / 2 * 3 + c;
                let w = ((o * 3 + u) * 2 + v) * 3 + c;
                expected[0][m] += gradient[at] * weight[w];
                expected[1][w] += gradient[at] * maps[m];
                expected[2][at] += maps[m] * weight[w];
            }
        }
        let passes = [Pass::InputGradient, Pass::WeightGradient, Pass::Forward];
        for (i, pass) in passes.into_iter().enumerate() {
            let memory = values.each_ref().map(|values| {
                let values: Vec<f32> = values.iter().map(|v| v.to_f32()).collect();
                gpu.upload(&values).unwrap()
            });
            let [maps, weight, output] = memory.each_ref().map(|memory| memory.pointer());
            let convolution = Convolution { geometry, pass, adds: true, rounds_factors: false };
            // SAFETY: the operands are as large as the geometry says.
            unsafe { gpu.convolve(&convolution, Operands { maps, weight, output }) }.unwrap();
            assert_close(&format!("{pass:?}"), &gpu.download(&memory[i]), &expected[i], TOLERANCE);
        }
    });
}

#[test]
fn product_of_the_emulated_gpu_is_the_definition() {
    with_emulated_gpu(|gpu| {
        let (rows, cols, depth) = (3, 5, 4);
        let (a, b) = (draw(1, rows * depth), draw(2, depth * cols));
        for transposed in [[false, false], [true, false], [false, true], [true, true]] {
            let at =
                |i: usize, k: usize| a[if transposed[0] { k * rows + i } else { i * depth + k }];
            let bt =
                |k: usize, j: usize| b[if transposed[1] { j * depth + k } else { k * cols + j }];
            let expected: Vec<f64> = (0..rows * cols)
                .map(|i| {
                    let terms =
                        (0..depth).map(|k| f64::from(at(i / cols, k)) * f64::from(bt(k, i % cols)));
                    1.0 + terms.sum::<f64>()
                })
                .collect();
            let factors = [&a, &b].map(|values| gpu.upload(values).unwrap());
            let out = gpu.upload(&vec![1.0_f32; rows * cols]).unwrap();
            let [left, right] = [0, 1]
                .map(|i| Factor { values: factors[i].pointer(), is_transposed: transposed[i] });
            let out_pointer = out.pointer();
            let product = MatrixProduct {
                left,
                right,
                out: out_pointer,
                rows,
                cols,
                depth,
                adds: true,
                rounds_factors: false,
            };
            // SAFETY: the operands are as large as the sizes say.
            unsafe { gpu.multiply(&product) }.unwrap();
            assert_close(&format!("{transposed:?}"), &gpu.download(&out), &expected, TOLERANCE);
        }
    });
}
