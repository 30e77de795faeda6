//! Running statistics, by which a model is evaluated.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use crate::values::{operand, operand_mut};

/// Moves running statistics towards those of a batch, as PyTorch's batch normalization does.
///
/// ```text
/// running = (1 - momentum) * running + momentum * of_batch
/// ```
///
/// # Shapes
///
/// - each pair: f32 `[channels]`; the first is changed in place, for all that share it
///
/// `momentum` is from 0 to 1.
///
/// # Errors
///
/// If the shapes of a pair differ, a tensor is not contiguous f32, they are not on one device, or
/// the momentum is out of its range.
pub fn running_statistics_step(pairs: &[(&Tensor, &Tensor)], momentum: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&momentum) {
        bail!("{NAME}: momentum {momentum} is not from 0 to 1")
    }
    for (running, of_batch) in pairs {
        if running.dims() != of_batch.dims() {
            let (running, of_batch) = (running.shape(), of_batch.shape());
            bail!("{NAME}: {of_batch:?} of a batch does not fit {running:?}")
        }
    }
    let shares = [(1.0 - momentum) as f32, momentum as f32];
    #[cfg(feature = "cuda")]
    if pairs.first().is_some_and(|(running, _)| running.device().is_cuda()) {
        return super::cuda::move_running(pairs, shares);
    }
    for (running, of_batch) in pairs {
        running.inplace_op2(of_batch, &Move { shares })?;
    }
    Ok(())
}

pub(super) const NAME: &str = "running_statistics_step";

/// One value.
pub(super) fn moved(running: f32, of_batch: f32, [kept, share]: [f32; 2]) -> f32 {
    running * kept + of_batch * share
}

struct Move {
    shares: [f32; 2],
}

impl InplaceOp2 for Move {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        running: &mut CpuStorage,
        running_layout: &Layout,
        of_batch: &CpuStorage,
        of_batch_layout: &Layout,
    ) -> Result<()> {
        let running = operand_mut(running, running_layout, NAME)?;
        let of_batch = operand(of_batch, of_batch_layout, NAME)?;
        for (running, &of_batch) in running.iter_mut().zip(of_batch) {
            *running = moved(*running, of_batch, self.shares);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor};

    use super::running_statistics_step;
    use crate::checks::{refusal, values};

    #[test]
    fn running_statistics_move_by_the_momentum_in_place() -> Result<()> {
        let running = Tensor::new(&[1_f32, 8.0], &Device::Cpu)?;
        let shared = running.clone();
        let of_batch = Tensor::new(&[5_f32, 0.0], &Device::Cpu)?;
        running_statistics_step(&[(&running, &of_batch)], 0.25)?;
        assert_eq!(values(&shared)?, [2.0, 6.0]);
        Ok(())
    }

    #[test]
    fn running_statistics_refuse_what_does_not_fit() -> Result<()> {
        let [two, three] = [2, 3].map(|n| Tensor::ones(n, DType::F32, &Device::Cpu));
        let (two, three) = (two?, three?);
        let message = refusal(running_statistics_step(&[(&two, &three)], 0.1));
        assert!(message.contains("[3] of a batch does not fit [2]"), "{message}");
        let message = refusal(running_statistics_step(&[(&two, &two)], 1.5));
        assert!(message.contains("momentum 1.5"), "{message}");
        let double = two.to_dtype(DType::F64)?;
        let message = refusal(running_statistics_step(&[(&two, &double)], 0.5));
        assert!(message.contains("running_statistics_step"), "{message}");
        Ok(())
    }
}
