//! Networks of candle's tensors on CUDA devices.
#![expect(unsafe_code, reason = "operands become raw pointers")]

use std::hash::{DefaultHasher, Hash, Hasher};

use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};

use super::backward::Wanted;
use super::buffers::{Buffers, Store};
use super::gpu::{Kept, OfParameters, Run, Trained};
use super::plan::Plan;
use super::{BatchStatistics, Network, Precision};
use crate::batch_norm::launch::Statistics;
use crate::cuda::{CudaGpu, Memory, Pointer, operand, values};

/// Memory of a CUDA device, between passes.
pub(super) type CudaStore = Store<Memory<CudaGpu, u8>>;

/// What is kept for the way back.
pub(super) type CudaKept = Kept<CudaGpu>;

/// Calls a generic method with the type of a precision.
macro_rules! with_type {
    ($precision:expr, $run:ident.$method:ident($($argument:expr),*)) => {
        match $precision {
            Precision::F32 | Precision::Tf32 => $run.$method::<f32>($($argument),*),
            Precision::Bf16 => $run.$method::<bf16>($($argument),*),
            Precision::F16 => $run.$method::<f16>($($argument),*),
        }
    };
}

/// Memory is for images of a shape on a device, and for a kind of pass.
fn purpose(images: &[usize], device: &CudaDevice, learns: bool) -> Vec<usize> {
    let mut hasher = DefaultHasher::new();
    device.id().hash(&mut hasher);
    [images, &[hasher.finish() as usize, usize::from(learns)]].concat()
}

fn pointers(tensors: &[Tensor], device: &CudaDevice) -> Result<Vec<Pointer<f32>>> {
    let pointer = |tensor: &Tensor| {
        if tensor.device().as_cuda_device()?.id() != device.id() {
            bail!("network: parameter {:?} is not on the images' device", tensor.shape())
        }
        values::<f32>(tensor, "network")
    };
    tensors.iter().map(pointer).collect()
}

/// A pass of the network on a device.
struct Pass<'a> {
    network: &'a Network,
    gpu: CudaGpu,
    plan: &'a Plan,
    parameters: &'a [Tensor],
}

impl Pass<'_> {
    /// Runs it with free memory.
    fn run<R>(
        &self,
        purpose: &[usize],
        pass: impl FnOnce(&mut Run<'_, CudaGpu>) -> Result<R>,
    ) -> Result<R> {
        let parameters = pointers(self.parameters, self.gpu.device())?;
        let mut buffers: Buffers<_> = self.network.cuda_buffers.take(purpose);
        let done = pass(&mut Run {
            gpu: &self.gpu,
            plan: self.plan,
            parameters: &parameters,
            rounds_factors: self.network.precision == Precision::Tf32,
            buffers: &mut buffers,
        });
        self.network.cuda_buffers.give(buffers);
        done
    }
}

/// A pass that learns.
pub(super) fn train(
    network: &Network,
    plan: &Plan,
    (images, layout): (&CudaStorage, &Layout),
    parameters: &[Tensor],
) -> Result<(CudaStorage, Vec<BatchStatistics>, CudaKept)> {
    let gpu = CudaGpu::of(&images.device);
    let purpose = purpose(layout.dims(), &images.device, true);
    let images = operand::<f32>(images, layout, "network")?;
    let pass = Pass { network, gpu: gpu.clone(), plan, parameters };
    // SAFETY: the plan was made for these images and parameters.
    let trained =
        pass.run(&purpose, |run| unsafe { with_type!(network.precision, run.train(images)) })?;
    let Trained { result, statistics, starts, kept } = trained;
    let len = statistics.len();
    let all = gpu.tensor(statistics, len);
    let statistics = starts.iter().zip(plan.norm_channels()).map(|(&start, channels)| {
        let (mean, variance) =
            (all.narrow(0, start, channels)?, all.narrow(0, start + channels, channels)?);
        Ok(BatchStatistics { mean, variance })
    });
    Ok((gpu.storage(result), statistics.collect::<Result<_>>()?, kept))
}

/// The way back. The gradients of the images and of the parameters, those that are wanted.
pub(super) fn backward(
    network: &Network,
    plan: &Plan,
    kept: CudaKept,
    (images, gradient): (&Tensor, &Tensor),
    parameters: &[Tensor],
    wanted: &Wanted,
) -> Result<(Option<Tensor>, Vec<Option<Tensor>>)> {
    let device = images.device().as_cuda_device()?;
    let gpu = CudaGpu::of(device);
    let purpose = purpose(images.dims(), device, true);
    let gradient = gradient.contiguous()?;
    let above = values::<f32>(&gradient, "network")?;
    let pass = Pass { network, gpu: gpu.clone(), plan, parameters };
    let gradients = pass.run(&purpose, |run| {
        // SAFETY: the plan was made for these parameters, and the gradient is of its result.
        unsafe { with_type!(network.precision, run.backward(kept, above, wanted)) }
    })?;
    let OfParameters { images: of_images, parameters: of_parameters, starts } = gradients;
    let of_images = of_images.map(|values| gpu.tensor(values, images.shape()));
    let len = of_parameters.len();
    let all = gpu.tensor(of_parameters, len);
    let of_parameters = starts.iter().zip(parameters).map(|(start, parameter)| {
        let part = |&start: &usize| {
            all.narrow(0, start, parameter.elem_count())?.reshape(parameter.shape())
        };
        start.as_ref().map(part).transpose()
    });
    Ok((of_images, of_parameters.collect::<Result<_>>()?))
}

/// A pass that only computes; everything is contiguous.
pub(super) fn evaluate(
    network: &Network,
    plan: &Plan,
    images: &Tensor,
    parameters: &[Tensor],
    statistics: &[(&Tensor, &Tensor)],
) -> Result<Tensor> {
    let device = images.device().as_cuda_device()?;
    let gpu = CudaGpu::of(device);
    let purpose = purpose(images.dims(), device, false);
    let pixels = values::<f32>(images, "network")?;
    let owned: Vec<[Tensor; 2]> = statistics
        .iter()
        .map(|(mean, variance)| Ok([mean.contiguous()?, variance.contiguous()?]))
        .collect::<Result<_>>()?;
    let known = owned.iter().map(|[mean, variance]| {
        let (mean, variance) =
            (values::<f32>(mean, "network")?, values::<f32>(variance, "network")?);
        Ok(Statistics { mean, variance })
    });
    let known: Vec<Statistics> = known.collect::<Result<_>>()?;
    let pass = Pass { network, gpu: gpu.clone(), plan, parameters };
    let result = pass.run(&purpose, |run| {
        // SAFETY: the plan was made for these images and parameters, and the statistics fit it.
        unsafe { with_type!(network.precision, run.evaluate(pixels, &known)) }
    })?;
    Ok(gpu.tensor(result, plan.result()))
}

/// One value that nobody reads.
pub(super) fn token(device: &CudaDevice) -> Result<(CudaStorage, Shape)> {
    use crate::cuda::Gpu;
    let gpu = CudaGpu::of(device);
    Ok((gpu.storage(gpu.allocate::<f32>(1)?), 1.into()))
}
