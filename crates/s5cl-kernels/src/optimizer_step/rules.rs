//! The formulas of the optimizers, value by value, in loops that vectorize.

use candle_core::{Result, Tensor, bail};

use super::{StepConfig, for_each_block};
use crate::values::Values;

/// One step of Adamax, as `torch.optim.Adamax`; weight decay is added to the gradient.
///
/// ```text
/// g = gradient_scale * gradient + weight_decay * value
/// mean = mean + (1 - betas[0]) * (g - mean)
/// largest = max(betas[1] * largest, |g| + epsilon)
/// value = value - learning_rate / (1 - betas[0]^steps) * mean / largest
/// ```
///
/// # Shapes
///
/// - `parameter`: f32 of any shape, contiguous; changed in place, for all that share it
/// - `gradient`: f32 of that shape
/// - `mean`, `largest`: as many values, changed in place; zero before the first step
///
/// `betas` are from 0 to below 1, `epsilon` is above 0.
///
/// # Errors
///
/// If the shapes differ, a tensor is not f32 or not on the CPU, the gradient shares the
/// parameter's values, or a number is out of its range. Nothing is changed then.
///
/// # Source
///
/// Kingma and Ba, "Adam", 2015, section 7.1, with PyTorch's place of epsilon.
pub fn adamax_step(
    parameter: &Tensor,
    gradient: &Tensor,
    [mean, largest]: [&mut [f32]; 2],
    betas: [f64; 2],
    epsilon: f64,
    config: StepConfig,
) -> Result<()> {
    check_moments("adamax_step", betas, epsilon)?;
    config.check("adamax_step")?;
    let StepConfig { learning_rate, gradient_scale, weight_decay, steps } = config;
    let rate = (learning_rate / bias_correction(betas[0], steps)) as f32;
    let (scale, decay) = (gradient_scale as f32, weight_decay as f32);
    let (share, kept, epsilon) = ((1.0 - betas[0]) as f32, betas[1] as f32, epsilon as f32);
    for_each_block(
        "adamax_step",
        parameter,
        gradient,
        [mean, largest],
        #[inline(always)]
        |values, gradients, [means, largest]| {
            let state = means.iter_mut().zip(largest);
            for ((value, gradient), (mean, largest)) in values.iter_mut().zip(gradients).zip(state)
            {
                let gradient = gradient * scale + *value * decay;
                *mean += (gradient - *mean) * share;
                let (past, size) = (*largest * kept, gradient.abs() + epsilon);
                *largest = if past > size { past } else { size };
                *value -= *mean / *largest * rate;
            }
        },
    )
}

/// One step of Adam with decoupled weight decay, as `torch.optim.AdamW`.
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
/// # Shapes
///
/// Those of [`adamax_step`], with `square` in the place of `largest`.
///
/// # Errors
///
/// As [`adamax_step`].
///
/// # Source
///
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
pub fn adamw_step(
    parameter: &Tensor,
    gradient: &Tensor,
    [mean, square]: [&mut [f32]; 2],
    betas: [f64; 2],
    epsilon: f64,
    config: StepConfig,
) -> Result<()> {
    check_moments("adamw_step", betas, epsilon)?;
    config.check("adamw_step")?;
    let StepConfig { learning_rate, gradient_scale, weight_decay, steps } = config;
    let rate = (learning_rate / bias_correction(betas[0], steps)) as f32;
    let root_scale = bias_correction(betas[1], steps).sqrt().recip() as f32;
    let (scale, kept) = (gradient_scale as f32, (1.0 - learning_rate * weight_decay) as f32);
    let [mean_share, square_share] = betas.map(|beta| (1.0 - beta) as f32);
    let epsilon = epsilon as f32;
    for_each_block(
        "adamw_step",
        parameter,
        gradient,
        [mean, square],
        #[inline(always)]
        |values, gradients, [means, squares]| {
            let state = means.iter_mut().zip(squares);
            for ((value, gradient), (mean, square)) in values.iter_mut().zip(gradients).zip(state) {
                let gradient = gradient * scale;
                *mean += (gradient - *mean) * mean_share;
                *square += (gradient * gradient - *square) * square_share;
                let size = square.sqrt() * root_scale + epsilon;
                *value = *value * kept - *mean / size * rate;
            }
        },
    )
}

