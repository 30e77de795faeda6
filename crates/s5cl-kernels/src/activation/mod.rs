//! Smooth activations, and gates made of them, with their way back.

mod curves;
#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;
#[cfg(test)]
mod tests;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::product::{read, write};
use crate::simd;
use curves::{Curve, Gelu, Silu, sigmoid};

/// Values that one thread takes at a time.
const BLOCK_VALUES: usize = 16 * 1024;

/// A smooth function of each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * Phi(x)` with the normal distribution's `Phi`, as `torch.nn.GELU()`.
    Gelu,
    /// `x / (1 + exp(-x))`, as `torch.nn.SiLU`.
    Silu,
}

impl Activation {
    /// Writes the function's values.
    pub(crate) fn forward(self, maps: &[f32], out: &mut [f32]) {
        let blocks = out.par_chunks_mut(BLOCK_VALUES).zip(maps.par_chunks(BLOCK_VALUES));
        blocks.for_each(|(out, maps)| match self {
            Self::Gelu => simd::dispatch(Values { curve: Gelu, maps, out }),
            Self::Silu => simd::dispatch(Values { curve: Silu, maps, out }),
        });
    }

    /// Puts the function's values in the place of the maps.
    pub(crate) fn apply(self, maps: &mut [f32]) {
        maps.par_chunks_mut(BLOCK_VALUES).for_each(|maps| match self {
            Self::Gelu => simd::dispatch(InPlace { curve: Gelu, maps }),
            Self::Silu => simd::dispatch(InPlace { curve: Silu, maps }),
        });
    }

    /// Multiplies the gradient by the function's slope at the maps.
    pub(crate) fn backward(self, maps: &[f32], gradient: &mut [f32]) {
        let blocks = gradient.par_chunks_mut(BLOCK_VALUES).zip(maps.par_chunks(BLOCK_VALUES));
        blocks.for_each(|(gradient, maps)| match self {
            Self::Gelu => simd::dispatch(Slopes { curve: Gelu, maps, gradient }),
            Self::Silu => simd::dispatch(Slopes { curve: Silu, maps, gradient }),
        });
    }
}

struct Values<'a, C> {
    curve: C,
    maps: &'a [f32],
    out: &'a mut [f32],
}

impl<C: Curve> WithSimd for Values<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let vectors = self.out.chunks_mut(S::F32_LANES).zip(self.maps.chunks(S::F32_LANES));
        for (out, maps) in vectors {
            let value = self.curve.value(simd, read(simd, maps));
            write(simd, out, value);
        }
    }
}

struct InPlace<'a, C> {
    curve: C,
    maps: &'a mut [f32],
}

impl<C: Curve> WithSimd for InPlace<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for maps in self.maps.chunks_mut(S::F32_LANES) {
            let value = self.curve.value(simd, read(simd, maps));
            write(simd, maps, value);
        }
    }
}

struct Slopes<'a, C> {
    curve: C,
    maps: &'a [f32],
    gradient: &'a mut [f32],
}

impl<C: Curve> WithSimd for Slopes<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let vectors = self.gradient.chunks_mut(S::F32_LANES).zip(self.maps.chunks(S::F32_LANES));
        for (gradient, maps) in vectors {
            let slope = self.curve.slope(simd, read(simd, maps));
            let product = simd.mul_f32s(slope, read(simd, gradient));
            write(simd, gradient, product);
        }
    }
}

/// SwiGLU: writes `silu(a) * b` for each row `[a, b]` of `maps`; `a`, `b` and a row of `out` have
/// `channels` values.
pub(crate) fn gated_unit_forward(maps: &[f32], out: &mut [f32], channels: usize) {
    let rows = out.par_chunks_mut(channels).zip(maps.par_chunks(2 * channels));
    rows.for_each(|(out, row)| simd::dispatch(GatedUnit { row, out }));
}

/// Writes the gradient of SwiGLU's rows `[a, b]` into `out`.
pub(crate) fn gated_unit_backward(
    maps: &[f32],
    gradient: &[f32],
    out: &mut [f32],
    channels: usize,
) {
    let rows = maps.par_chunks(2 * channels).zip(gradient.par_chunks(channels));
    out.par_chunks_mut(2 * channels).zip(rows).for_each(|(out, (row, gradient))| {
        simd::dispatch(GatedUnitGradient { row, gradient, out });
    });
}

