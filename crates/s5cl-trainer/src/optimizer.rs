//! Optimizers whose whole state can be saved.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

use crate::TrainError;

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

/// Moves parameters along their gradients.
///
/// The state is kept by the parameters' names, and starts at zero. A parameter without a gradient
/// stays as it is.
pub struct Optimizer {
    config: OptimizerConfig,
    parameters: BTreeMap<String, Var>,
    state: BTreeMap<String, Vec<Tensor>>,
    steps: u64,
}

impl Optimizer {
    /// No step taken yet.
    ///
    /// # Errors
    ///
    /// If the weight decay is negative or the device has no memory left.
    pub fn new(config: OptimizerConfig, parameters: BTreeMap<String, Var>) -> Result<Self> {
        if !(config.weight_decay >= 0.0 && config.weight_decay.is_finite()) {
            candle_core::bail!("weight_decay must be 0 or above, got {}", config.weight_decay)
        }
        let mut state = BTreeMap::new();
        for (name, parameter) in &parameters {
            let zeros = || Tensor::zeros(parameter.shape(), parameter.dtype(), parameter.device());
            let slots: Result<Vec<Tensor>> = config.rule.slots().iter().map(|_| zeros()).collect();
            state.insert(name.clone(), slots?);
        }
        Ok(Self { config, parameters, state, steps: 0 })
    }

    /// Takes one step with the given learning rate; gradients are by parameter name.
    ///
    /// # Errors
    ///
    /// If a gradient's shape is not its parameter's.
    pub fn step(&mut self, gradients: &BTreeMap<String, Tensor>, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        for (name, parameter) in &self.parameters {
            let (Some(gradient), Some(slots)) = (gradients.get(name), self.state.get_mut(name))
            else {
                continue;
            };
            let value = parameter.as_detached_tensor();
            let moved = update(&self.config, &value, gradient, slots, learning_rate, self.steps)?;
            parameter.set(&moved)?;
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

    /// The state by `slot/parameter`.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let slots = self.config.rule.slots();
        let named = |(name, tensors): (&String, &Vec<Tensor>)| {
            let entries = slots.iter().zip(tensors);
            entries.map(|(slot, t)| (format!("{slot}/{name}"), t.clone())).collect::<Vec<_>>()
        };
        self.state.iter().flat_map(named).collect()
    }

    /// Puts back what [`Optimizer::state`] and [`Optimizer::steps`] gave.
    ///
    /// # Errors
    ///
    /// If a tensor of the state is missing or has another shape; nothing is changed then.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        let slots = self.config.rule.slots();
        let mut restored = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let mut tensors = Vec::new();
            for slot in slots {
                let key = format!("{slot}/{name}");
                match state.get(&key) {
                    Some(tensor) if tensor.shape() == parameter.shape() => {
                        tensors.push(tensor.clone())
                    }
                    Some(tensor) => candle_core::bail!(
                        "{key} has shape {:?}, expected {:?}",
                        tensor.shape(),
                        parameter.shape()
                    ),
                    None => candle_core::bail!("there is no {key}: was it another optimizer?"),
                }
            }
            restored.insert(name.clone(), tensors);
        }
        self.state = restored;
        self.steps = steps;
        Ok(())
    }
}

/// The new value of one parameter at step `steps`, 1-based; the slots are updated in place.
fn update(
    config: &OptimizerConfig,
    value: &Tensor,
    gradient: &Tensor,
    slots: &mut [Tensor],
    learning_rate: f64,
    steps: u64,
) -> Result<Tensor> {
    let decayed = |gradient: &Tensor| -> Result<Tensor> {
        if config.weight_decay == 0.0 {
            return Ok(gradient.clone());
        }
        gradient + (value * config.weight_decay)?
    };
    let bias_correction = |beta: f64| 1.0 - beta.powf(steps as f64);
    match (config.rule, slots) {
        (Rule::Adamax { betas, epsilon }, [mean, largest]) => {
            let gradient = decayed(gradient)?;
            *mean = lerp(mean, &gradient, 1.0 - betas[0])?;
            *largest = (&*largest * betas[1])?.maximum(&(gradient.abs()? + epsilon)?)?;
            let rate = learning_rate / bias_correction(betas[0]);
            value - ((&*mean / &*largest)? * rate)?
        }
        (Rule::AdamW { betas, epsilon }, [mean, square]) => {
            *mean = lerp(mean, gradient, 1.0 - betas[0])?;
            *square = lerp(square, &gradient.sqr()?, 1.0 - betas[1])?;
            let root = (square.sqrt()? / bias_correction(betas[1]).sqrt())?;
            let rate = learning_rate / bias_correction(betas[0]);
            let kept = (value * (1.0 - learning_rate * config.weight_decay))?;
            kept - ((&*mean / (root + epsilon)?)? * rate)?
        }
        (Rule::Sgd { momentum, nesterov }, [sum]) => {
            let gradient = decayed(gradient)?;
            *sum = ((&*sum * momentum)? + &gradient)?;
            let direction = if nesterov { (gradient + (&*sum * momentum)?)? } else { sum.clone() };
            value - (direction * learning_rate)?
        }
        (Rule::Sgd { .. }, []) => value - (decayed(gradient)? * learning_rate)?,
        (rule, slots) => candle_core::bail!("{rule:?} cannot have {} slots", slots.len()),
    }
}

fn lerp(from: &Tensor, to: &Tensor, share: f64) -> Result<Tensor> {
    from + ((to - from)? * share)?
}

/// Scales gradients down so that their norm, taken together, is at most `largest` (0: as they
/// are), and returns the norm before that. The formula is `torch.nn.utils.clip_grad_norm_`'s.
///
/// # Errors
///
/// If a gradient cannot be read.
pub fn clip_by_norm(gradients: &mut BTreeMap<String, Tensor>, largest: f64) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients.values() {
        sum += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let norm = sum.sqrt();
    let scale = largest / (norm + 1e-6);
    if largest > 0.0 && scale < 1.0 {
        for gradient in gradients.values_mut() {
            *gradient = (&*gradient * scale)?;
        }
    }
    Ok(norm)
}
