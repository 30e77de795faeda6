//! Steps of optimizers in place: every value is read once and written once, and on a CUDA device
//! all parameters of a step are one launch.
//!
//! Parameters are tensors, which a model shares; state is slots, which an optimizer owns.

mod average;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod launch;
mod norm;
mod rules;
mod slot;
mod update;

#[cfg(test)]
mod tests;

use candle_core::{DType, Result, Tensor, bail};

use rules::Formula;

pub use average::average_step;
pub use norm::{clip_scale, gradient_norm};
pub use rules::StepRule;
pub use slot::Slot;

/// What the steps of all rules have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepConfig {
    /// Factor of the movement; finite and not negative.
    pub learning_rate: f64,
    /// Pull of every value towards zero; finite and not negative.
    pub weight_decay: f64,
    /// Steps of these parameters, this one included; from 1.
    pub steps: u64,
}

impl StepConfig {
    /// Fails where a number would turn parameters into NaN or move them the wrong way.
    fn check(&self) -> Result<()> {
        let Self { learning_rate, weight_decay, steps } = *self;
        for (what, number) in [("learning_rate", learning_rate), ("weight_decay", weight_decay)] {
            if !(number >= 0.0 && number.is_finite()) {
                bail!("optimizer_step: {what} {number} is not a number of 0 or above")
            }
        }
        if steps == 0 {
            bail!("optimizer_step: steps count from 1, got 0")
        }
        Ok(())
    }
}

/// What the gradients count for, before anything else.
#[derive(Clone, Copy, Debug)]
pub enum GradientScale<'a> {
    /// A finite number; 1 takes them as they are.
    Given(f64),
    /// What their norm decides, without a read back from a device: they are divided by
    /// `loss_scale`, and so is the norm; then [`clip_scale`] with that norm and `largest` is their
    /// factor. Where the norm is not finite, the step changes nothing.
    ByNorm {
        /// Of [`gradient_norm`], of the gradients as they are given.
        norm: &'a Tensor,
        /// 0 for no limit.
        largest: f64,
        /// f32, one value: what the loss was multiplied with before its gradients were taken.
        loss_scale: Option<&'a Tensor>,
    },
}

impl GradientScale<'_> {
    fn check(&self, of: &Tensor) -> Result<()> {
        match *self {
            Self::Given(scale) if scale.is_finite() => Ok(()),
            Self::Given(scale) => bail!("optimizer_step: gradient_scale {scale} is not finite"),
            Self::ByNorm { norm, largest, loss_scale } => {
                if !(largest >= 0.0 && largest.is_finite()) {
                    bail!("optimizer_step: largest norm {largest} is not a number of 0 or above")
                }
                let scalars = [(Some(norm), DType::F64), (loss_scale, DType::F32)];
                for (scalar, dtype) in scalars {
                    let Some(scalar) = scalar else { continue };
                    let is_beside = scalar.device().same_device(of.device());
                    if scalar.dtype() != dtype || scalar.elem_count() != 1 || !is_beside {
                        let (got, shape) = (scalar.dtype(), scalar.shape());
                        bail!(
                            "optimizer_step: expected one {dtype:?} on the device of the \
                             parameters, got {got:?} {shape:?} on {:?}",
                            scalar.device()
                        )
                    }
                }
                Ok(())
            }
        }
    }

    /// The factor, where the step is to be taken.
    fn on_cpu(&self) -> Result<Option<f32>> {
        match *self {
            Self::Given(scale) => Ok(Some(scale as f32)),
            Self::ByNorm { norm, largest, loss_scale } => {
                let of_loss = match loss_scale {
                    Some(scale) => f64::from(scale.reshape(())?.to_scalar::<f32>()?),
                    None => 1.0,
                };
                let norm = norm.reshape(())?.to_scalar::<f64>()? / of_loss;
                Ok(norm.is_finite().then(|| (clip_scale(norm, largest) / of_loss) as f32))
            }
        }
    }
}

/// What one step does with one parameter.
#[derive(Debug)]
pub struct StepItem<'a> {
    /// f32 of any shape, contiguous; changed in place, for all that share it.
    pub parameter: &'a Tensor,
    /// f32 of that shape.
    pub gradient: &'a Tensor,
    /// Of each of [`StepRule::slots`] as many values, changed in place.
    pub slots: &'a mut [Slot],
}

impl StepItem<'_> {
    fn check(&self, rule: StepRule) -> Result<()> {
        const NAME: &str = "optimizer_step";
        let Self { parameter, gradient, slots } = self;
        let shape = parameter.shape();
        if gradient.dims() != parameter.dims() {
            let gradient = gradient.shape();
            bail!("{NAME}: gradient {gradient:?} is not of the parameter's shape {shape:?}")
        }
        for tensor in [parameter, gradient] {
            if tensor.dtype() != DType::F32 {
                bail!("{NAME}: expected f32, got {:?} {shape:?}", tensor.dtype())
            }
        }
        if !parameter.is_contiguous() {
            bail!("{NAME}: expected a contiguous parameter, got {:?}", parameter.layout())
        }
        if !gradient.device().same_device(parameter.device()) {
            let (one, other) = (parameter.device(), gradient.device());
            bail!("{NAME}: the parameter {shape:?} is on {one:?}, its gradient on {other:?}")
        }
        if shares_values(parameter, gradient) {
            bail!("{NAME}: the gradient {shape:?} shares storage with its parameter")
        }
        if slots.len() != rule.slots().len() {
            let (wanted, got) = (rule.slots(), slots.len());
            bail!("{NAME}: {rule:?} remembers {wanted:?}, got {got} slots for {shape:?}")
        }
        for slot in slots.iter() {
            let (len, device) = (slot.len(), parameter.device());
            if len != parameter.elem_count() || !slot.is_on(device) {
                bail!("{NAME}: a slot of {len} values does not fit {shape:?} on {device:?}")
            }
        }
        Ok(())
    }
}

/// Whether two tensors are views of the same memory.
fn shares_values(one: &Tensor, other: &Tensor) -> bool {
    let place = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0).addr();
    place(one) == place(other)
}

/// One step of an optimizer over parameters that are on one device.
///
/// # Errors
///
/// If shapes or devices do not fit each other, a tensor is not f32, a gradient shares its
/// parameter's values, or a number is out of its range. Nothing is changed then.
pub fn optimizer_step(
    rule: StepRule,
    config: StepConfig,
    scale: GradientScale<'_>,
    items: &mut [StepItem<'_>],
) -> Result<()> {
    let formula = rule.formula(config)?;
    let Some(first) = items.first() else { return Ok(()) };
    scale.check(first.parameter)?;
    for item in items.iter() {
        item.check(rule)?;
    }
    #[cfg(feature = "cuda")]
    if first.parameter.device().is_cuda() {
        return cuda::step(formula, scale, items);
    }
    step_on_cpu(formula, scale, items)
}

fn step_on_cpu(
    formula: Formula,
    scale: GradientScale<'_>,
    items: &mut [StepItem<'_>],
) -> Result<()> {
    let Some(scale) = scale.on_cpu()? else { return Ok(()) };
    for StepItem { parameter, gradient, slots } in items {
        let mut slots = slots.iter_mut().map(Slot::on_cpu);
        let slots = [(); 2].map(|()| slots.next().unwrap_or_default());
        formula.apply(scale, parameter, gradient, slots)?;
    }
    Ok(())
}
