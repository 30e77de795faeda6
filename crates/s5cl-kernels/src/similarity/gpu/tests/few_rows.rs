//! The kernel for few rows, run on the CPU, against the formula pair by pair in f64.

use super::{REDUCTIONS, Tolerance, expected, labels, whole};
use crate::checks::{assert_within, draw};
use crate::cuda::emulated::with_emulated_gpu;
use crate::cuda::{Gpu, Pointer};
use crate::similarity::Reduction;
use crate::similarity::SimilarityPrecision as Precision;
use crate::similarity::gpu::{Inputs, small};
use crate::similarity::op::Part;

#[test]
fn contrast_kernel_of_few_rows_is_the_formula() {
    with_emulated_gpu(|gpu| {
        let part =
            |rows, temperature, reduction| Part { rows, temperature, weight: 0.5, reduction };
        let mean = Reduction::MeanValid;
        for (n, dim, parts) in [
            (1, 1, vec![part(0..1, 0.2, mean)]),
            (2, 3, vec![part(0..0, 0.2, mean), part(0..2, 0.2, mean)]),
            (128, 50, vec![part(0..65, 0.05, REDUCTIONS[1]), part(65..128, 0.3, REDUCTIONS[2])]),
            // S5CL's own batch, and rows that belong to nothing.
            (325, 64, vec![part(0..64, 0.2, mean), part(69..325, 0.7, mean)]),
        ] {
            let (values, labels) = (draw(7, n * dim), labels(n, 5));
            let (rows, on_device) = (gpu.upload(&values).unwrap(), gpu.upload(&labels).unwrap());
            let (rows, of_labels) = (rows.pointer(), on_device.pointer());
            let inputs = Inputs { rows, labels: of_labels, temperatures: None, n, dim };
            assert!(small::fits(&inputs, &parts));
            let found = small::contrast(gpu, inputs, &parts, true).unwrap();
            let (mut loss, mut of_rows) = (0.0, vec![0.0; n * dim]);
            for part in parts.iter().filter(|part| !part.rows.is_empty()) {
                let of_part = part.rows.start * dim..part.rows.end * dim;
                let labels = &labels[part.rows.clone()];
                let dense = expected(&values[of_part.clone()], dim, labels, part);
                loss += part.weight * dense.loss;
                for (sum, value) in of_rows[of_part].iter_mut().zip(dense.gradient) {
                    *sum += part.weight * value;
                }
            }
            let tolerance = Tolerance::of(Precision::Exact);
            let most = tolerance.loss * f64::max(loss, 1.0);
            assert_within("loss", &gpu.download(&found.loss), &[loss], most);
            let largest = of_rows.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
            let gradient = gpu.download(&found.gradient.unwrap());
            assert_within("gradient", &gradient, &of_rows, tolerance.gradient * largest);
        }
    });
}

#[test]
fn contrast_kernel_of_few_rows_does_not_hide_what_is_no_number() {
    with_emulated_gpu(|gpu| {
        let mut values = draw(8, 40);
        values[7] = f32::INFINITY;
        let (rows, labels) = (gpu.upload(&values).unwrap(), gpu.upload(&labels(10, 3)).unwrap());
        let (rows, labels) = (rows.pointer(), labels.pointer());
        let inputs = Inputs { rows, labels, temperatures: None, n: 10, dim: 4 };
        let part = whole(10, 0.2, Reduction::MeanValid);
        let found = small::contrast(gpu, inputs, &[part], true).unwrap();
        assert!(gpu.download(&found.loss)[0].is_nan());
        assert!(gpu.download(&found.gradient.unwrap()).iter().all(|value| value.is_nan()));
    });
}

#[test]
fn contrast_kernel_of_few_rows_refuses_more_and_small_temperatures() {
    let inputs =
        |n, dim| Inputs { rows: Pointer::NULL, labels: Pointer::NULL, temperatures: None, n, dim };
    let fits = |n, dim, temperature| {
        small::fits(&inputs(n, dim), &[whole(n, temperature, Reduction::MeanValid)])
    };
    assert!(fits(256, 64, 0.1) && fits(3, 1, 0.1));
    assert!(!fits(257, 64, 0.1) && !fits(8, 65, 0.1));
    assert!(!fits(8, 8, 0.01) && !fits(0, 8, 0.1));
}
