//! Contrast of queries against keys as an operation of candle.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::cross::Cross;
use super::matrix;
use super::relation::Relation;
use crate::values::operand;

/// What makes a key a positive of a query.
#[derive(Clone, Copy, Debug)]
pub enum Positives<'a> {
    /// The same label: `w_ij` is 1 or 0.
    Labels {
        /// u32 `[n_queries]`.
        queries: &'a Tensor,
        /// u32 `[n_keys]`.
        keys: &'a Tensor,
    },
    /// Soft labels: `w_ij` is the product of two rows. Constants, not negative.
    Shares {
        /// f32 `[n_queries, n_classes]`.
        queries: &'a Tensor,
        /// f32 `[n_keys, n_classes]`.
        keys: &'a Tensor,
    },
}

/// What [`cross_contrast`] knows of queries and keys beside their embeddings.
#[derive(Clone, Copy, Debug)]
pub struct CrossContrast<'a> {
    /// What divides the products of a query, each above 0: one for all or one for each query.
    pub temperatures: &'a [f64],
    /// Which keys a query is drawn to.
    pub positives: Positives<'a>,
    /// f32 `[n_queries]`, the weight of each query's loss; without them the result is the mean
    /// over the queries that have a loss.
    pub query_weights: Option<&'a Tensor>,
    /// f32 `[n_keys]`, not negative: how much each key counts in the softmax sums; 1 without them.
    pub key_weights: Option<&'a Tensor>,
    /// u32 `[n_queries]`: the index of the key that a query leaves out, its own place in a memory
    /// queue; an index without a key, as `u32::MAX`, leaves out nothing.
    pub excluded: Option<&'a Tensor>,
}

/// Contrast of queries against keys: a memory queue, a gallery, another modality.
///
/// ```text
/// loss   = sum_i alpha_i loss_i
/// loss_i = log sum_{j != ex(i)} beta_j exp(q_i . k_j / t_i)
///        - sum_{j != ex(i)} w_ij q_i . k_j / t_i / sum_{j != ex(i)} w_ij
/// ```
///
/// with weights `alpha` of the queries, `beta` of the keys, temperatures `t`, an excluded key
/// `ex(i)` and the affinities `w` of [`Positives`]. The rows are taken as they are, so whoever
/// wants cosines normalizes them. A query without positives, or without a key in its sum, has no
/// loss. The gradient reaches queries and keys, each if it is tracked. Rows that are not finite
/// give NaN. Memory is bounded, and the bits do not depend on the number of threads, as for
/// [`crate::contrast`].
///
/// On a CUDA device products are those of 22 bits of each number, as with
/// [`crate::SimilarityPrecision::Exact`], relative to the largest number of its row. Memory beyond
/// inputs and outputs is about `4 (n_queries + n_keys) (dim + n_classes)` bytes, without classes
/// where there are labels, and as much again as a gradient while it is computed. No value is read by
/// the host: a key's weight or a share that is negative or not finite makes everything NaN.
///
/// # Shapes
///
/// - `queries`: f32 `[n_queries, dim]`; `keys`: f32 `[n_keys, dim]`
/// - result: f32 scalar
///
/// # Errors
///
/// If shapes or types differ from these and those of [`CrossContrast`], a temperature is not above
/// 0, the tensors are not on one device, or, on the CPU, a key's weight or a share is negative or
/// not finite.
///
/// # Source
///
/// He et al., "Momentum Contrast", 2020, equation 1, for one positive; Khosla et al., "Supervised
/// Contrastive Learning", 2020, equation 2, for several.
pub fn cross_contrast(
    queries: &Tensor,
    keys: &Tensor,
    config: &CrossContrast<'_>,
) -> Result<Tensor> {
    let (n, dim) = matrix(queries, "cross_contrast")?;
    let (n_keys, key_dim) = matrix(keys, "cross_contrast")?;
    if dim != key_dim || dim == 0 {
        bail!("cross_contrast: queries {:?} do not fit keys {:?}", queries.shape(), keys.shape())
    }
    config.check(n, n_keys)?;
    #[cfg(feature = "cuda")]
    if queries.device().is_cuda() {
        return super::gpu::cross::apply(queries, keys, config);
    }
    let op = CrossOp {
        temperatures: match *config.temperatures {
            [one] => vec![one; n],
            ref each => each.to_vec(),
        },
        query_weights: config.query_weights.map(values).transpose()?,
        key_weights: config.key_weights.map(shares).transpose()?,
        excluded: config.excluded.map(values).transpose()?,
        positives: Owned::read(config.positives)?,
        is_tracked: [queries.track_op(), keys.track_op()],
        gradients: OnceLock::new(),
    };
    queries.contiguous()?.apply_op2(&keys.contiguous()?, op)
}

