//! The passes of a linear layer on a GPU, and their values against those on the CPU.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::Result;

use crate::cuda::library::{Factor, Library, MatrixProduct};
use crate::cuda::{Gpu, Launch, Memory, Pointer};

/// Threads of a block, and columns that a block of [`sum_rows`] has.
const THREADS: usize = 256;
const COLUMNS: usize = 32;

/// Vectors before and behind the layer, and their lengths.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) in_dim: usize,
    pub(super) out_dim: usize,
}

/// The layer's inputs and weight, and its bias unless that is null.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    pub(super) input: Pointer<f32>,
    pub(super) weight: Pointer<f32>,
    pub(super) bias: Pointer<f32>,
}

fn factor(values: Pointer<f32>, is_transposed: bool) -> Factor<f32> {
    Factor { values, is_transposed }
}

impl Layer {
    /// `input * weight^T + bias`, of at least one row.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the sizes say.
    pub(super) unsafe fn forward<G: Library>(
        self,
        gpu: &G,
        Sizes { rows, in_dim, out_dim }: Sizes,
    ) -> Result<Memory<G, f32>> {
        let out = gpu.allocate::<f32>(rows * out_dim)?;
        let has_bias = self.bias.address() != Pointer::<f32>::NULL.address();
        if has_bias {
            let blocks = (rows * out_dim).div_ceil(THREADS) as u32;
            let launch = Launch::new("linear", "fill_rows", blocks, THREADS as u32);
            let n = (rows * out_dim) as u64;
            let to = out.pointer();
            let arguments = [self.bias.into(), to.into(), (out_dim as u32).into(), n.into()];
            // SAFETY: these are the kernel's parameters; the caller's promise covers their reach.
            unsafe { gpu.launch(&launch, &arguments)? };
        }
        let product = MatrixProduct {
            left: factor(self.input, false),
            right: factor(self.weight, true),
            out: out.pointer(),
            rows,
            cols: out_dim,
            depth: in_dim,
            adds: has_bias,
            rounds_factors: false,
        };
        // SAFETY: as above.
        unsafe { gpu.multiply(&product)? };
        Ok(out)
    }

    /// The gradient of the input.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the sizes say.
    pub(super) unsafe fn input_gradient<G: Library>(
        self,
        gpu: &G,
        Sizes { rows, in_dim, out_dim }: Sizes,
        gradient: Pointer<f32>,
    ) -> Result<Memory<G, f32>> {
        let out = gpu.allocate::<f32>(rows * in_dim)?;
        let product = MatrixProduct {
            left: factor(gradient, false),
            right: factor(self.weight, false),
            out: out.pointer(),
            rows,
            cols: in_dim,
            depth: out_dim,
            adds: false,
            rounds_factors: false,
        };
        // SAFETY: the caller's promise.
        unsafe { gpu.multiply(&product)? };
        Ok(out)
    }

    /// The gradient of the weight.
    ///
    /// # Safety
    ///
    /// The pointers must reach as far as the sizes say.
    pub(super) unsafe fn weight_gradient<G: Library>(
        self,
        gpu: &G,
        Sizes { rows, in_dim, out_dim }: Sizes,
        gradient: Pointer<f32>,
    ) -> Result<Memory<G, f32>> {
        let out = gpu.allocate::<f32>(out_dim * in_dim)?;
        let product = MatrixProduct {
            left: factor(gradient, true),
            right: factor(self.input, false),
            out: out.pointer(),
            rows: out_dim,
            cols: in_dim,
            depth: rows,
            adds: false,
            rounds_factors: false,
        };
        // SAFETY: the caller's promise.
        unsafe { gpu.multiply(&product)? };
        Ok(out)
    }
}

/// The gradient of the bias: the sum of all rows.
///
/// # Safety
///
/// There must be so many rows.
pub(super) unsafe fn sum_rows<G: Gpu>(
    gpu: &G,
    rows: usize,
    columns: usize,
    values: Pointer<f32>,
) -> Result<Memory<G, f32>> {
    let out = gpu.allocate::<f32>(columns)?;
    let blocks = columns.div_ceil(COLUMNS) as u32;
    let launch = Launch::new("linear", "sum_rows", blocks, THREADS as u32);
    let (rows, to) = (rows as u64, out.pointer());
    let arguments = [values.into(), to.into(), rows.into(), (columns as u32).into()];
    // SAFETY: as above.
    unsafe { gpu.launch(&launch, &arguments)? };
    Ok(out)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::{Layer, Sizes, sum_rows};
    use crate::checks::{assert_close, draw, gradient, values};
    use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
    use crate::cuda::{Gpu, Pointer};
    use crate::linear;

    /// Sums of some hundred f32 products, on both sides.
    const TOLERANCE: f64 = 2e-6;

    fn check(gpu: &EmulatedGpu, sizes: Sizes, has_bias: bool) {
        let Sizes { rows, in_dim, out_dim } = sizes;
        let drawn = [
            (draw(1, rows * in_dim), vec![rows, in_dim]),
            (draw(2, out_dim * in_dim), vec![out_dim, in_dim]),
            (draw(3, out_dim), vec![out_dim]),
            (draw(4, rows * out_dim), vec![rows, out_dim]),
        ];
        let on_gpu = drawn.each_ref().map(|(values, _)| gpu.upload(values).unwrap());
        let [input, weight, bias, above] = on_gpu.each_ref().map(|memory| memory.pointer());
        let bias = if has_bias { bias } else { Pointer::NULL };
        let layer = Layer { input, weight, bias };
        // SAFETY: everything was allocated for these sizes.
        let got = unsafe {
            [
                layer.forward(gpu, sizes).unwrap(),
                layer.input_gradient(gpu, sizes, above).unwrap(),
                layer.weight_gradient(gpu, sizes, above).unwrap(),
                sum_rows(gpu, rows, out_dim, above).unwrap(),
            ]
        };
        let [input, weight, bias, above] = drawn.map(|(values, shape)| {
            Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
        });
        let out = linear(&input, &weight, has_bias.then_some(bias.as_tensor())).unwrap();
        let loss = (&out * above.as_tensor()).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let mut expected = vec![values(&out).unwrap()];
        let parameters =
            if has_bias { vec![&input, &weight, &bias] } else { vec![&input, &weight] };
        expected.extend(parameters.into_iter().map(|of| gradient(&gradients, of).unwrap()));
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            let what = format!("{rows} x {in_dim} x {out_dim}, part {i}");
            assert_close(&what, &gpu.download(got), &expected, TOLERANCE);
        }
    }

    #[test]
    fn linear_kernels_are_the_layer_on_the_cpu() {
        with_emulated_gpu(|gpu| {
            for [rows, in_dim, out_dim] in [[1, 1, 1], [300, 16, 9], [7, 33, 70], [20, 5, 32]] {
                for has_bias in [false, true] {
                    check(gpu, Sizes { rows, in_dim, out_dim }, has_bias);
                }
            }
        });
    }
}
