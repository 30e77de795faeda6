//! An exponential moving average of the weights.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var, bail};
use s5cl_kernels::{Slot, average_step};

use crate::state::kept;

/// The average over past steps of every weight and statistic of a model, on its device.
pub struct WeightAverage {
    decay: f64,
    /// Of each weight, its present values and their average.
    weights: BTreeMap<String, (Var, Slot)>,
}

impl WeightAverage {
    /// Starts at the present weights, which it follows. `decay` is the share of the past, from 0
    /// to 1.
    ///
    /// # Errors
    ///
    /// If a weight is not f32, or the decay is out of its range.
    pub fn new(decay: f64, parameters: &BTreeMap<String, Var>) -> Result<Self> {
        if !(0.0..=1.0).contains(&decay) {
            bail!("the decay of the average must be from 0 to 1, got {decay}")
        }
        let copied = parameters
            .iter()
            .map(|(name, present)| Ok((name.clone(), (present.clone(), Slot::copy_of(present)?))));
        Ok(Self { decay, weights: copied.collect::<Result<_>>()? })
    }

    /// Moves towards the present weights. The decay is at most `(1 + steps) / (10 + steps)`, so
    /// that the first steps do not weigh for long.
    ///
    /// # Errors
    ///
    /// If a device fails.
    pub fn update(&mut self, steps: u64) -> Result<()> {
        let steps = steps as f64;
        let decay = self.decay.min((1.0 + steps) / (10.0 + steps));
        let items =
            self.weights.values_mut().map(|(present, average)| (average, present.as_tensor()));
        average_step(&mut items.collect::<Vec<_>>(), decay)
    }

    /// A copy of the averaged weights by name, on their devices.
    ///
    /// # Errors
    ///
    /// If a device has no memory left.
    pub fn weights(&self) -> Result<BTreeMap<String, Tensor>> {
        let copied = self.weights.iter().map(|(name, (present, average))| {
            Ok((name.clone(), average.to_tensor(present.shape())?))
        });
        copied.collect()
    }

    /// Puts back what [`WeightAverage::weights`] gave, from any device.
    ///
    /// # Errors
    ///
    /// If a weight is missing, not f32 or of another shape; nothing is changed then.
    pub fn restore(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut restored = Vec::new();
        for (name, (present, _)) in &self.weights {
            let values = kept("average of", weights, name, present.shape())?;
            restored.push(Slot::copy_of(&values.to_device(present.device())?)?);
        }
        for ((_, average), restored) in self.weights.values_mut().zip(restored) {
            *average = restored;
        }
        Ok(())
    }
}
