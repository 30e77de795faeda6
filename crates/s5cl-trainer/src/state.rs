//! Everything that a step changes.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use s5cl_backbone::{Model, Parameters};

use crate::{LossScale, Optimizer, WeightAverage};

const MODEL: &str = "model";
const OPTIMIZER: &str = "optimizer";
const AVERAGE: &str = "average";
const LOSS_SCALE: &str = "loss_scale";

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
    /// The factor of the loss, where gradients are in half precision.
    pub loss_scale: Option<LossScale>,
}

impl TrainState {
    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// Where the weights are, and steps are computed.
    #[must_use]
    pub fn device(&self) -> Device {
        self.parameters.device()
    }

    /// A copy of the weights to evaluate and to keep: of the average where it is on, else of the
    /// present ones. Later steps do not change it.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn weights(&self) -> Result<BTreeMap<String, Tensor>> {
        match &self.average {
            Some(average) => average.weights(),
            None => self.model_weights(),
        }
    }

    /// A copy of all of it by name, for a checkpoint. Later steps do not change it.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let average = self.average.as_ref().map(WeightAverage::weights).transpose()?;
        let parts = [
            (MODEL, self.model_weights()?),
            (OPTIMIZER, self.optimizer.state()?),
            (AVERAGE, average.unwrap_or_default()),
            (LOSS_SCALE, self.loss_scale.as_ref().map(LossScale::tensors).unwrap_or_default()),
        ];
        let named = parts.into_iter().flat_map(|(part, tensors)| {
            tensors.into_iter().map(move |(name, tensor)| (format!("{part}/{name}"), tensor))
        });
        Ok(named.collect())
    }

    /// Puts back what [`TrainState::tensors`] and [`TrainState::steps`] gave, from any device.
    ///
    /// # Errors
    ///
    /// If a tensor is missing, not f32 or of another shape.
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
            let weight = kept("weight", &model, &name, variable.shape())?;
            variable.set(&weight.to_device(variable.device())?)?;
        }
        if let Some(average) = &mut self.average {
            let weights = part(AVERAGE);
            if weights.len() != model.len() {
                bail!("there is no average of the weights")
            }
            average.restore(&weights)?;
        }
        if let Some(loss_scale) = &mut self.loss_scale {
            loss_scale.restore(&part(LOSS_SCALE))?;
        }
        self.optimizer.restore(&part(OPTIMIZER), steps)
    }

    /// Copies, because optimizer and normalization write into the values themselves.
    fn model_weights(&self) -> Result<BTreeMap<String, Tensor>> {
        self.parameters.all().into_iter().map(|(name, value)| Ok((name, value.copy()?))).collect()
    }
}

/// The tensor under a key of what was kept, if it is f32 of that shape; `what` it is, for errors.
pub(crate) fn kept<'a>(
    what: &str,
    tensors: &'a BTreeMap<String, Tensor>,
    key: &str,
    shape: &Shape,
) -> Result<&'a Tensor> {
    match tensors.get(key) {
        Some(tensor) if tensor.shape() == shape && tensor.dtype() == DType::F32 => Ok(tensor),
        Some(tensor) => {
            let (dtype, got) = (tensor.dtype(), tensor.shape());
            bail!("the {what} {key} is {dtype:?} {got:?}, expected F32 {shape:?}")
        }
        None => bail!("there is no {what} {key}"),
    }
}
