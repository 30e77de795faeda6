//! What the pairwise losses share: unit embeddings and the masks that labels make.

use candle_core::{DType, Result, Tensor, bail};

/// Squared norms below this are treated as this one: torch's `eps = 1e-12` on the norm.
const SMALLEST_SQUARED_NORM: f64 = 1e-24;

/// Scales every row to unit length; a zero row stays zero and gets no gradient through its norm.
pub(crate) fn unit_rows(embeddings: &Tensor) -> Result<Tensor> {
    let squared_norms = embeddings.sqr()?.sum_keepdim(1)?;
    embeddings.broadcast_div(&squared_norms.maximum(SMALLEST_SQUARED_NORM)?.sqrt()?)
}

/// Which pairs of a batch count as what, as f32 `[n, n]` of zeros and ones.
pub(crate) struct PairMasks {
    /// Same label, not itself.
    pub(crate) positives: Tensor,
    /// Another label.
    pub(crate) negatives: Tensor,
}

impl PairMasks {
    /// Fails when there is not one u32 label for every row.
    pub(crate) fn new(embeddings: &Tensor, labels: &Tensor) -> Result<Self> {
        let (n, _dim) = embeddings.dims2()?;
        if labels.dims() != [n] || labels.dtype() != DType::U32 {
            bail!("expected u32 labels [{n}], got {:?} {:?}", labels.dtype(), labels.shape())
        }
        let same =
            labels.unsqueeze(1)?.broadcast_eq(&labels.unsqueeze(0)?)?.to_dtype(DType::F32)?;
        let identity = Tensor::eye(n, DType::F32, embeddings.device())?;
        let positives = (&same - &identity)?;
        let negatives = same.affine(-1.0, 1.0)?;
        Ok(Self { positives, negatives })
    }
}
