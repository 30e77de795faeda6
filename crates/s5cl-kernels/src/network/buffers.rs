//! Memory that goes from layer to layer and from step to step.
//!
//! Fresh memory costs a page fault every 4 KiB, which over the maps of a network is as dear as
//! computing on them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scratch;

/// Where a network keeps its free memory between passes.
///
/// A pass takes the memory out and brings it back, and holds no lock meanwhile: a thread that
/// waits for its part of a pass may be given another pass of the same network to compute.
pub(super) struct Store<M>(Arc<Mutex<Buffers<M>>>);

impl<M> Clone for Store<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Default for Store<M> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<M> fmt::Debug for Store<M> {
    /// Without the values, which may be gigabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<M> Store<M> {
    /// The free memory, if it is for the same purpose, the shape of the images and the kind of
    /// pass; what is for another one is given back to the system.
    pub(super) fn take(&self, purpose: &[usize]) -> Buffers<M> {
        let kept = std::mem::take(&mut *self.lock());
        if kept.purpose == purpose {
            return kept;
        }
        Buffers { purpose: purpose.to_vec(), free: Vec::new() }
    }

    /// Keeps memory for the next pass.
    pub(super) fn give(&self, buffers: Buffers<M>) {
        *self.lock() = buffers;
    }

    fn lock(&self) -> MutexGuard<'_, Buffers<M>> {
        // What is kept is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that is free for the layers of a pass.
pub(super) struct Buffers<M> {
    purpose: Vec<usize>,
    pub(super) free: Vec<M>,
}

impl<M> Default for Buffers<M> {
    fn default() -> Self {
        Self { purpose: Vec::new(), free: Vec::new() }
    }
}

impl Buffers<Vec<f32>> {
    /// Room for `len` values, whatever they hold: the smallest that is free.
    pub(super) fn take(&mut self, len: usize) -> Vec<f32> {
        scratch::best_fit(&mut self.free, len)
    }

    /// Takes memory back.
    pub(super) fn give(&mut self, values: Vec<f32>) {
        if values.capacity() > 0 {
            self.free.push(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Store;

    type Values = Vec<f32>;

    #[test]
    fn store_keeps_memory_for_the_same_purpose() {
        let store = Store::<Values>::default();
        let mut buffers = store.take(&[1]);
        let values = buffers.take(10);
        let place = values.as_ptr();
        buffers.give(values);
        store.give(buffers);
        let mut buffers = store.take(&[1]);
        let values = buffers.take(7);
        assert_eq!((values.len(), values.as_ptr()), (7, place));
        assert!(store.take(&[1]).free.is_empty(), "it is out");
        buffers.give(values);
        store.give(buffers);
        assert!(store.take(&[2]).free.is_empty(), "it is for another purpose");
    }
}
