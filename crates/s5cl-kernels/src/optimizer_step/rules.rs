//! The rules of the optimizers: their names and constants.

use candle_core::{Result, Tensor, bail};

use super::StepConfig;
use super::update::in_place;

/// How gradients move parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepRule {
    /// Adamax, as `torch.optim.Adamax`; weight decay is added to the gradient.
    ///
    /// ```text
    /// g = gradient_scale * gradient + weight_decay * value
    /// mean = mean + (1 - betas[0]) * (g - mean)
    /// largest = max(betas[1] * largest, |g| + epsilon)
    /// value = value - learning_rate / (1 - betas[0]^steps) * mean / largest
    /// ```
    ///
    /// Kingma and Ba, "Adam", 2015, section 7.1, with PyTorch's place of epsilon.
    Adamax {
        /// Decay of the mean of gradients and of their largest size; from 0 to below 1.
        betas: [f64; 2],
        /// Added to the size of the gradient; above 0.
        epsilon: f64,
    },
    /// Stochastic gradient descent, as `torch.optim.SGD` without dampening; weight decay is added
    /// to the gradient. Without momentum nothing is remembered, and `value` moves along `g`.
    ///
    /// ```text
    /// g = gradient_scale * gradient + weight_decay * value
    /// momentum = momentum * sum + g
    /// value = value - learning_rate * sum                      without look-ahead
    /// value = value - learning_rate * (g + momentum * sum)     with Nesterov's
    /// ```
    ///
    /// Sutskever et al., "On the importance of initialization and momentum", 2013, as PyTorch has
    /// it.
    Sgd {
        /// Decay of the running sum of gradients, from 0 to below 1; 0 for none.
        momentum: f64,
        /// Nesterov's look-ahead.
        nesterov: bool,
    },
    /// Adam with decoupled weight decay, as `torch.optim.AdamW`.
    ///
    /// ```text
    /// g = gradient_scale * gradient
    /// mean = mean + (1 - betas[0]) * (g - mean)
    /// square = square + (1 - betas[1]) * (g^2 - square)
    /// value = (1 - learning_rate * weight_decay) * value
    ///       - learning_rate / (1 - betas[0]^steps) * mean
    ///         / (sqrt(square) / sqrt(1 - betas[1]^steps) + epsilon)
    /// ```
    ///
    /// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    AdamW {
        /// Decay of the first and second moment; from 0 to below 1.
        betas: [f64; 2],
        /// Added to the root of the second moment; above 0.
        epsilon: f64,
    },
}

impl StepRule {
    /// What the rule remembers of each parameter; all of it is zero before the first step.
    #[must_use]
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            Self::Adamax { .. } => &["mean", "largest"],
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::AdamW { .. } => &["mean", "square"],
        }
    }

    /// The numbers of one step, or what is wrong with them.
    pub(super) fn formula(&self, config: StepConfig) -> Result<Formula> {
        config.check()?;
        let StepConfig { learning_rate, weight_decay, steps } = config;
        let corrected = |beta: f64| 1.0 - beta.powf(steps as f64);
        Ok(match *self {
            Self::Adamax { betas, epsilon } => {
                check_moments(betas, epsilon)?;
                Formula::Adamax {
                    rate: (learning_rate / corrected(betas[0])) as f32,
                    decay: weight_decay as f32,
                    share: (1.0 - betas[0]) as f32,
                    kept: betas[1] as f32,
                    epsilon: epsilon as f32,
                }
            }
            Self::AdamW { betas, epsilon } => {
                check_moments(betas, epsilon)?;
                let [mean_share, square_share] = betas.map(|beta| (1.0 - beta) as f32);
                Formula::AdamW {
                    rate: (learning_rate / corrected(betas[0])) as f32,
                    kept: (1.0 - learning_rate * weight_decay) as f32,
                    mean_share,
                    square_share,
                    root_scale: corrected(betas[1]).sqrt().recip() as f32,
                    epsilon: epsilon as f32,
                }
            }
            Self::Sgd { momentum, nesterov } => {
                if !(0.0..1.0).contains(&momentum) {
                    bail!("optimizer_step: momentum {momentum} is not from 0 to below 1")
                }
                let (rate, decay) = (learning_rate as f32, weight_decay as f32);
                match momentum {
                    0.0 => Formula::Descent { rate, decay },
                    _ => Formula::Momentum { rate, decay, momentum: momentum as f32, nesterov },
                }
            }
        })
    }
}

