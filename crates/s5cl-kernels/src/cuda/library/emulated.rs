//! The libraries' work on the CPU, by this crate's own convolution.
#![expect(unsafe_code, reason = "operands are raw pointers")]

use candle_core::Result;

use super::{Convolution, Factor, Finish as Finishing, Library, MatrixProduct, Operands, Pass};
use crate::batch_norm::affine::Affine;
use crate::conv2d;
use crate::cuda::Pointer;
use crate::cuda::emulated::EmulatedGpu;
use crate::cuda::stored::Stored;
use crate::product::{Finish, Start};

impl EmulatedGpu {
    /// # Safety
    ///
    /// There must be so many values.
    unsafe fn wide<T: Stored>(&self, at: Pointer<T>, len: usize) -> Vec<f32> {
        // SAFETY: the caller's promise.
        unsafe { self.values(at, len) }.iter().map(|value| value.to_f32()).collect()
    }

    /// # Safety
    ///
    /// There must be so many values.
    unsafe fn write<T: Stored>(&self, at: Pointer<T>, values: &[f32], adds: bool) {
        // SAFETY: the caller's promise.
        let out = unsafe { self.values(at, values.len()) };
        for (out, &value) in out.iter_mut().zip(values) {
            *out = T::nearest(if adds { out.to_f32() + value } else { value });
        }
    }
}

impl EmulatedGpu {
    /// # Safety
    ///
    /// The operands must reach as far as the sizes say.
    unsafe fn product<T: Stored>(&self, product: &MatrixProduct<T>) -> Vec<f32> {
        let MatrixProduct { left, right, rows, cols, depth, .. } = *product;
        // SAFETY: the caller's promise.
        let [a, b] = [(left, rows), (right, cols)]
            .map(|(factor, len)| unsafe { self.wide(factor.values, len * depth) });
        let at = |factor: Factor<T>, row: usize, col: usize, [rows, cols]: [usize; 2]| {
            if factor.is_transposed { col * rows + row } else { row * cols + col }
        };
        let mut sums = vec![0.0; rows * cols];
        for (i, sum) in sums.iter_mut().enumerate() {
            for k in 0..depth {
                let a = a[at(left, i / cols, k, [rows, depth])];
                *sum += a * b[at(right, k, i % cols, [depth, cols])];
            }
        }
        sums
    }
}

/// From `[outputs, taps, inputs]` to `[outputs, inputs, taps]`, or back with taps and inputs
/// exchanged.
fn turned(weight: &[f32], taps: usize, inputs: usize) -> Vec<f32> {
    let of_output = weight.chunks_exact(taps * inputs);
    let turned = of_output
        .flat_map(|w| (0..inputs).flat_map(move |i| (0..taps).map(move |tap| w[tap * inputs + i])));
    turned.collect()
}

impl Library for EmulatedGpu {
    unsafe fn convolve<T: Stored>(
        &self,
        convolution: &Convolution,
        Operands { maps, weight, output }: Operands<T>,
    ) -> Result<()> {
        let Convolution { geometry, pass, adds, .. } = convolution;
        let (taps, inputs) = (geometry.taps(), geometry.group_inputs());
        let n_maps = geometry.batch * geometry.input.len();
        let n_output = geometry.batch * geometry.output.len();
        let n_weight = geometry.output.channels * taps * inputs;
        // SAFETY: the caller's promise.
        unsafe {
            match pass {
                Pass::Forward => {
                    let weight = turned(&self.wide(weight, n_weight), taps, inputs);
                    let mut out = vec![0.0; n_output];
                    let maps = self.wide(maps, n_maps);
                    conv2d::forward(geometry, &maps, &weight, &mut out, Finish::OVERWRITE);
                    self.write(output, &out, *adds);
                }
                Pass::InputGradient => {
                    let weight = turned(&self.wide(weight, n_weight), taps, inputs);
                    let mut out = vec![0.0; n_maps];
                    let gradient = self.wide(output, n_output);
                    conv2d::input_gradient(
                        geometry,
                        &weight,
                        &gradient,
                        &mut out,
                        Finish::OVERWRITE,
                    );
                    self.write(maps, &out, *adds);
                }
                Pass::WeightGradient => {
                    let (maps, gradient) = (self.wide(maps, n_maps), self.wide(output, n_output));
                    let out = conv2d::weight_gradient(geometry, &maps, &gradient);
                    self.write(weight, &turned(&out, inputs, taps), *adds);
                }
            }
        }
        Ok(())
    }

    /// Only with a ReLU, so that tests see what is done without.
    unsafe fn convolve_finished<T: Stored>(
        &self,
        Convolution { geometry, .. }: &Convolution,
        Operands { maps, weight, output }: Operands<T>,
        Finishing { bias, residual, relu }: Finishing<T>,
    ) -> Result<bool> {
        if !relu {
            return Ok(false);
        }
        let (taps, inputs) = (geometry.taps(), geometry.group_inputs());
        let n_maps = geometry.batch * geometry.input.len();
        let (channels, mut out) =
            (geometry.output.channels, vec![0.0; geometry.batch * geometry.output.len()]);
        let has_residual = residual.address() != Pointer::<T>::NULL.address();
        // SAFETY: the caller's promise.
        unsafe {
            let maps = self.wide(maps, n_maps);
            let weight = turned(&self.wide(weight, channels * taps * inputs), taps, inputs);
            let residual = has_residual.then(|| self.wide(residual, out.len()));
            let shift = self.wide(bias, channels);
            let affine = Affine { scale: vec![1.0; channels], shift };
            let finish = Finish {
                start: residual.as_ref().map_or(Start::Zero, |residual| Start::Other(residual)),
                affine: Some(&affine),
                relu,
            };
            conv2d::forward(geometry, &maps, &weight, &mut out, finish);
            self.write(output, &out, false);
        }
        Ok(true)
    }

    unsafe fn multiply<T: Stored>(&self, product: &MatrixProduct<T>) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.write(product.out, &self.product(product), product.adds) };
        Ok(())
    }

    /// Only with a residual, so that tests see what is done without.
    unsafe fn multiply_finished<T: Stored>(
        &self,
        product: &MatrixProduct<T>,
        Finishing { bias, residual, relu }: Finishing<T>,
    ) -> Result<bool> {
        if residual.address() == Pointer::<T>::NULL.address() {
            return Ok(false);
        }
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = self.product(product);
            let (bias, residual) = (self.wide(bias, product.cols), self.wide(residual, sums.len()));
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += bias[i % product.cols] + residual[i];
                *sum = if relu { sum.max(0.0) } else { *sum };
            }
            self.write(product.out, &sums, false);
        }
        Ok(true)
    }
}
