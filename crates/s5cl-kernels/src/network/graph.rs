//! How a network takes part in candle's graph.
//!
//! An operation of candle has at most three operands, a network dozens of parameters. So the
//! parameters are tied, two at a time, to a token, one value that is the network's second operand:
//! on the way back, candle asks the network first, which computes all gradients, and then the
//! ties, which hand them out.

use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail,
};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;

use super::backward::{Wanted, backward};
use super::cpu::{Cpu, CpuTape};
#[cfg(feature = "cuda")]
use super::cuda;
use super::forward::train;
use super::plan::Plan;
use super::{BatchStatistics, Network};
use crate::values::{Values, operand};

/// The gradients of the parameters, between the network and the ties.
#[derive(Default)]
pub(super) struct Shared {
    gradients: Mutex<Vec<Option<Tensor>>>,
}

impl Shared {
    fn take(&self, index: usize, parameter: &Tensor) -> Result<Option<Tensor>> {
        let Ok(mut gradients) = self.gradients.lock() else { bail!("network: a pass panicked") };
        match gradients.get_mut(index).and_then(Option::take) {
            Some(gradient) => Ok(Some(gradient)),
            // candle panics where a tensor that was computed from a variable has no gradient.
            None if parameter.track_op() && !parameter.is_variable() => {
                parameter.zeros_like().map(Some)
            }
            None => Ok(None),
        }
    }
}

/// A token that all parameters are tied to.
pub(super) fn attached(
    parameters: &[Tensor],
    shared: &Arc<Shared>,
    device: &Device,
) -> Result<Tensor> {
    let none = Tensor::zeros(1, DType::F32, device)?;
    let mut token = none.clone();
    for (pair, parameters) in parameters.chunks(2).enumerate() {
        let tie = Tie { first: 2 * pair, shared: shared.clone() };
        let second = parameters.get(1).unwrap_or(&none);
        token = token.apply_op3(&parameters[0], second, tie)?;
    }
    Ok(token)
}

/// Ties one or two parameters to the token.
struct Tie {
    first: usize,
    shared: Arc<Shared>,
}

impl CustomOp3 for Tie {
    fn name(&self) -> &'static str {
        "network_parameters"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), 1.into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        token: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::token(&token.device)
    }

    fn bwd(
        &self,
        _token: &Tensor,
        first: &Tensor,
        second: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of_first = self.shared.take(self.first, first)?;
        let of_second = self.shared.take(self.first + 1, second)?;
        Ok((Some(gradient.clone()), of_first, of_second))
    }
}

/// The network: images and the token in, the last layer's maps out.
pub(super) struct Core {
    pub(super) network: Network,
    pub(super) needs_images: bool,
    pub(super) parameters: Vec<Tensor>,
    pub(super) shared: Arc<Shared>,
    /// Of the batch, set by the forward pass.
    pub(super) statistics: Arc<OnceLock<Vec<BatchStatistics>>>,
    pub(super) kept: Mutex<Option<Kept>>,
}

/// What the forward pass keeps for the way back.
pub(super) enum Kept {
    Cpu(Plan, CpuTape),
    #[cfg(feature = "cuda")]
    Cuda(Plan, cuda::CudaKept),
}

impl Core {
    /// A pass that learns needs other memory than one that only computes.
    fn purpose(images: &[usize]) -> Vec<usize> {
        [images, &[0]].concat()
    }

    fn wanted(&self) -> Wanted {
        let parameters = self.parameters.iter().map(Tensor::track_op).collect();
        Wanted { images: self.needs_images, parameters }
    }

