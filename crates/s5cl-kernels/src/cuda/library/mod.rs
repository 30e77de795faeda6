//! What a GPU has libraries for: convolutions and products of matrices.

#[cfg(feature = "cuda")]
mod blas;
#[cfg(feature = "cuda")]
mod blas_lt;
#[cfg(feature = "cuda")]
mod dnn;
#[cfg(test)]
mod emulated;

#[cfg(test)]
mod tests;

use candle_core::Result;

use super::stored::Stored;
use super::{Gpu, Pointer};
use crate::conv2d::geometry::Geometry;

/// A GPU with its libraries.
pub(crate) trait Library: Gpu {
    /// One pass of a convolution; products are summed in f32.
    ///
    /// # Errors
    ///
    /// If no algorithm of the library takes these shapes.
    ///
    /// # Safety
    ///
    /// The operands must reach as far as the geometry says.
    #[expect(unsafe_code, reason = "a library reads and writes wherever it is told to")]
    unsafe fn convolve<T: Stored>(
        &self,
        convolution: &Convolution,
        operands: Operands<T>,
    ) -> Result<()>;

    /// A forward pass that adds a bias and other maps and clips in one. False, and nothing is
    /// written, if no algorithm of the library does all that.
    ///
    /// # Errors
    ///
    /// If the library refuses the shapes.
    ///
    /// # Safety
    ///
    /// The operands must reach as far as the geometry says, and the bias have its output channels.
    #[expect(unsafe_code, reason = "a library reads and writes wherever it is told to")]
    unsafe fn convolve_finished<T: Stored>(
        &self,
        convolution: &Convolution,
        operands: Operands<T>,
        finish: Finish<T>,
    ) -> Result<bool>;

    /// A product of matrices; products of numbers are summed in f32.
    ///
    /// # Errors
    ///
    /// If the library refuses it.
    ///
    /// # Safety
    ///
    /// The operands must reach as far as the sizes say.
    #[expect(unsafe_code, reason = "a library reads and writes wherever it is told to")]
    unsafe fn multiply<T: Stored>(&self, product: &MatrixProduct<T>) -> Result<()>;

    /// A product, of which nothing is there yet, that adds a bias to each row and other maps, and
    /// clips, in one. False, and nothing is written, if no algorithm of the library does all that.
    ///
    /// # Errors
    ///
    /// If the library refuses it.
    ///
    /// # Safety
    ///
    /// The operands must reach as far as the sizes say, and the bias have as many values as columns.
    #[expect(unsafe_code, reason = "a library reads and writes wherever it is told to")]
    unsafe fn multiply_finished<T: Stored>(
        &self,
        product: &MatrixProduct<T>,
        finish: Finish<T>,
    ) -> Result<bool>;
}

/// Which of a convolution's operands is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pass {
    /// The output.
    Forward,
    /// The maps, from the output's gradient.
    InputGradient,
    /// The weight, from the output's gradient.
    WeightGradient,
}

/// A pass of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Convolution {
    pub(crate) geometry: Geometry,
    pub(crate) pass: Pass,
    /// Whether the result is added to what is there.
    pub(crate) adds: bool,
    /// Whether factors in f32 may be rounded to the 11 bits of TF32.
    pub(crate) rounds_factors: bool,
}

impl Convolution {
    /// Values of what the pass computes.
    #[cfg(feature = "cuda")]
    fn result_len(&self) -> usize {
        let Geometry { batch, input, output, .. } = self.geometry;
        match self.pass {
            Pass::Forward => batch * output.len(),
            Pass::InputGradient => batch * input.len(),
            Pass::WeightGradient => {
                output.channels * self.geometry.taps() * self.geometry.group_inputs()
            }
        }
    }
}

/// Maps `[batch, height, width, channels]`, a weight `[out_channels, kernel_height, kernel_width,
/// in_channels / groups]`, and an output of the maps' order; or their gradients.
#[derive(Clone, Copy)]
pub(crate) struct Operands<T> {
    pub(crate) maps: Pointer<T>,
    pub(crate) weight: Pointer<T>,
    pub(crate) output: Pointer<T>,
}

/// What becomes of sums before they are written: `relu(sums + bias + residual)`.
#[derive(Clone, Copy)]
pub(crate) struct Finish<T> {
    /// One value for each output channel, or column.
    pub(crate) bias: Pointer<T>,
    /// Of the output's shape; null for none.
    pub(crate) residual: Pointer<T>,
    pub(crate) relu: bool,
}

/// `out = left * right`, or added to what is there; `out` is `[rows, cols]`, `depth` is summed over.
#[derive(Clone, Copy)]
pub(crate) struct MatrixProduct<T> {
    pub(crate) left: Factor<T>,
    pub(crate) right: Factor<T>,
    pub(crate) out: Pointer<T>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) depth: usize,
    pub(crate) adds: bool,
    /// Whether factors in f32 may be rounded to the 11 bits of TF32.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the emulation rounds nothing"))]
    pub(crate) rounds_factors: bool,
}

/// A matrix of a product, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Factor<T> {
    pub(crate) values: Pointer<T>,
    /// Whether the rows in memory are the columns of the product's.
    pub(crate) is_transposed: bool,
}

#[cfg(feature = "cuda")]
impl Library for super::CudaGpu {
    #[expect(unsafe_code, reason = "the operands are raw pointers")]
    unsafe fn convolve<T: Stored>(
        &self,
        convolution: &Convolution,
        operands: Operands<T>,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        if unsafe { dnn::convolve(self.device(), convolution, operands, None)? } {
            return Ok(());
        }
        // Where the library cannot add, the result is made apart.
        let Operands { maps, weight, output } = operands;
        let result = match convolution.pass {
            Pass::Forward => output,
            Pass::InputGradient => maps,
            Pass::WeightGradient => weight,
        };
        let apart = self.allocate::<T>(convolution.result_len())?;
        let pointer = apart.pointer();
        let operands = match convolution.pass {
            Pass::Forward => Operands { output: pointer, ..operands },
            Pass::InputGradient => Operands { maps: pointer, ..operands },
            Pass::WeightGradient => Operands { weight: pointer, ..operands },
        };
        // SAFETY: the caller's promise, and room for the result.
        unsafe {
            self.convolve(&Convolution { adds: false, ..*convolution }, operands)?;
            super::maps::add(self, result, pointer, apart.len())
        }
    }

    #[expect(unsafe_code, reason = "the operands are raw pointers")]
    unsafe fn convolve_finished<T: Stored>(
        &self,
        convolution: &Convolution,
        operands: Operands<T>,
        finish: Finish<T>,
    ) -> Result<bool> {
        // SAFETY: the caller's promise.
        unsafe { dnn::convolve(self.device(), convolution, operands, Some(finish)) }
    }

    #[expect(unsafe_code, reason = "the operands are raw pointers")]
    unsafe fn multiply<T: Stored>(&self, product: &MatrixProduct<T>) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { blas::multiply(self.device(), product) }
    }

    #[expect(unsafe_code, reason = "the operands are raw pointers")]
    unsafe fn multiply_finished<T: Stored>(
        &self,
        product: &MatrixProduct<T>,
        finish: Finish<T>,
    ) -> Result<bool> {
        // SAFETY: the caller's promise.
        unsafe { blas_lt::multiply(self.device(), product, finish) }
    }
}