struct GatedUnit<'a> {
    row: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for GatedUnit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (gates, values) = self.row.split_at(self.out.len());
        let operands = gates.chunks(S::F32_LANES).zip(values.chunks(S::F32_LANES));
        for (out, (gate, value)) in self.out.chunks_mut(S::F32_LANES).zip(operands) {
            let gate = Silu.value(simd, read(simd, gate));
            write(simd, out, simd.mul_f32s(gate, read(simd, value)));
        }
    }
}

struct GatedUnitGradient<'a> {
    row: &'a [f32],
    gradient: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for GatedUnitGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.gradient.len();
        let (gates, values) = self.row.split_at(channels);
        let (of_gates, of_values) = self.out.split_at_mut(channels);
        let operands = gates.chunks(S::F32_LANES).zip(values.chunks(S::F32_LANES));
        let operands = operands.zip(self.gradient.chunks(S::F32_LANES));
        let outs = of_gates.chunks_mut(S::F32_LANES).zip(of_values.chunks_mut(S::F32_LANES));
        for ((of_gate, of_value), ((gate, value), gradient)) in outs.zip(operands) {
            let (gate, gradient) = (read(simd, gate), read(simd, gradient));
            let by_value = simd.mul_f32s(gradient, read(simd, value));
            write(simd, of_gate, simd.mul_f32s(by_value, Silu.slope(simd, gate)));
            write(simd, of_value, simd.mul_f32s(gradient, Silu.value(simd, gate)));
        }
    }
}

/// Squeeze and excitation's last step: multiplies each channel of an image's pixels by the
/// sigmoid of its logit, one for each image and channel.
pub(crate) fn gate_forward(maps: &[f32], logits: &[f32], out: &mut [f32], channels: usize) {
    let Some(len) = maps.len().checked_div(logits.len() / channels) else { return };
    let images = maps.par_chunks(len).zip(logits.par_chunks(channels));
    out.par_chunks_mut(len).zip(images).for_each(|(out, (image, logits))| {
        let gates = sigmoids(logits);
        simd::dispatch(
            #[inline(always)]
            || {
                for (out, pixel) in out.chunks_exact_mut(channels).zip(image.chunks_exact(channels))
                {
                    for ((out, value), gate) in out.iter_mut().zip(pixel).zip(&gates) {
                        *out = value * gate;
                    }
                }
            },
        );
    });
}

/// Makes `gradient` that of the maps in place, and writes that of the logits into `of_logits`.
pub(crate) fn gate_backward(
    maps: &[f32],
    logits: &[f32],
    gradient: &mut [f32],
    of_logits: &mut [f32],
    channels: usize,
) {
    let Some(len) = maps.len().checked_div(logits.len() / channels) else { return };
    let images = maps.par_chunks(len).zip(logits.par_chunks(channels));
    let outs = gradient.par_chunks_mut(len).zip(of_logits.par_chunks_mut(channels));
    outs.zip(images).for_each(|((gradient, of_logits), (image, logits))| {
        let gates = sigmoids(logits);
        of_logits.fill(0.0);
        simd::dispatch(
            #[inline(always)]
            || {
                let rows = gradient.chunks_exact_mut(channels).zip(image.chunks_exact(channels));
                for (gradient, pixel) in rows {
                    for c in 0..channels {
                        of_logits[c] += gradient[c] * pixel[c];
                        gradient[c] *= gates[c];
                    }
                }
                for (of_logit, gate) in of_logits.iter_mut().zip(&gates) {
                    *of_logit *= gate * (1.0 - gate);
                }
            },
        );
    });
}

fn sigmoids(logits: &[f32]) -> Vec<f32> {
    let mut gates = logits.to_vec();
    simd::dispatch(Sigmoids(&mut gates));
    gates
}

struct Sigmoids<'a>(&'a mut [f32]);

impl WithSimd for Sigmoids<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for values in self.0.chunks_mut(S::F32_LANES) {
            let value = sigmoid(simd, read(simd, values));
            write(simd, values, value);
        }
    }
}