/// One step of stochastic gradient descent, as `torch.optim.SGD` without dampening.
///
/// ```text
/// g = gradient_scale * gradient + weight_decay * value
/// sum = momentum * sum + g
/// value = value - learning_rate * sum                      without look-ahead
/// value = value - learning_rate * (g + momentum * sum)     with Nesterov's
/// ```
///
/// Without a `sum` there is no momentum, and `value` moves along `g`.
///
/// # Shapes
///
/// - `parameter`, `gradient`: as in [`adamax_step`]
/// - `sum`: as many values, changed in place; zero before the first step
///
/// `momentum` is from 0 to below 1.
///
/// # Errors
///
/// As [`adamax_step`], and if there is a momentum but no sum.
///
/// # Source
///
/// Sutskever et al., "On the importance of initialization and momentum", 2013, as PyTorch has it.
pub fn sgd_step(
    parameter: &Tensor,
    gradient: &Tensor,
    sum: Option<&mut [f32]>,
    momentum: f64,
    nesterov: bool,
    config: StepConfig,
) -> Result<()> {
    const NAME: &str = "sgd_step";
    if !(0.0..1.0).contains(&momentum) {
        bail!("{NAME}: momentum {momentum} is not from 0 to below 1")
    }
    config.check(NAME)?;
    let (rate, momentum) = (config.learning_rate as f32, momentum as f32);
    let (scale, decay) = (config.gradient_scale as f32, config.weight_decay as f32);
    let Some(sum) = sum else {
        if momentum != 0.0 {
            bail!("{NAME}: a momentum of {momentum} needs a running sum of gradients")
        }
        return for_each_block(
            NAME,
            parameter,
            gradient,
            [],
            #[inline(always)]
            |values, gradients, []| {
                for (value, gradient) in values.iter_mut().zip(gradients) {
                    *value -= (gradient * scale + *value * decay) * rate;
                }
            },
        );
    };
    for_each_block(
        NAME,
        parameter,
        gradient,
        [sum],
        #[inline(always)]
        |values, gradients, [sums]| {
            for ((value, gradient), sum) in values.iter_mut().zip(gradients).zip(sums) {
                let gradient = gradient * scale + *value * decay;
                *sum = *sum * momentum + gradient;
                let direction = if nesterov { gradient + *sum * momentum } else { *sum };
                *value -= direction * rate;
            }
        },
    )
}

/// Moves an average towards present values.
///
/// ```text
/// average = average + (1 - decay) * (value - average)
/// ```
///
/// # Shapes
///
/// - `average`: f32 values, changed in place
/// - `value`: f32 of any shape, as many values
///
/// `decay` is from 0 to 1.
///
/// # Errors
///
/// If the lengths differ, the values are not f32 or not on the CPU, or the decay is out of its
/// range.
pub fn average_step(average: &mut [f32], value: &Tensor, decay: f64) -> Result<()> {
    const NAME: &str = "average_step";
    if !(0.0..=1.0).contains(&decay) {
        bail!("{NAME}: decay {decay} is not from 0 to 1")
    }
    if average.len() != value.elem_count() {
        bail!("{NAME}: {} values of average for {:?}", average.len(), value.shape())
    }
    let value = value.contiguous()?;
    // The share alone is rounded: a decay beside it would not add up to 1 with it.
    let share = (1.0 - decay) as f32;
    super::update(
        average,
        &Values::of(&value, NAME)?,
        [],
        #[inline(always)]
        |averages, values, []| {
            for (average, value) in averages.iter_mut().zip(values) {
                *average += (value - *average) * share;
            }
        },
    );
    Ok(())
}

fn bias_correction(beta: f64, steps: u64) -> f64 {
    1.0 - beta.powf(steps as f64)
}

/// Fails where the decays or epsilon would divide by zero, or forget nothing.
fn check_moments(name: &str, betas: [f64; 2], epsilon: f64) -> Result<()> {
    if let Some(beta) = betas.iter().find(|beta| !(0.0..1.0).contains(*beta)) {
        bail!("{name}: beta {beta} is not from 0 to below 1")
    }
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        bail!("{name}: epsilon {epsilon} is not above 0")
    }
    Ok(())
}
