//! Tiles that stay in memory between the forward and the backward pass.
#![expect(unsafe_code, reason = "memory is written tile by tile, not all at once beforehand")]

use std::mem::{MaybeUninit, take};

/// One tile of a larger piece of memory.
pub(super) enum Kept<'a> {
    Empty(&'a mut [MaybeUninit<f32>]),
    Filled(&'a mut [f32]),
}

impl Kept<'_> {
    pub(super) fn is_filled(&self) -> bool {
        matches!(self, Self::Filled(_))
    }

    /// The values, zeros at first: whoever fills a tile needs it in the cache anyway, and a system
    /// hands out memory faster to several threads than to one.
    pub(super) fn values(&mut self) -> &mut [f32] {
        if let Self::Empty(values) = self {
            let values = take(values);
            values.fill(MaybeUninit::new(0.0));
            // SAFETY: every value was written just now.
            *self = Self::Filled(unsafe { values.assume_init_mut() });
        }
        match self {
            Self::Filled(values) => values,
            Self::Empty(_) => unreachable!("filled above"),
        }
    }
}
