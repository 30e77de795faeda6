//! Contrastive losses on the similarities between many rows, which are never all in memory.
//!
//! A matrix of similarities is cut into tiles. A tile is multiplied, turned into powers and summed
//! while it is in registers and the nearest cache; only the tiles above the diagonal are computed,
//! each for its rows and its columns. The forward pass knows everything that the gradient needs,
//! so it computes the gradient too and the backward pass only scales it.

mod cross;
mod cross_op;
mod cross_tile;
mod op;
mod reduction;
mod square;
mod top_k;
mod top_k_tensors;

mod accurate;
mod classes;
mod kept;
mod pack;
mod plan;
mod powers;
mod pull;
mod relation;
mod schedule;
mod tile;

#[cfg(any(feature = "cuda", test))]
mod gpu;
#[cfg(test)]
mod tests;

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

pub use cross_op::{CrossContrast, Positives, cross_contrast};
pub use reduction::Reduction;
pub use top_k::{Neighbors, TopK, top_k, top_k_of_other_groups};
pub use top_k_tensors::{top_k_tensors, top_k_tensors_of_other_groups};

/// What divides the similarities; above 0. Small values look at the nearest negatives only.
#[derive(Clone, Copy, Debug)]
pub enum Temperature<'a> {
    /// A constant.
    Fixed(f64),
    /// A float scalar (or `[1]`); if it is a variable or depends on one, it gets a gradient.
    Learned(&'a Tensor),
}

impl From<f64> for Temperature<'_> {
    fn from(temperature: f64) -> Self {
        Self::Fixed(temperature)
    }
}

impl<'a> From<&'a Tensor> for Temperature<'a> {
    fn from(temperature: &'a Tensor) -> Self {
        Self::Learned(temperature)
    }
}

/// How many bits of the rows take part in a product on a CUDA device; the CPU takes all of f32.
///
/// Rows of unit length are split into an upper and a lower half of 11 bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SimilarityPrecision {
    /// The upper halves alone: losses to 1e-4 of themselves, gradients to 5e-3 of the largest on
    /// rows that are spread out, and to 5e-2 where classes are tight.
    Fast,
    /// Both halves where rows have a label in common, at about the same cost: losses to 1e-5,
    /// gradients to 2e-3.
    #[default]
    Mixed,
    /// Both halves everywhere, and both of the weights of the backward pass: losses to 2e-6,
    /// gradients to 2e-5, in about twice the time.
    Exact,
}

/// Rows that are contrasted with each other and with no others.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// Which rows; those of two segments must not overlap.
    pub rows: Range<usize>,
    /// Divides the similarities of these rows.
    pub temperature: Temperature<'a>,
    /// How much the loss of these rows counts in the sum.
    pub weight: f64,
    /// How the losses of the anchors become one number.
    pub reduction: Reduction,
}

