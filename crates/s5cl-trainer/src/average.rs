//! An exponential moving average of the weights.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Shape, Tensor, Var, bail};
use s5cl_kernels::average_step;

use crate::state::kept;

/// The average over past steps of every weight and statistic of a model.
pub struct WeightAverage {
    decay: f64,
    /// Shape and values of each, which are nobody else's: they change in place.
    average: BTreeMap<String, (Shape, Vec<f32>)>,
}

impl WeightAverage {
    /// Starts at the present weights. `decay` is the share of the past, from 0 to 1.
    ///
    /// # Errors
    ///
    /// If a weight is not f32, or the decay is out of its range.
    pub fn new(decay: f64, parameters: &BTreeMap<String, Var>) -> Result<Self> {
        if !(0.0..=1.0).contains(&decay) {
            bail!("the decay of the average must be from 0 to 1, got {decay}")
        }
        let copied = parameters.iter().map(|(name, value)| Ok((name.clone(), owned(value)?)));
        Ok(Self { decay, average: copied.collect::<Result<_>>()? })
    }

    /// Moves towards the present weights. The decay is at most `(1 + steps) / (10 + steps)`, so
    /// that the first steps do not weigh for long.
    ///
    /// # Errors
    ///
    /// If a weight cannot be read, or has another shape by now.
    pub fn update(&mut self, parameters: &BTreeMap<String, Var>, steps: u64) -> Result<()> {
        let steps = steps as f64;
        let decay = self.decay.min((1.0 + steps) / (10.0 + steps));
        for (name, (_shape, average)) in &mut self.average {
            if let Some(value) = parameters.get(name) {
                average_step(average, value, decay)?;
            }
        }
        Ok(())
    }

    /// A copy of the averaged weights by name.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn weights(&self) -> Result<BTreeMap<String, Tensor>> {
        let copied = self.average.iter().map(|(name, (shape, values))| {
            Ok((name.clone(), Tensor::from_slice(values, shape, &Device::Cpu)?))
        });
        copied.collect()
    }

    /// Puts back what [`WeightAverage::weights`] gave.
    ///
    /// # Errors
    ///
    /// If a weight is missing, not f32 or of another shape; nothing is changed then.
    pub fn restore(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut restored = BTreeMap::new();
        for (name, (shape, _values)) in &self.average {
            restored.insert(name.clone(), owned(kept("average of", weights, name, shape)?)?);
        }
        self.average = restored;
        Ok(())
    }
}

fn owned(tensor: &Tensor) -> Result<(Shape, Vec<f32>)> {
    Ok((tensor.shape().clone(), tensor.flatten_all()?.to_vec1()?))
}