impl CrossContrast<'_> {
    /// Fails unless everything has the shape and type that it must have, and temperatures are above
    /// 0.
    fn check(&self, n: usize, n_keys: usize) -> Result<()> {
        let temperatures = self.temperatures;
        let fit = temperatures.len() == 1 || temperatures.len() == n;
        if !fit || !temperatures.iter().all(|t| *t > 0.0 && t.is_finite()) {
            bail!("cross_contrast: expected 1 or {n} temperatures above 0, got {temperatures:?}")
        }
        let (of_queries, of_keys, shape, dtype) = match self.positives {
            Positives::Labels { queries, keys } => (queries, keys, vec![], DType::U32),
            Positives::Shares { queries, keys } => {
                let (_, n_classes) = matrix(queries, "cross_contrast")?;
                if n_classes == 0 {
                    bail!("cross_contrast: shares of no class, {:?}", queries.shape())
                }
                (queries, keys, vec![n_classes], DType::F32)
            }
        };
        check(of_queries, &[&[n], &shape[..]].concat(), dtype)?;
        check(of_keys, &[&[n_keys], &shape[..]].concat(), dtype)?;
        self.query_weights.map_or(Ok(()), |w| check(w, &[n], DType::F32))?;
        self.key_weights.map_or(Ok(()), |w| check(w, &[n_keys], DType::F32))?;
        self.excluded.map_or(Ok(()), |keys| check(keys, &[n], DType::U32))
    }
}

/// Fails unless a tensor has this shape and type.
fn check(tensor: &Tensor, shape: &[usize], dtype: DType) -> Result<()> {
    if tensor.dims() != shape || tensor.dtype() != dtype {
        bail!(
            "cross_contrast: expected {dtype:?} {shape:?}, got {:?} {:?}",
            tensor.dtype(),
            tensor.shape()
        )
    }
    Ok(())
}

/// The values of a tensor.
fn values<T: candle_core::WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
    tensor.flatten_all()?.to_vec1()
}

/// Values none of which is negative.
fn shares(tensor: &Tensor) -> Result<Vec<f32>> {
    let shares: Vec<f32> = values(tensor)?;
    match shares.iter().find(|share| !(**share >= 0.0 && share.is_finite())) {
        Some(share) => bail!("cross_contrast: a weight must be 0 or above, got {share}"),
        None => Ok(shares),
    }
}

/// The values of [`Positives`].
enum Owned {
    Labels(Vec<u32>, Vec<u32>),
    Shares(Vec<f32>, Vec<f32>, usize),
}

impl Owned {
    fn read(positives: Positives<'_>) -> Result<Self> {
        match positives {
            Positives::Labels { queries, keys } => {
                Ok(Self::Labels(values(queries)?, values(keys)?))
            }
            Positives::Shares { queries, keys } => {
                Ok(Self::Shares(shares(queries)?, shares(keys)?, queries.dim(1)?))
            }
        }
    }
}

/// The operation, and what its forward pass leaves for the backward pass.
struct CrossOp {
    temperatures: Vec<f64>,
    query_weights: Option<Vec<f32>>,
    key_weights: Option<Vec<f32>>,
    excluded: Option<Vec<u32>>,
    positives: Owned,
    /// Whether queries and keys want a gradient.
    is_tracked: [bool; 2],
    gradients: OnceLock<[Option<Tensor>; 2]>,
}

impl CustomOp2 for CrossOp {
    fn name(&self) -> &'static str {
        "cross_contrast"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        query_layout: &Layout,
        keys: &CpuStorage,
        key_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let queries = operand(queries, query_layout, self.name())?;
        let keys = operand(keys, key_layout, self.name())?;
        let (_, dim) = query_layout.shape().dims2()?;
        let relation = match &self.positives {
            Owned::Labels(queries, keys) => Relation::Labels { queries, keys },
            Owned::Shares(queries, keys, n_classes) => {
                Relation::Shares { queries, keys, n_classes: *n_classes }
            }
        };
        let cross = Cross {
            dim,
            queries,
            keys,
            temperatures: &self.temperatures,
            query_weights: self.query_weights.as_deref(),
            key_weights: self.key_weights.as_deref(),
            excluded: self.excluded.as_deref(),
            relation,
        };
        let [of_queries, of_keys] = self.is_tracked;
        let mut query_gradient = of_queries.then(|| vec![0.0; queries.len()]);
        let mut key_gradient = of_keys.then(|| vec![0.0; keys.len()]);
        let mut loss = cross.loss(query_gradient.as_deref_mut(), key_gradient.as_deref_mut());
        if !queries.iter().chain(keys).all(|value| value.is_finite()) {
            loss = f64::NAN;
            for gradient in [&mut query_gradient, &mut key_gradient].into_iter().flatten() {
                gradient.fill(f32::NAN);
            }
        }
        let tensor = |gradient: Option<Vec<f32>>, layout: &Layout| {
            gradient.map(|g| Tensor::from_vec(g, layout.shape(), &Device::Cpu)).transpose()
        };
        let gradients = [tensor(query_gradient, query_layout)?, tensor(key_gradient, key_layout)?];
        // A second forward pass of the same operation gives the same gradients.
        let _ = self.gradients.set(gradients);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some([of_queries, of_keys]) = self.gradients.get() else {
            bail!("cross_contrast: the backward pass needs a forward pass")
        };
        let scale = f64::from(gradient.to_scalar::<f32>()?);
        let scaled = |gradient: &Option<Tensor>| gradient.as_ref().map(|g| g * scale).transpose();
        Ok((scaled(of_queries)?, scaled(of_keys)?))
    }
}