/// Supervised contrastive loss on cosine similarities, of one or several segments of rows.
///
/// ```text
/// loss   = sum over segments of weight * reduction(loss_i)
/// loss_i = -1/|P(i)| * sum_{p in P(i)} ( s_ip / t - log sum_{a != i} exp(s_ia / t) )
/// ```
///
/// with `P(i)` the other rows of the segment that have anchor i's label, `a` all its other rows
/// and `t` its temperature. Rows are normalized inside, as `torch.nn.functional.normalize` does.
/// An anchor without positives has no loss of its own but is a negative for the others; a segment
/// without any positive gives 0. The gradient reaches the embeddings and learned temperatures.
/// Embeddings that are not finite give NaN.
///
/// Beyond inputs, outputs and a few numbers per row the operation takes at most 64 MiB, however
/// many rows and threads there are; where rows are so long that one task alone works in more (from
/// about 26,000 values on), it takes as much as one task. The bits of the result do not depend on
/// the number of threads.
///
/// On a CUDA device memory beyond inputs and outputs is about `4 n dim + 200 n` bytes, `n^2 / 512`
/// more above 65,536 rows, and in the backward pass the size of the gradient, up to eight times
/// where there are fewer than 32,768 rows; [`SimilarityPrecision`] says how exact it is.
///
/// # Shapes
///
/// - `embeddings`: f32 `[n, dim]`, any strides
/// - `labels`: u32 `[n]`; compared within a segment only
/// - result: f32 scalar
///
/// # Errors
///
/// If the shapes or types differ from these, the rows of segments overlap or leave the tensor, a
/// temperature is not above 0, the tensors are not on one device, or there are more than 16
/// segments on a CUDA device. A temperature that is a tensor on a CUDA device is not read, which
/// would stall it: one that is not above 0 makes the loss NaN.
///
/// # Source
///
/// Khosla et al., "Supervised Contrastive Learning", 2020, equation 2 (`L_out`).
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use s5cl_kernels::{Reduction, Segment, contrast};
///
/// # fn main() -> candle_core::Result<()> {
/// let rows = [[1_f32, 0.1], [0.2, 1.0], [0.9, 0.0], [0.0, 0.8], [0.5, 0.5], [0.6, 0.4]];
/// let embeddings = Var::new(&rows, &Device::Cpu)?;
/// let labels = Tensor::new(&[0_u32, 1, 0, 1, 0, 0], &Device::Cpu)?;
/// let segment = |rows, temperature: f64| Segment {
///     rows,
///     temperature: temperature.into(),
///     weight: 1.0,
///     reduction: Reduction::MeanValid,
/// };
/// let loss = contrast(&embeddings, &labels, &[segment(0..4, 0.2), segment(4..6, 0.7)])?;
/// assert!(loss.backward()?.get(&embeddings).is_some());
/// # Ok(())
/// # }
/// ```
pub fn contrast(embeddings: &Tensor, labels: &Tensor, segments: &[Segment<'_>]) -> Result<Tensor> {
    contrast_with_precision(embeddings, labels, segments, SimilarityPrecision::default())
}

/// [`contrast`] with more or fewer bits than by default.
///
/// # Errors
///
/// As [`contrast`].
pub fn contrast_with_precision(
    embeddings: &Tensor,
    labels: &Tensor,
    segments: &[Segment<'_>],
    precision: SimilarityPrecision,
) -> Result<Tensor> {
    op::apply(embeddings, labels, segments, precision)
}

/// [`contrast`] of all rows as one segment: SupCon.
///
/// # Shapes
///
/// - `embeddings`: f32 `[n, dim]`; `labels`: u32 `[n]`; result: f32 scalar
///
/// # Errors
///
/// As [`contrast`].
pub fn sup_con<'a>(
    embeddings: &Tensor,
    labels: &Tensor,
    temperature: impl Into<Temperature<'a>>,
    reduction: Reduction,
) -> Result<Tensor> {
    let rows = 0..matrix(embeddings, "sup_con")?.0;
    let segment = Segment { rows, temperature: temperature.into(), weight: 1.0, reduction };
    contrast(embeddings, labels, &[segment])
}

/// [`contrast`] of two views of each image, one half of the rows after the other: NT-Xent. The
/// only positive of a row is its image's other view; the mean is over all rows.
///
/// # Shapes
///
/// - `embeddings`: f32 `[2 n, dim]`; result: f32 scalar
///
/// # Errors
///
/// As [`contrast`], or if the number of rows is odd.
///
/// # Source
///
/// Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020,
/// equation 1.
pub fn nt_xent<'a>(embeddings: &Tensor, temperature: impl Into<Temperature<'a>>) -> Result<Tensor> {
    let (rows, _) = matrix(embeddings, "nt_xent")?;
    if !rows.is_multiple_of(2) {
        bail!("nt_xent: expected two views of each image, got {rows} rows")
    }
    let labels: Vec<u32> = (0..rows as u32 / 2).collect();
    let labels = Tensor::new(labels.repeat(2), embeddings.device())?;
    sup_con(embeddings, &labels, temperature, Reduction::MeanValid)
}

/// The loss of each anchor of [`sup_con`], without a gradient: 0 for an anchor without positives.
///
/// # Shapes
///
/// - `embeddings`: f32 `[n, dim]`; `labels`: u32 `[n]`; result: f32 `[n]`
///
/// # Errors
///
/// As [`contrast`].
pub fn sup_con_anchor_losses(
    embeddings: &Tensor,
    labels: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    matrix(embeddings, "sup_con_anchor_losses")?;
    op::anchor_losses(embeddings, labels, temperature)
}

/// Rows and columns of an operand of `op`.
fn matrix(tensor: &Tensor, op: &str) -> Result<(usize, usize)> {
    match *tensor.dims() {
        [rows, cols] => Ok((rows, cols)),
        _ => bail!("{op}: expected a matrix, got {:?} {:?}", tensor.dtype(), tensor.shape()),
    }
}