/// Fails where the decays or epsilon would divide by zero, or forget nothing.
fn check_moments(betas: [f64; 2], epsilon: f64) -> Result<()> {
    if let Some(beta) = betas.iter().find(|beta| !(0.0..1.0).contains(*beta)) {
        bail!("optimizer_step: beta {beta} is not from 0 to below 1")
    }
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        bail!("optimizer_step: epsilon {epsilon} is not above 0")
    }
    Ok(())
}

/// A rule with the numbers of one step, as the formulas of one value take them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Formula {
    Adamax {
        rate: f32,
        decay: f32,
        share: f32,
        kept: f32,
        epsilon: f32,
    },
    AdamW {
        rate: f32,
        kept: f32,
        mean_share: f32,
        square_share: f32,
        root_scale: f32,
        epsilon: f32,
    },
    Momentum {
        rate: f32,
        decay: f32,
        momentum: f32,
        nesterov: bool,
    },
    Descent {
        rate: f32,
        decay: f32,
    },
}

impl Formula {
    /// Applies it to a parameter, its gradient and as many slots as the rule has, in loops that
    /// vectorize.
    pub(super) fn apply(
        self,
        scale: f32,
        parameter: &Tensor,
        gradient: &Tensor,
        slots: [&mut [f32]; 2],
    ) -> Result<()> {
        match self {
            Self::Adamax { rate, decay, share, kept, epsilon } => in_place(
                parameter,
                gradient,
                slots,
                #[inline(always)]
                |values, gradients, [means, largest]| {
                    let state = means.iter_mut().zip(largest);
                    for ((value, gradient), (mean, largest)) in
                        values.iter_mut().zip(gradients).zip(state)
                    {
                        let gradient = gradient * scale + *value * decay;
                        *mean += (gradient - *mean) * share;
                        let (past, size) = (*largest * kept, gradient.abs() + epsilon);
                        *largest = if past > size { past } else { size };
                        *value -= *mean / *largest * rate;
                    }
                },
            ),
            Self::AdamW { rate, kept, mean_share, square_share, root_scale, epsilon } => in_place(
                parameter,
                gradient,
                slots,
                #[inline(always)]
                |values, gradients, [means, squares]| {
                    let state = means.iter_mut().zip(squares);
                    for ((value, gradient), (mean, square)) in
                        values.iter_mut().zip(gradients).zip(state)
                    {
                        let gradient = gradient * scale;
                        *mean += (gradient - *mean) * mean_share;
                        *square += (gradient * gradient - *square) * square_share;
                        let size = square.sqrt() * root_scale + epsilon;
                        *value = *value * kept - *mean / size * rate;
                    }
                },
            ),
            Self::Momentum { rate, decay, momentum, nesterov } => in_place(
                parameter,
                gradient,
                slots,
                #[inline(always)]
                |values, gradients, [sums, _]| {
                    for ((value, gradient), sum) in values.iter_mut().zip(gradients).zip(sums) {
                        let gradient = gradient * scale + *value * decay;
                        *sum = *sum * momentum + gradient;
                        let direction = if nesterov { gradient + *sum * momentum } else { *sum };
                        *value -= direction * rate;
                    }
                },
            ),
            Self::Descent { rate, decay } => in_place(
                parameter,
                gradient,
                slots,
                #[inline(always)]
                |values, gradients, _| {
                    for (value, gradient) in values.iter_mut().zip(gradients) {
                        *value -= (gradient * scale + *value * decay) * rate;
                    }
                },
            ),
        }
    }
}
