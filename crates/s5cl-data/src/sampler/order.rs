//! The random order of one epoch, kept as long as the epoch lasts.

use std::sync::{Arc, Mutex, PoisonError};

use s5cl_random::named_stream;

/// A permutation per epoch.
///
/// The last one is kept because making it takes time in proportion to its length; that is a
/// cache of a pure function, and shows in no result.
pub(super) struct EpochOrder {
    seed: u64,
    purpose: String,
    n: usize,
    last: Mutex<Option<(u64, Arc<[usize]>)>>,
}

impl EpochOrder {
    /// Orders of `0..n`; different purposes have unrelated orders.
    pub(super) fn new(seed: u64, purpose: impl Into<String>, n: usize) -> Self {
        Self { seed, purpose: purpose.into(), n, last: Mutex::new(None) }
    }

    pub(super) fn of(&self, epoch: u64) -> Arc<[usize]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kept, order)) = &*last
            && *kept == epoch
        {
            return Arc::clone(order);
        }
        let name = format!("{}, epoch {epoch}", self.purpose);
        let order: Arc<[usize]> = named_stream(self.seed, &name).permutation(self.n).into();
        *last = Some((epoch, Arc::clone(&order)));
        order
    }
}