    fn values(&self) -> Result<Vec<Values<'_>>> {
        self.parameters.iter().map(|p| Values::of(p, "network")).collect()
    }

    fn plan(&self, images: &[usize]) -> Result<Plan> {
        let parameters: Vec<&Tensor> = self.parameters.iter().collect();
        Plan::new(&self.network.layers, images, &parameters)
    }

    fn keep(&self, kept: Kept) -> Result<()> {
        let Ok(mut place) = self.kept.lock() else { bail!("network: a pass panicked") };
        *place = Some(kept);
        Ok(())
    }

    /// Hands the parameters' gradients to the ties, and returns the images' and the token's.
    fn hand_out(
        &self,
        images: Option<Tensor>,
        parameters: Vec<Option<Tensor>>,
        token: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Ok(mut shared) = self.shared.gradients.lock() else {
            bail!("network: a pass panicked")
        };
        *shared = parameters;
        Ok((images, Some(Tensor::zeros_like(token)?)))
    }

    fn backward_on_cpu(
        &self,
        plan: &Plan,
        tape: CpuTape,
        images: &Tensor,
        token: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let gradient = Values::of(&gradient, "network")?;
        let mut buffers = self.network.buffers.take(&Self::purpose(images.dims()));
        let (values, wanted) = (self.values()?, self.wanted());
        let mut cpu = Cpu::new(plan, &values, &[], &mut buffers);
        let gradient = cpu.copy(&gradient);
        let of_images = backward(&mut cpu, tape, gradient, &wanted)?;
        let of_parameters = std::mem::take(&mut cpu.gradients);
        self.network.buffers.give(buffers);
        let device = images.device();
        let of_images =
            of_images.map(|v| Tensor::from_vec(v, images.shape(), device)).transpose()?;
        let of_parameters = of_parameters.into_iter().zip(&self.parameters).map(|(values, of)| {
            let values = values.filter(|_| of.track_op());
            values.map(|v| Tensor::from_vec(v, of.shape(), device)).transpose()
        });
        self.hand_out(of_images, of_parameters.collect::<Result<_>>()?, token)
    }
}

impl CustomOp2 for Core {
    fn name(&self) -> &'static str {
        "network"
    }

    fn cpu_fwd(
        &self,
        images: &CpuStorage,
        images_layout: &Layout,
        _token: &CpuStorage,
        _token_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let plan = self.plan(images_layout.dims())?;
        let shape = Shape::from(plan.result());
        let images = operand(images, images_layout, "network")?;
        let mut buffers = self.network.buffers.take(&Self::purpose(images_layout.dims()));
        let values = self.values()?;
        let mut cpu = Cpu::new(&plan, &values, &[], &mut buffers);
        let images = cpu.copy(images);
        let mut tape = train(&mut cpu, images)?;
        let moments = tape.norms.iter().flatten().map(|norm| &norm.moments);
        let statistics = moments.map(BatchStatistics::on_cpu).collect::<Result<_>>()?;
        let _ = self.statistics.set(statistics);
        // The last layer's values are the result; nothing reads them on the way back but a mask.
        let result = tape.values.last().cloned().unwrap_or_default();
        let wanted = self.wanted();
        if wanted.images || wanted.parameters.contains(&true) {
            self.keep(Kept::Cpu(plan, tape))?;
        } else {
            tape.values.drain(..).for_each(|values| buffers.give(values));
        }
        self.network.buffers.give(buffers);
        Ok((CpuStorage::F32(result), shape))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        images: &CudaStorage,
        images_layout: &Layout,
        _token: &CudaStorage,
        _token_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let plan = self.plan(images_layout.dims())?;
        let shape = Shape::from(plan.result());
        let images = (images, images_layout);
        let (result, statistics, kept) =
            cuda::train(&self.network, &plan, images, &self.parameters)?;
        let _ = self.statistics.set(statistics);
        let wanted = self.wanted();
        if wanted.images || wanted.parameters.contains(&true) {
            self.keep(Kept::Cuda(plan, kept))?;
        }
        Ok((result, shape))
    }

    fn bwd(
        &self,
        images: &Tensor,
        token: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        match self.kept.lock().ok().and_then(|mut kept| kept.take()) {
            Some(Kept::Cpu(plan, tape)) => {
                self.backward_on_cpu(&plan, tape, images, token, gradient)
            }
            #[cfg(feature = "cuda")]
            Some(Kept::Cuda(plan, kept)) => {
                let (network, parameters, wanted) =
                    (&self.network, &self.parameters, self.wanted());
                let operands = (images, gradient);
                let (of_images, of_parameters) =
                    cuda::backward(network, &plan, kept, operands, parameters, &wanted)?;
                self.hand_out(of_images, of_parameters, token)
            }
            None => {
                bail!("network: the backward pass has used up the values of its forward pass")
            }
        }
    }
}
