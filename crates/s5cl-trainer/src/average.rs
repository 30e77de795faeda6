//! An exponential moving average of the weights.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

/// The average over past steps of every weight and statistic of a model.
pub struct WeightAverage {
    decay: f64,
    average: BTreeMap<String, Tensor>,
}

impl WeightAverage {
    /// Starts at the present weights. `decay` is the share of the past, between 0 and 1.
    ///
    /// # Errors
    ///
    /// If a weight cannot be copied.
    pub fn new(decay: f64, parameters: &BTreeMap<String, Var>) -> Result<Self> {
        let copied = parameters.iter().map(|(name, value)| Ok((name.clone(), value.copy()?)));
        Ok(Self { decay, average: copied.collect::<Result<_>>()? })
    }

    /// Moves towards the present weights. The decay is at most `(1 + steps) / (10 + steps)`, so
    /// that the first steps do not weigh for long.
    ///
    /// # Errors
    ///
    /// If a weight cannot be read.
    pub fn update(&mut self, parameters: &BTreeMap<String, Var>, steps: u64) -> Result<()> {
        let steps = steps as f64;
        let decay = self.decay.min((1.0 + steps) / (10.0 + steps));
        for (name, average) in &mut self.average {
            if let Some(value) = parameters.get(name) {
                let value = value.as_detached_tensor();
                *average = ((&*average * decay)? + (value * (1.0 - decay))?)?;
            }
        }
        Ok(())
    }

    /// The averaged weights by name.
    #[must_use]
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.average
    }

    /// Puts back what [`WeightAverage::weights`] gave.
    pub fn restore(&mut self, weights: BTreeMap<String, Tensor>) {
        self.average = weights;
    }
}
