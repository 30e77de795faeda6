//! Optimizers whose whole state can be saved.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use s5cl_kernels::{StepConfig, adamax_step, adamw_step, sgd_step};

use crate::TrainError;
use crate::state::kept;

/// The update rule and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Adamax; weight decay is added to the gradient. Kingma and Ba, "Adam", 2015, section 7.1,
    /// with `torch.optim.Adamax`'s place of epsilon.
    Adamax {
        /// Decay of the mean of gradients and of their largest size.
        betas: [f64; 2],
        /// Added to the size of the gradient.
        epsilon: f64,
    },
    /// Stochastic gradient descent as `torch.optim.SGD`; weight decay is added to the gradient.
    Sgd {
        /// Decay of the running sum of gradients; 0 for none.
        momentum: f64,
        /// Nesterov's look-ahead.
        nesterov: bool,
    },
    /// Adam with decoupled weight decay: Loshchilov and Hutter, 2019, as `torch.optim.AdamW`.
    AdamW {
        /// Decay of the first and second moment.
        betas: [f64; 2],
        /// Added to the root of the second moment.
        epsilon: f64,
    },
}

/// The names under which [`Rule::named`] makes rules.
pub const OPTIMIZERS: [&str; 3] = ["adamax", "sgd", "adamw"];

impl Rule {
    /// A rule with PyTorch's constants (for `sgd`: momentum 0.9 with Nesterov's look-ahead).
    ///
    /// # Errors
    ///
    /// If the name is not one of [`OPTIMIZERS`].
    pub fn named(name: &str) -> std::result::Result<Self, TrainError> {
        let (betas, epsilon) = ([0.9, 0.999], 1e-8);
        match name {
            "adamax" => Ok(Self::Adamax { betas, epsilon }),
            "sgd" => Ok(Self::Sgd { momentum: 0.9, nesterov: true }),
            "adamw" => Ok(Self::AdamW { betas, epsilon }),
            _ => Err(TrainError::Config(format!(
                "unknown optimizer.name {name:?}: use one of {}",
                OPTIMIZERS.join(", ")
            ))),
        }
    }

    /// What the rule remembers of each parameter.
    fn slots(&self) -> &'static [&'static str] {
        match self {
            Self::Adamax { .. } => &["mean", "largest"],
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::AdamW { .. } => &["mean", "square"],
        }
    }
}

/// What an optimizer is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// The update rule.
    pub rule: Rule,
    /// Pull of every parameter towards zero; not negative.
    pub weight_decay: f64,
}

/// Moves parameters along their gradients, in place: a tensor that shares a parameter's values
/// moves with it.
///
/// The state is kept by the parameters' names, and starts at zero. A parameter without a gradient
/// stays as it is.
pub struct Optimizer {
    config: OptimizerConfig,
    parameters: BTreeMap<String, Var>,
    /// Of each parameter, the values of each slot of the rule.
    state: BTreeMap<String, Vec<Vec<f32>>>,
    steps: u64,
}

impl Optimizer {
    /// No step taken yet.
    ///
    /// # Errors
    ///
    /// If the weight decay is negative or not finite.
    pub fn new(config: OptimizerConfig, parameters: BTreeMap<String, Var>) -> Result<Self> {
        if !(config.weight_decay >= 0.0 && config.weight_decay.is_finite()) {
            candle_core::bail!("weight_decay must be 0 or above, got {}", config.weight_decay)
        }
        let zeros =
            |parameter: &Var| vec![vec![0.0; parameter.elem_count()]; config.rule.slots().len()];
        let state = parameters.iter().map(|(name, parameter)| (name.clone(), zeros(parameter)));
        Ok(Self { config, state: state.collect(), parameters, steps: 0 })
    }

    /// Takes one step with the given learning rate; gradients are by parameter name, and count
    /// `gradient_scale` times (see [`clip_scale`]; 1 takes them as they are).
    ///
    /// # Errors
    ///
    /// If a gradient's shape is not its parameter's, one of both is not f32 on the CPU, or a number
    /// is out of its range.
    pub fn step(
        &mut self,
        gradients: &BTreeMap<String, Tensor>,
        learning_rate: f64,
        gradient_scale: f64,
    ) -> Result<()> {
        self.steps += 1;
        let OptimizerConfig { rule, weight_decay } = self.config;
        let config = StepConfig { learning_rate, gradient_scale, weight_decay, steps: self.steps };
        for (name, parameter) in &self.parameters {
            let (Some(gradient), Some(slots)) = (gradients.get(name), self.state.get_mut(name))
            else {
                continue;
            };
            match (rule, slots.as_mut_slice()) {
                (Rule::Adamax { betas, epsilon }, [mean, largest]) => {
                    adamax_step(parameter, gradient, [mean, largest], betas, epsilon, config)?
                }
                (Rule::AdamW { betas, epsilon }, [mean, square]) => {
                    adamw_step(parameter, gradient, [mean, square], betas, epsilon, config)?
                }
                (Rule::Sgd { momentum, nesterov }, slots) => {
                    let sum = slots.first_mut().map(Vec::as_mut_slice);
                    sgd_step(parameter, gradient, sum, momentum, nesterov, config)?
                }
                (rule, slots) => candle_core::bail!("{rule:?} cannot have {} slots", slots.len()),
            }
        }
        Ok(())
    }

    /// The parameters' gradients out of a backward pass, by name.
    #[must_use]
    pub fn named_gradients(&self, gradients: &GradStore) -> BTreeMap<String, Tensor> {
        let named = |(name, parameter): (&String, &Var)| {
            gradients.get(parameter).map(|gradient| (name.clone(), gradient.clone()))
        };
        self.parameters.iter().filter_map(named).collect()
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A copy of the state by `slot/parameter`.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut copied = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let slots =
                self.config.rule.slots().iter().zip(self.state.get(name).into_iter().flatten());
            for (slot, values) in slots {
                let values = Tensor::from_slice(values, parameter.shape(), &Device::Cpu)?;
                copied.insert(format!("{slot}/{name}"), values);
            }
        }
        Ok(copied)
    }

    /// Puts back what [`Optimizer::state`] and [`Optimizer::steps`] gave.
    ///
    /// # Errors
    ///
    /// If a tensor of the state is missing, not f32 or of another shape; nothing is changed then.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        let slots = self.config.rule.slots();
        let mut restored = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let mut values = Vec::new();
            for slot in slots {
                let key = format!("{slot}/{name}");
                let tensor = kept("state of this optimizer", state, &key, parameter.shape())?;
                values.push(tensor.flatten_all()?.to_vec1()?);
            }
            restored.insert(name.clone(), values);
        }
        self.state = restored;
        self.steps = steps;
        Ok(())
    }
}

/// The factor that brings gradients of norm `norm`, taken together, to a norm of at most
/// `largest` (0: no limit): 1 where they are short enough, NaN where the norm is. The formula is
/// `torch.nn.utils.clip_grad_norm_`'s.
#[must_use]
pub fn clip_scale(norm: f64, largest: f64) -> f64 {
    // PyTorch adds this so that a norm of zero divides.
    const MARGIN: f64 = 1e-6;
    if largest <= 0.0 {
        return 1.0;
    }
    let scale = largest / (norm + MARGIN);
    // The smaller one, as `f64::min` is, but for NaN, which that would hide.
    if scale > 1.0 { 1.0 } else { scale }
}
