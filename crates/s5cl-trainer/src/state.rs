//! Everything that a step changes.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use s5cl_backbone::{Model, Parameters};

use crate::{Optimizer, WeightAverage};

const MODEL: &str = "model";
const OPTIMIZER: &str = "optimizer";
const AVERAGE: &str = "average";

/// Weights, optimizer, average of the weights, and how many steps made them.
pub struct TrainState {
    /// The model whose weights are trained.
    pub model: Model,
    /// Its weights and statistics.
    pub parameters: Parameters,
    /// The optimizer over the trainable ones.
    pub optimizer: Optimizer,
    /// The average of the weights, where it is on.
    pub average: Option<WeightAverage>,
}

impl TrainState {
    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The weights to evaluate and to keep: the average where it is on, else the present ones.
    #[must_use]
    pub fn weights(&self) -> BTreeMap<String, Tensor> {
        match &self.average {
            Some(average) => average.weights().clone(),
            None => self.model_weights(),
        }
    }

    /// All of it by name, for a checkpoint.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let average = self.average.as_ref().map(|a| a.weights().clone()).unwrap_or_default();
        let parts = [
            (MODEL, self.model_weights()),
            (OPTIMIZER, self.optimizer.state()),
            (AVERAGE, average),
        ];
        let named = parts.into_iter().flat_map(|(part, tensors)| {
            tensors.into_iter().map(move |(name, tensor)| (format!("{part}/{name}"), tensor))
        });
        named.collect()
    }

    /// Puts back what [`TrainState::tensors`] and [`TrainState::steps`] gave.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or has another shape.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        let part = |part: &str| -> BTreeMap<String, Tensor> {
            let of_part = |(name, tensor): (&String, &Tensor)| {
                let (prefix, rest) = name.split_once('/')?;
                (prefix == part).then(|| (rest.to_owned(), tensor.clone()))
            };
            tensors.iter().filter_map(of_part).collect()
        };
        let model = part(MODEL);
        for (name, variable) in self.parameters.all() {
            match model.get(&name) {
                Some(tensor) => variable.set(tensor)?,
                None => candle_core::bail!("there is no weight {name}"),
            }
        }
        if let Some(average) = &mut self.average {
            let weights = part(AVERAGE);
            if weights.len() != model.len() {
                candle_core::bail!("there is no average of the weights")
            }
            average.restore(weights);
        }
        self.optimizer.restore(&part(OPTIMIZER), steps)
    }

    fn model_weights(&self) -> BTreeMap<String, Tensor> {
        self.parameters.all().into_iter().map(|(k, v)| (k, v.as_detached_tensor())).collect()
    }
}
