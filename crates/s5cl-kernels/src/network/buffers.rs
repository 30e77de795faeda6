//! Memory that goes from layer to layer and from step to step.
//!
//! Fresh memory costs a page fault every 4 KiB, which over the maps of a network is as dear as
//! computing on them.

use crate::scratch;

/// Free memory of one network.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// What the passes so far were over; other images need other sizes.
    purpose: Vec<usize>,
    free: Vec<Vec<f32>>,
}

impl Buffers {
    /// Gives the memory back to the system if it was for another purpose: other shapes, or another
    /// kind of pass.
    pub(super) fn prepare(&mut self, purpose: Vec<usize>) {
        if self.purpose != purpose {
            self.purpose = purpose;
            self.free = Vec::new();
        }
    }

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
    use super::Buffers;

    #[test]
    fn buffers_of_another_purpose_are_given_back() {
        let mut buffers = Buffers::default();
        buffers.prepare(vec![1]);
        let values = buffers.take(10);
        let place = values.as_ptr();
        buffers.give(values);
        buffers.prepare(vec![1]);
        let values = buffers.take(10);
        assert_eq!(values.as_ptr(), place);
        buffers.give(values);
        buffers.prepare(vec![2]);
        assert!(buffers.free.is_empty());
    }
}
