//! The innermost loops of batch normalization, over the rows of one block.
//!
//! Each is an operation of its own, not a closure, so that its loops are compiled for the
//! processor's vector instructions.

use pulp::{Simd, WithSimd};

use super::affine::{Affine, Mask};

/// Adds a block's values and squares, behind `origin`, to those of each channel.
pub(super) struct MomentSums<'a> {
    pub(super) maps: &'a [f32],
    pub(super) origin: &'a [f32],
    pub(super) sums: &'a mut [f32],
    pub(super) squares: &'a mut [f32],
}

impl WithSimd for MomentSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.origin.len();
        let (sums, squares) = (&mut self.sums[..channels], &mut self.squares[..channels]);
        for row in self.maps.chunks_exact(channels) {
            for c in 0..channels {
                let centered = row[c] - self.origin[c];
                sums[c] += centered;
                squares[c] += centered * centered;
            }
        }
    }
}

/// `out = max(maps * scale + shift + residual, floor)`.
pub(super) struct Apply<'a> {
    pub(super) affine: &'a Affine,
    pub(super) maps: &'a [f32],
    pub(super) residual: Option<&'a [f32]>,
    pub(super) floor: f32,
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.affine.scale.len();
        let (scale, shift) = (&self.affine.scale[..channels], &self.affine.shift[..channels]);
        let rows = self.out.chunks_exact_mut(channels).zip(self.maps.chunks_exact(channels));
        match self.residual {
            Some(residual) => {
                for ((out, maps), residual) in rows.zip(residual.chunks_exact(channels)) {
                    for c in 0..channels {
                        let value = maps[c].mul_add(scale[c], shift[c]) + residual[c];
                        out[c] = at_least(self.floor, value);
                    }
                }
            }
            None => {
                for (out, maps) in rows {
                    for c in 0..channels {
                        out[c] = at_least(self.floor, maps[c].mul_add(scale[c], shift[c]));
                    }
                }
            }
        }
    }
}

/// The larger of the two; a NaN stays, where `f32::max` would hide that a network diverged.
#[inline(always)]
fn at_least(floor: f32, value: f32) -> f32 {
    if value < floor { floor } else { value }
}

/// Adds a block's gradients, and their products with the centered maps, to those of each channel.
/// With a result as the mask, the gradient is masked in place.
pub(super) struct GradientSums<'a> {
    pub(super) mask: Mask<'a>,
    pub(super) mean: &'a [f32],
    pub(super) maps: &'a [f32],
    pub(super) gradient: &'a mut [f32],
    pub(super) sums: &'a mut [f32],
    pub(super) products: &'a mut [f32],
}

impl WithSimd for GradientSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.mean.len();
        let (sums, products) = (&mut self.sums[..channels], &mut self.products[..channels]);
        let rows = self.gradient.chunks_exact_mut(channels).zip(self.maps.chunks_exact(channels));
        match self.mask {
            Mask::Open => {
                for (gradient, maps) in rows {
                    for c in 0..channels {
                        sums[c] += gradient[c];
                        products[c] += gradient[c] * (maps[c] - self.mean[c]);
                    }
                }
            }
            Mask::Affine(Affine { scale, shift }) => {
                let (scale, shift) = (&scale[..channels], &shift[..channels]);
                for (gradient, maps) in rows {
                    for c in 0..channels {
                        let is_open = maps[c].mul_add(scale[c], shift[c]) > 0.0;
                        let masked = if is_open { gradient[c] } else { 0.0 };
                        sums[c] += masked;
                        products[c] += masked * (maps[c] - self.mean[c]);
                    }
                }
            }
            Mask::Result(result) => {
                for ((gradient, maps), result) in rows.zip(result.chunks_exact(channels)) {
                    for c in 0..channels {
                        let masked = if result[c] > 0.0 { gradient[c] } else { 0.0 };
                        gradient[c] = masked;
                        sums[c] += masked;
                        products[c] += masked * (maps[c] - self.mean[c]);
                    }
                }
            }
        }
    }
}

/// Replaces a gradient by `scale * gradient + slope * maps + offset`, masked before where the
/// affine map of a ReLU is given.
pub(super) struct Line<'a> {
    pub(super) mask: Option<&'a Affine>,
    pub(super) scale: &'a [f32],
    pub(super) slope: &'a [f32],
    pub(super) offset: &'a [f32],
    pub(super) maps: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.scale.len();
        let (slope, offset) = (&self.slope[..channels], &self.offset[..channels]);
        let rows = self.out.chunks_exact_mut(channels).zip(self.maps.chunks_exact(channels));
        match self.mask {
            Some(Affine { scale, shift }) => {
                let (factor, shift) = (&scale[..channels], &shift[..channels]);
                for (out, maps) in rows {
                    for c in 0..channels {
                        let is_open = maps[c].mul_add(factor[c], shift[c]) > 0.0;
                        let masked = if is_open { out[c] } else { 0.0 };
                        out[c] =
                            self.scale[c].mul_add(masked, slope[c].mul_add(maps[c], offset[c]));
                    }
                }
            }
            None => {
                for (out, maps) in rows {
                    for c in 0..channels {
                        out[c] =
                            self.scale[c].mul_add(out[c], slope[c].mul_add(maps[c], offset[c]));
                    }
                }
            }
        }
    }
}
