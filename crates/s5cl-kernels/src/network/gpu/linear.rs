//! Convolutions that are products of matrices: those with one tap on every pixel.

use crate::Conv2dConfig;
use crate::cuda::Pointer;
use crate::cuda::library::{Convolution, Factor, MatrixProduct, Operands, Pass};

/// The product that a pass of a convolution is, if it is one.
pub(super) fn product<T>(
    convolution: &Convolution,
    Operands { maps, weight, output }: Operands<T>,
) -> Option<MatrixProduct<T>> {
    let Convolution { geometry, pass, adds, rounds_factors } = *convolution;
    let Conv2dConfig { stride, padding, groups, .. } = geometry.config;
    if geometry.taps() != 1 || (stride, padding, groups) != (1, 0, 1) {
        return None;
    }
    let pixels = geometry.batch * geometry.output.pixels();
    let (inputs, outputs) = (geometry.input.channels, geometry.output.channels);
    let as_is = |values: Pointer<T>| Factor { values, is_transposed: false };
    let transposed = |values: Pointer<T>| Factor { values, is_transposed: true };
    let (left, right, out, [rows, cols, depth]) = match pass {
        Pass::Forward => (as_is(maps), transposed(weight), output, [pixels, outputs, inputs]),
        Pass::InputGradient => (as_is(output), as_is(weight), maps, [pixels, inputs, outputs]),
        Pass::WeightGradient => {
            (transposed(output), as_is(maps), weight, [outputs, inputs, pixels])
        }
    };
    Some(MatrixProduct { left, right, out, rows, cols, depth, adds, rounds_factors })
}
