//! Contrast of queries against keys as an operation on CUDA devices.

use std::sync::Mutex;

use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use super::launch::{Cross, Given, Inputs, Temperatures};
use crate::cuda::{CudaGpu, Gpu, Pointer, operand, values};
use crate::similarity::gpu::split_rows::Rows;
use crate::similarity::{CrossContrast, Positives};

/// What the messages say.
const NAME: &str = "cross_contrast";

/// The loss of queries `[n, dim]` against keys `[n_keys, dim]`; shapes, types and temperatures were
/// checked.
pub(in crate::similarity) fn apply(
    queries: &Tensor,
    keys: &Tensor,
    config: &CrossContrast<'_>,
) -> Result<Tensor> {
    let optional = |tensor: Option<&Tensor>| tensor.map(Tensor::contiguous).transpose();
    let op = CudaCross {
        temperatures: config.temperatures.to_vec(),
        positives: match config.positives {
            Positives::Labels { queries, keys } | Positives::Shares { queries, keys } => {
                [queries.contiguous()?, keys.contiguous()?]
            }
        },
        weights: [optional(config.query_weights)?, optional(config.key_weights)?],
        excluded: optional(config.excluded)?,
        is_tracked: [queries.track_op(), keys.track_op()],
        computed: Mutex::default(),
    };
    queries.contiguous()?.apply_op2(&keys.contiguous()?, op)
}

struct CudaCross {
    temperatures: Vec<f64>,
    /// Labels or shares of queries and keys.
    positives: [Tensor; 2],
    weights: [Option<Tensor>; 2],
    excluded: Option<Tensor>,
    /// Whether queries and keys want a gradient.
    is_tracked: [bool; 2],
    /// What the backward pass takes; it can be run as often as the graph asks for it.
    computed: Mutex<Option<Cross<CudaGpu>>>,
}

impl CudaCross {
    /// What there is to know of the rows of one side.
    fn given(&self, storage: &CudaStorage, layout: &Layout, side: usize) -> Result<Given> {
        let positives = &self.positives[side];
        let (labels, shares) = match positives.dtype() {
            DType::U32 => (values(positives, NAME)?, Pointer::NULL),
            _ => (Pointer::NULL, values(positives, NAME)?),
        };
        let (n, _) = layout.shape().dims2()?;
        Ok(Given {
            rows: Rows { values: operand(storage, layout, NAME)?, n },
            labels,
            shares,
            weights: self.weights[side].as_ref().map_or(Ok(Pointer::NULL), |w| values(w, NAME))?,
        })
    }
}

impl CustomOp2 for CudaCross {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("{NAME}: queries and keys left the GPU")
    }

    fn cuda_fwd(
        &self,
        queries: &CudaStorage,
        query_layout: &Layout,
        keys: &CudaStorage,
        key_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let gpu = CudaGpu::of(&queries.device);
        // All kernels that take them are started before they are given back.
        let each = (self.temperatures.len() != 1).then(|| gpu.upload(&self.temperatures));
        let each = each.transpose()?;
        let inputs = Inputs {
            queries: self.given(queries, query_layout, 0)?,
            keys: self.given(keys, key_layout, 1)?,
            temperatures: match &each {
                Some(each) => Temperatures::Each(each.pointer()),
                None => Temperatures::One(self.temperatures[0]),
            },
            excluded: self.excluded.as_ref().map_or(Ok(Pointer::NULL), |e| values(e, NAME))?,
            n_classes: match *self.positives[0].dims() {
                [_, n_classes] => n_classes,
                _ => 0,
            },
            dim: query_layout.shape().dims2()?.1,
        };
        let (cross, loss) = Cross::forward(&gpu, inputs)?;
        if self.is_tracked != [false; 2] {
            let Ok(mut computed) = self.computed.lock() else { bail!("{NAME}: a pass panicked") };
            *computed = Some(cross);
        }
        Ok((gpu.storage(loss), ().into()))
    }

    fn bwd(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        _: &Tensor,
        from_above: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Ok(computed) = self.computed.lock() else { bail!("{NAME}: a pass panicked") };
        let Some(cross) = &*computed else {
            bail!("{NAME}: the backward pass needs the forward pass of a tracked tensor")
        };
        let gpu = CudaGpu::of(queries.device().as_cuda_device()?);
        let from_above = from_above.contiguous()?;
        let gradient = |side: usize, rows: &Tensor| -> Result<Option<Tensor>> {
            if !self.is_tracked[side] {
                return Ok(None);
            }
            let gradient = cross.backward(&gpu, side == 1, values(&from_above, NAME)?)?;
            Ok(Some(gpu.tensor(gradient, rows.shape())))
        };
        Ok((gradient(0, queries)?, gradient(1, keys)?))
    }
}
