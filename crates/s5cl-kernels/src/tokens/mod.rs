//! From patches of an image to tokens, and from tokens to one vector an image.

#[cfg(any(feature = "cuda", test))]
pub(crate) mod launch;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

/// What becomes of an image's tokens, the class token first, then registers, then patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenPool {
    /// The class token, the first.
    Class,
    /// The mean of the patches' tokens.
    Mean,
    /// Both, one behind the other.
    ClassAndMean,
}

impl TokenPool {
    /// Vectors of a token's length that it gives.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Class | Self::Mean => 1,
            Self::ClassAndMean => 2,
        }
    }

    fn has_class(self) -> bool {
        self != Self::Mean
    }

    fn has_mean(self) -> bool {
        self != Self::Class
    }

    /// `tokens` is `[batch, n_tokens, dim]` with `n_prefix` tokens before the patches', `out`
    /// `[batch, width * dim]`.
    pub(crate) fn forward(self, tokens: &[f32], out: &mut [f32], shape: Shape) {
        let Shape { n_prefix, n_patches, dim } = shape;
        let images = tokens.par_chunks((n_prefix + n_patches) * dim);
        out.par_chunks_mut(self.width() * dim).zip(images).for_each(|(out, image)| {
            if self.has_class() {
                out[..dim].copy_from_slice(&image[..dim]);
            }
            if self.has_mean() {
                let mean = &mut out[(self.width() - 1) * dim..];
                mean.fill(0.0);
                for patch in image[n_prefix * dim..].chunks_exact(dim) {
                    mean.iter_mut().zip(patch).for_each(|(sum, value)| *sum += value);
                }
                mean.iter_mut().for_each(|sum| *sum /= n_patches as f32);
            }
        });
    }

    /// Writes the gradient of the tokens.
    pub(crate) fn backward(self, gradient: &[f32], out: &mut [f32], shape: Shape) {
        let Shape { n_prefix, n_patches, dim } = shape;
        let images = gradient.par_chunks(self.width() * dim);
        let outs = out.par_chunks_mut((n_prefix + n_patches) * dim);
        outs.zip(images).for_each(|(out, gradient)| {
            out.fill(0.0);
            if self.has_class() {
                out[..dim].copy_from_slice(&gradient[..dim]);
            }
            if self.has_mean() {
                let gradient = &gradient[(self.width() - 1) * dim..];
                for patch in out[n_prefix * dim..].chunks_exact_mut(dim) {
                    let values = patch.iter_mut().zip(gradient);
                    values.for_each(|(value, gradient)| *value += gradient / n_patches as f32);
                }
            }
        });
    }
}

/// How many tokens an image has, and their length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) n_prefix: usize,
    pub(crate) n_patches: usize,
    pub(crate) dim: usize,
}

/// Writes the tokens of each image: the prefix, `[n_prefix, dim]`, and its patches plus their
/// positions, `[n_patches, dim]`.
pub(crate) fn tokens_forward(patches: &[f32], prefix: &[f32], positions: &[f32], out: &mut [f32]) {
    let images = patches.par_chunks(positions.len());
    out.par_chunks_mut(prefix.len() + positions.len()).zip(images).for_each(|(out, patches)| {
        let (first, rest) = out.split_at_mut(prefix.len());
        first.copy_from_slice(prefix);
        for ((out, patch), position) in rest.iter_mut().zip(patches).zip(positions) {
            *out = patch + position;
        }
    });
}

/// The gradients of prefix and positions, sums over the batch in f64, and in `of_patches` those of
/// the patches.
pub(crate) fn tokens_backward(
    gradient: &[f32],
    (n_prefix, n_positions): (usize, usize),
    of_patches: &mut [f32],
) -> (Vec<f32>, Vec<f32>) {
    let images: Vec<&[f32]> = gradient.chunks_exact(n_prefix + n_positions).collect();
    let copied = of_patches.par_chunks_mut(n_positions).zip(&images);
    copied.for_each(|(patches, image)| patches.copy_from_slice(&image[n_prefix..]));
    let mut sums: Vec<f32> = (0..n_prefix + n_positions)
        .into_par_iter()
        .map(|at| images.iter().map(|image| f64::from(image[at])).sum::<f64>() as f32)
        .collect();
    let of_positions = sums.split_off(n_prefix);
    (sums, of_positions)
}
