//! Steps of optimizers in place: every value is read once and written once.
//!
//! Parameters are tensors, which a model shares; state is plain buffers, which an optimizer owns.

mod rules;

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};
use rayon::prelude::*;

use crate::simd;
use crate::values::{Values, operand, operand_mut};

pub use rules::{adamax_step, adamw_step, average_step, sgd_step};

/// Values that one thread takes at a time.
const BLOCK: usize = 16 * 1024;

/// What the steps of all rules have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepConfig {
    /// Factor of the movement; finite and not negative.
    pub learning_rate: f64,
    /// Factor of the gradient before anything else, finite; 1 leaves it as it is, less clips its
    /// norm.
    pub gradient_scale: f64,
    /// Pull of every value towards zero; finite and not negative.
    pub weight_decay: f64,
    /// Steps of this parameter, this one included; from 1.
    pub steps: u64,
}

impl StepConfig {
    /// Fails where a number would turn parameters into NaN or move them the wrong way.
    fn check(&self, name: &str) -> Result<()> {
        let Self { learning_rate, gradient_scale, weight_decay, steps } = *self;
        for (what, number) in [("learning_rate", learning_rate), ("weight_decay", weight_decay)] {
            if !(number >= 0.0 && number.is_finite()) {
                bail!("{name}: {what} {number} is not a number of 0 or above")
            }
        }
        if !gradient_scale.is_finite() {
            bail!("{name}: gradient_scale {gradient_scale} is not finite")
        }
        if steps == 0 {
            bail!("{name}: steps count from 1, got 0")
        }
        Ok(())
    }
}

/// The norm of all gradients taken together: the root of the sum of all squares, in f64.
///
/// Squares are summed in blocks of the tensors, and the blocks in order.
///
/// # Shapes
///
/// - `gradients`: f32, any shapes
///
/// # Errors
///
/// If a gradient is not f32 or not on the CPU.
pub fn gradient_norm<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients {
        let gradient = gradient.contiguous()?;
        let values = Values::of(&gradient, "gradient_norm")?;
        let blocks: Vec<f64> = values.par_chunks(BLOCK).map(sum_of_squares).collect();
        sum += blocks.iter().sum::<f64>();
    }
    Ok(sum.sqrt())
}

fn sum_of_squares(values: &[f32]) -> f64 {
    /// Sums that grow side by side, so that vector instructions can be used.
    const LANES: usize = 32;
    simd::dispatch(
        #[inline(always)]
        || {
            let mut sums = [0.0_f64; LANES];
            let (rows, rest) = values.as_chunks::<LANES>();
            for row in rows {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += f64::from(value) * f64::from(value);
                }
            }
            for (sum, &value) in sums.iter_mut().zip(rest) {
                *sum += f64::from(value) * f64::from(value);
            }
            sums.iter().sum()
        },
    )
}

/// Applies a rule to a parameter, with the gradient and the state beside it, in blocks of values:
/// a rule treats every value alone.
fn for_each_block<const SLOTS: usize>(
    name: &'static str,
    parameter: &Tensor,
    gradient: &Tensor,
    state: [&mut [f32]; SLOTS],
    rule: impl Fn(&mut [f32], &[f32], [&mut [f32]; SLOTS]) + Sync,
) -> Result<()> {
    if gradient.dims() != parameter.dims() {
        let (parameter, gradient) = (parameter.shape(), gradient.shape());
        bail!("{name}: gradient {gradient:?} is not of the parameter's shape {parameter:?}")
    }
    for slot in &state {
        if slot.len() != parameter.elem_count() {
            let (shape, len) = (parameter.shape(), slot.len());
            bail!("{name}: a state of {len} values does not fit the parameter's shape {shape:?}")
        }
    }
    let state = RefCell::new(state);
    parameter.inplace_op2(&gradient.contiguous()?, &InPlace { name, state, rule })
}

/// The operation that candle runs on a parameter. It is handed the values to change, but itself
/// only shared: the state, which changes too, is in a cell.
struct InPlace<'a, Rule, const SLOTS: usize> {
    name: &'static str,
    state: RefCell<[&'a mut [f32]; SLOTS]>,
    rule: Rule,
}

impl<Rule, const SLOTS: usize> InplaceOp2 for InPlace<'_, Rule, SLOTS>
where
    Rule: Fn(&mut [f32], &[f32], [&mut [f32]; SLOTS]) + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let parameter = operand_mut(parameter, parameter_layout, self.name)?;
        let gradient = operand(gradient, gradient_layout, self.name)?;
        let mut state = self.state.borrow_mut();
        let state = state.each_mut().map(|slot| &mut **slot);
        update(parameter, gradient, state, &self.rule);
        Ok(())
    }
}

/// [`for_each_block`] on slices of one length.
fn update<const SLOTS: usize>(
    parameter: &mut [f32],
    gradient: &[f32],
    state: [&mut [f32]; SLOTS],
    rule: impl Fn(&mut [f32], &[f32], [&mut [f32]; SLOTS]) + Sync,
) {
    if parameter.len() <= BLOCK {
        // Most parameters are short: waking other threads would take longer than the work.
        return update_block(parameter, gradient, state, &rule);
    }
    let mut slots = state.map(|slot| slot.chunks_mut(BLOCK));
    let blocks = parameter
        .chunks_mut(BLOCK)
        .zip(gradient.chunks(BLOCK))
        .map(|block| (block, slots.each_mut().map(|blocks| blocks.next().unwrap_or_default())));
    let blocks: Vec<_> = blocks.collect();
    blocks.into_par_iter().for_each(|((parameter, gradient), state)| {
        update_block(parameter, gradient, state, &rule);
    });
}

fn update_block<const SLOTS: usize>(
    parameter: &mut [f32],
    gradient: &[f32],
    state: [&mut [f32]; SLOTS],
    rule: &impl Fn(&mut [f32], &[f32], [&mut [f32]; SLOTS]),
) {
    simd::dispatch(
        #[inline(always)]
        || rule(parameter, gradient, state),
    );
}
