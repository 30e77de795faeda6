//! A rule applied to all values of a tensor on the CPU, in blocks that threads take.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

use crate::simd;
use crate::values::{operand, operand_mut};

/// Values that one thread takes at a time.
pub(super) const BLOCK: usize = 16 * 1024;

/// Values to change, values that they follow, and up to two slots of state, which are empty where
/// a rule has fewer; it treats every value alone.
pub(super) trait Rule: Fn(&mut [f32], &[f32], [&mut [f32]; 2]) + Sync {}

impl<F: Fn(&mut [f32], &[f32], [&mut [f32]; 2]) + Sync> Rule for F {}

/// Applies a rule to a parameter, with the gradient and the state beside it.
pub(super) fn in_place(
    parameter: &Tensor,
    gradient: &Tensor,
    slots: [&mut [f32]; 2],
    rule: impl Rule,
) -> Result<()> {
    let slots = RefCell::new(slots);
    parameter.inplace_op2(&gradient.contiguous()?, &InPlace { slots, rule })
}

/// The operation that candle runs on a parameter. It is handed the values to change, but itself
/// only shared: the state, which changes too, is in a cell.
struct InPlace<'a, R> {
    slots: RefCell<[&'a mut [f32]; 2]>,
    rule: R,
}

impl<R: Rule> InplaceOp2 for InPlace<'_, R> {
    fn name(&self) -> &'static str {
        "optimizer_step"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let parameter = operand_mut(parameter, parameter_layout, self.name())?;
        let gradient = operand(gradient, gradient_layout, self.name())?;
        let mut slots = self.slots.borrow_mut();
        let slots = slots.each_mut().map(|slot| &mut **slot);
        update(parameter, gradient, slots, &self.rule);
        Ok(())
    }
}

/// [`in_place`] on slices of one length.
pub(super) fn update(values: &mut [f32], others: &[f32], slots: [&mut [f32]; 2], rule: impl Rule) {
    if values.len() <= BLOCK {
        // Most parameters are short: waking other threads would take longer than the work.
        return update_block(values, others, slots, &rule);
    }
    let mut slots = slots.map(|slot| slot.chunks_mut(BLOCK));
    let blocks = values
        .chunks_mut(BLOCK)
        .zip(others.chunks(BLOCK))
        .map(|block| (block, slots.each_mut().map(|blocks| blocks.next().unwrap_or_default())));
    let blocks: Vec<_> = blocks.collect();
    blocks.into_par_iter().for_each(|((values, others), slots)| {
        update_block(values, others, slots, &rule);
    });
}

fn update_block(values: &mut [f32], others: &[f32], slots: [&mut [f32]; 2], rule: &impl Rule) {
    simd::dispatch(
        #[inline(always)]
        || rule(values, others, slots),
    );
}
