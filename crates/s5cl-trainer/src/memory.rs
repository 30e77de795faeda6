//! How much memory a step takes, and which batch would fit.

use candle_core::{Device, Result};
use s5cl_kernels::{DeviceMemory, device_memory, forget_peak_memory};

use crate::Batch;

/// Parts of a batch whose steps are taken to tell how much memory the whole one needs, the smallest
/// first: a step drops what the one before had kept for its own size, and so must need more.
const PARTS: [usize; 3] = [16, 8, 4];
/// A share of the memory that is left alone: blocks of it cannot all be used.
const MARGIN: f64 = 0.1;

/// The memory of a device on which a step did not fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMemory {
    /// Bytes of the device.
    pub total: u64,
    /// Bytes of it that this program can use, those that it uses already included.
    pub available: u64,
    /// Bytes that it needs with this batch, estimated from smaller ones; none where those did not
    /// fit either.
    pub needed: Option<u64>,
    /// How often the batch must be halved until it fits; none where that does not help.
    pub halvings: Option<u32>,
}

impl StepMemory {
    /// Takes smaller steps with `attempt`, and measures them.
    pub(crate) fn measure(
        device: &Device,
        batch: &Batch,
        attempt: impl Fn(&Batch) -> Result<()>,
    ) -> Result<Option<Self>> {
        let Some(DeviceMemory { total, available, used, .. }) = device_memory(device)? else {
            return Ok(None);
        };
        let measured = PARTS.map(|n_parts| -> Result<(usize, u64)> {
            let part = batch.part(n_parts);
            device.synchronize()?;
            forget_peak_memory(device)?;
            attempt(&part)?;
            let peak = device_memory(device)?.map_or(0, |memory| memory.peak);
            Ok((part.n_views(), peak))
        });
        let measured = match measured {
            // Before the first one lies what the step that failed had kept.
            [Ok(_), Ok(small), Ok(large)] => Some([small, large]),
            // Even these do not fit.
            _ => None,
        };
        Ok(Some(Self::new(total, available + used, measured, batch.n_views())))
    }

    /// From the views and bytes of two smaller steps; the step with `n_views` is taken to be on the
    /// line through them.
    fn new(
        total: u64,
        available: u64,
        measured: Option<[(usize, u64); 2]>,
        n_views: usize,
    ) -> Self {
        let Some([(few, small), (more, large)]) = measured else {
            return Self { total, available, needed: None, halvings: None };
        };
        let per_view = large.saturating_sub(small) as f64 / more.saturating_sub(few).max(1) as f64;
        let needed = |n_views: usize| small as f64 + per_view * (n_views as f64 - few as f64);
        let most = (1.0 - MARGIN) * available as f64;
        let mut halvings = (1..usize::BITS).take_while(|halvings| n_views >> halvings > 0);
        let halvings = halvings.find(|halvings| needed(n_views >> halvings) <= most);
        Self { total, available, needed: Some(needed(n_views) as u64), halvings }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::StepMemory;
    use crate::{Batch, Views};

    const MIB: u64 = 1 << 20;

    /// Of a device with so many MiB available, and a step that takes 50 and 2 a view.
    fn of(available: u64, n_views: usize) -> StepMemory {
        let step = |n: usize| (n, (50 + 2 * n as u64) * MIB);
        StepMemory::new(4096 * MIB, available * MIB, Some([step(40), step(80)]), n_views)
    }

    #[test]
    fn step_memory_is_on_the_line_of_smaller_steps() {
        // A tenth is left alone: of 650 MiB, 585 can be used.
        let memory = of(650, 320);
        assert_eq!((memory.needed, memory.halvings), (Some(690 * MIB), Some(1)));
        assert_eq!(of(400, 320).halvings, Some(2), "160 views would take 370");
        assert_eq!(of(300, 320).halvings, Some(2), "80 views take 210");
        assert_eq!(of(60, 320).halvings, Some(7), "2 views take 54");
        assert_eq!(of(40, 320).halvings, None, "what no view takes is too much");
        // What did not fit is not told to fit, whatever the estimate.
        assert_eq!(of(4096, 320).halvings, Some(1));
    }

    #[test]
    fn step_memory_without_a_smaller_step_that_fits_knows_no_batch() {
        let memory = StepMemory::new(9, 5, None, 320);
        assert_eq!((memory.total, memory.available), (9, 5));
        assert_eq!((memory.needed, memory.halvings), (None, None));
    }

    #[test]
    fn step_memory_is_not_told_of_the_cpu() {
        let views =
            Views { weak: vec![0; 3], strong: vec![0; 3], n_images: 1, height: 1, width: 1 };
        let batch = Batch { labeled: views, labels: vec![0], unlabeled: None, on_device: None };
        let measured = StepMemory::measure(&Device::Cpu, &batch, |_| Ok(()));
        assert!(matches!(measured, Ok(None)));
    }
}
