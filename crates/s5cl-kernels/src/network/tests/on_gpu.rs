//! A network on an emulated GPU, and how near its values are.
#![expect(unsafe_code, reason = "operands are raw pointers")]

use candle_core::{DType, Device, Result, Tensor};

use super::reference::Shape;
use crate::batch_norm::launch::Statistics;
use crate::checks::assert_close;
use crate::cuda::emulated::EmulatedGpu;
use crate::cuda::stored::{Stored, StoredType};
use crate::cuda::{Gpu, Memory, Pointer};
use crate::network::Network;
use crate::network::backward::Wanted;
use crate::network::buffers::Buffers;
use crate::network::gpu::{OfParameters, Run, Trained};
use crate::network::plan::Plan;

type Values = Memory<EmulatedGpu, f32>;

/// Fails unless the values are the reference's, but for what the type allows.
pub(super) fn assert_near<T: Stored>(
    what: &str,
    got: &[f32],
    expected: &[f64],
    single: f64,
    other: f64,
) {
    if T::TYPE == StoredType::F32 {
        return assert_close(what, got, expected, single);
    }
    assert_eq!(got.len(), expected.len(), "{what}");
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = length(&mut got.iter().zip(expected).map(|(&got, e)| f64::from(got) - e));
    let most = other * length(&mut expected.iter().copied());
    assert!(error <= most, "{:?} {what}: {error} from the reference, {most} allowed", T::TYPE);
}

/// A network on a GPU: its shapes and operands.
pub(super) struct OnGpu<'a> {
    gpu: &'a EmulatedGpu,
    plan: Plan,
    images: Values,
    _parameters: Vec<Values>,
    pointers: Vec<Pointer<f32>>,
    buffers: Buffers<Memory<EmulatedGpu, u8>>,
}

impl<'a> OnGpu<'a> {
    pub(super) fn new(
        gpu: &'a EmulatedGpu,
        network: &Network,
        (shape, images): &(Shape, Vec<f32>),
        parameters: &[(Vec<usize>, Vec<f32>)],
    ) -> Result<Self> {
        let tensor =
            |(shape, _): &(Vec<usize>, _)| Tensor::zeros(&shape[..], DType::F32, &Device::Cpu);
        let tensors: Vec<Tensor> = parameters.iter().map(tensor).collect::<Result<_>>()?;
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let plan = Plan::new(&network.layers, shape, &tensors)?;
        let parameters: Vec<Values> =
            parameters.iter().map(|(_, values)| gpu.upload(values)).collect::<Result<_>>()?;
        let pointers = parameters.iter().map(Memory::pointer).collect();
        let (images, buffers) = (gpu.upload(images)?, Buffers::default());
        Ok(Self { gpu, plan, images, _parameters: parameters, pointers, buffers })
    }

    pub(super) fn n_parameters(&self) -> usize {
        self.pointers.len()
    }

    fn run(&mut self) -> Run<'_, EmulatedGpu> {
        let Self { gpu, plan, pointers, buffers, .. } = self;
        Run { gpu, plan, parameters: pointers, rounds_factors: false, buffers }
    }

    pub(super) fn train<T: Stored>(&mut self) -> Trained<EmulatedGpu> {
        let images = self.images.pointer();
        // SAFETY: the operands have the plan's shapes.
        unsafe { self.run().train::<T>(images) }.unwrap()
    }

    pub(super) fn backward<T: Stored>(
        &mut self,
        trained: Trained<EmulatedGpu>,
        above: &[f32],
        wanted: &Wanted,
    ) -> OfParameters<EmulatedGpu> {
        let above = self.gpu.upload(above).unwrap();
        // SAFETY: the operands have the plan's shapes, the gradient that of the result.
        unsafe { self.run().backward::<T>(trained.kept, above.pointer(), wanted) }.unwrap()
    }

    /// With these means and variances.
    pub(super) fn evaluate<T: Stored>(&mut self, known: &[[Vec<f32>; 2]]) -> Vec<f32> {
        let (gpu, images) = (self.gpu, self.images.pointer());
        let upload = |values: &Vec<f32>| gpu.upload(values).unwrap();
        let memory: Vec<[Values; 2]> =
            known.iter().map(|[mean, variance]| [upload(mean), upload(variance)]).collect();
        let statistics = memory.iter().map(|[mean, variance]| Statistics {
            mean: mean.pointer(),
            variance: variance.pointer(),
        });
        let statistics: Vec<Statistics> = statistics.collect();
        // SAFETY: the operands have the plan's shapes.
        gpu.download(&unsafe { self.run().evaluate::<T>(images, &statistics) }.unwrap())
    }
}
