//! Optimizers whose whole state can be saved.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use s5cl_kernels::{GradientScale, Slot, StepConfig, StepItem, StepRule, optimizer_step};

use crate::TrainError;
use crate::state::kept;

/// The names under which [`OptimizerConfig::named`] knows rules.
pub const OPTIMIZERS: [&str; 3] = ["adamax", "sgd", "adamw"];

/// What an optimizer is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// The update rule.
    pub rule: StepRule,
    /// Pull of every parameter towards zero; not negative.
    pub weight_decay: f64,
}

impl OptimizerConfig {
    /// A rule with PyTorch's constants (for `sgd`: momentum 0.9 with Nesterov's look-ahead).
    ///
    /// # Errors
    ///
    /// If the name is not one of [`OPTIMIZERS`].
    pub fn named(name: &str, weight_decay: f64) -> std::result::Result<Self, TrainError> {
        let (betas, epsilon) = ([0.9, 0.999], 1e-8);
        let rule = match name {
            "adamax" => StepRule::Adamax { betas, epsilon },
            "sgd" => StepRule::Sgd { momentum: 0.9, nesterov: true },
            "adamw" => StepRule::AdamW { betas, epsilon },
            _ => {
                return Err(TrainError::Config(format!(
                    "unknown optimizer.name {name:?}: use one of {}",
                    OPTIMIZERS.join(", ")
                )));
            }
        };
        Ok(Self { rule, weight_decay })
    }
}

/// Moves parameters along their gradients, in place and on their device: a tensor that shares a
/// parameter's values moves with it.
///
/// The state is kept by the parameters' names, and starts at zero. A parameter without a gradient
/// stays as it is.
pub struct Optimizer {
    config: OptimizerConfig,
    /// Of the learning rate, where it is not 1.
    factors: BTreeMap<String, f64>,
    /// Of each parameter, what the rule remembers of it.
    parameters: BTreeMap<String, (Var, Vec<Slot>)>,
    steps: u64,
}

impl Optimizer {
    /// No step taken yet.
    ///
    /// # Errors
    ///
    /// If the weight decay is negative or not finite, or a device has no memory left.
    pub fn new(config: OptimizerConfig, parameters: BTreeMap<String, Var>) -> Result<Self> {
        if !(config.weight_decay >= 0.0 && config.weight_decay.is_finite()) {
            candle_core::bail!("weight_decay must be 0 or above, got {}", config.weight_decay)
        }
        let with_slots = parameters.into_iter().map(|(name, parameter)| {
            let zeros = |_: &&str| Slot::zeros(parameter.elem_count(), parameter.device());
            let slots = config.rule.slots().iter().map(zeros).collect::<Result<_>>()?;
            Ok((name, (parameter, slots)))
        });
        let (factors, parameters) = (BTreeMap::new(), with_slots.collect::<Result<_>>()?);
        Ok(Self { config, factors, parameters, steps: 0 })
    }

    /// With a learning rate of each parameter's own: a factor of the step's, by name; 1 where there
    /// is none.
    ///
    /// # Errors
    ///
    /// If a factor is negative or not finite.
    pub fn with_rate_factors(self, factors: BTreeMap<String, f64>) -> Result<Self> {
        match factors.iter().find(|(_, factor)| !(**factor >= 0.0 && factor.is_finite())) {
            Some((name, factor)) => {
                candle_core::bail!("the factor of {name}'s learning rate is {factor}")
            }
            None => Ok(Self { factors, ..self }),
        }
    }

    /// Takes one step with the given learning rate; gradients are by parameter name.
    ///
    /// Where the scale is by a norm that is not finite, nothing but the number of steps changes.
    ///
    /// # Errors
    ///
    /// If a gradient's shape or device is not its parameter's, one of both is not f32, or a number
    /// is out of its range.
    pub fn step(
        &mut self,
        gradients: &BTreeMap<String, Tensor>,
        learning_rate: f64,
        scale: GradientScale<'_>,
    ) -> Result<()> {
        self.steps += 1;
        let OptimizerConfig { rule, weight_decay } = self.config;
        // Parameters of the same rate are one step: numbers above 0 are in the order of their bits.
        let mut by_factor: BTreeMap<u64, Vec<StepItem<'_>>> = BTreeMap::new();
        for (name, (parameter, slots)) in &mut self.parameters {
            let Some(gradient) = gradients.get(name) else { continue };
            let factor = self.factors.get(name).copied().unwrap_or(1.0);
            let items = by_factor.entry(factor.to_bits()).or_default();
            items.push(StepItem { parameter, gradient, slots });
        }
        for (factor, mut items) in by_factor {
            let learning_rate = learning_rate * f64::from_bits(factor);
            let config = StepConfig { learning_rate, weight_decay, steps: self.steps };
            optimizer_step(rule, config, scale, &mut items)?;
        }
        Ok(())
    }

    /// The parameters' gradients out of a backward pass, by name.
    #[must_use]
    pub fn named_gradients(&self, gradients: &GradStore) -> BTreeMap<String, Tensor> {
        let named = |(name, (parameter, _)): (&String, &(Var, Vec<Slot>))| {
            gradients.get(parameter).map(|gradient| (name.clone(), gradient.clone()))
        };
        self.parameters.iter().filter_map(named).collect()
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A copy of the state by `slot/parameter`, on the parameters' devices.
    ///
    /// # Errors
    ///
    /// If a device has no memory left.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut copied = BTreeMap::new();
        for (name, (parameter, slots)) in &self.parameters {
            for (slot, values) in self.config.rule.slots().iter().zip(slots) {
                copied.insert(format!("{slot}/{name}"), values.to_tensor(parameter.shape())?);
            }
        }
        Ok(copied)
    }

    /// Puts back what [`Optimizer::state`] and [`Optimizer::steps`] gave, from any device.
    ///
    /// # Errors
    ///
    /// If a tensor of the state is missing, not f32 or of another shape; nothing is changed then.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        let mut restored = Vec::new();
        for (name, (parameter, _)) in &self.parameters {
            let slot = |slot: &&str| {
                let key = format!("{slot}/{name}");
                let values = kept("state of this optimizer", state, &key, parameter.shape())?;
                Slot::copy_of(&values.to_device(parameter.device())?)
            };
            let slots = self.config.rule.slots().iter().map(slot);
            restored.push(slots.collect::<Result<Vec<_>>>()?);
        }
        for ((_, slots), restored) in self.parameters.values_mut().zip(restored) {
            *slots = restored;
        }
        self.steps = steps;
        Ok(())
    }
}
