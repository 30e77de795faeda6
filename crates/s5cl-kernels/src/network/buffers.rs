//! Memory that goes from layer to layer and from step to step.
//!
//! Fresh memory costs a page fault every 4 KiB, which over the maps of a network is as dear as
//! computing on them.

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
        let fitting = self.free.iter().enumerate().filter(|(_, free)| free.capacity() >= len);
        let smallest = fitting.min_by_key(|(_, free)| free.capacity()).map(|(index, _)| index);
        match smallest {
            Some(index) => {
                let mut values = self.free.swap_remove(index);
                values.resize(len, 0.0);
                values
            }
            None => vec![0.0; len],
        }
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
    fn buffers_hand_out_the_smallest_that_fits() {
        let mut buffers = Buffers::default();
        buffers.prepare(vec![1]);
        let (large, small) = (vec![0.0; 100], vec![0.0; 10]);
        let place = small.as_ptr();
        buffers.give(large);
        buffers.give(small);
        buffers.prepare(vec![1]);
        let taken = buffers.take(7);
        assert_eq!((taken.len(), taken.as_ptr()), (7, place));
        assert_eq!(buffers.take(50).capacity(), 100);
        buffers.give(taken);
        buffers.prepare(vec![2]);
        assert!(buffers.free.is_empty(), "memory of another purpose is given back");
    }
}
