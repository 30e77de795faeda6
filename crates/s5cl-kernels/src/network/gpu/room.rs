//! Memory on a GPU for what layers give.

use candle_core::Result;

use crate::cuda::{Gpu, Memory, Pointer};
use crate::network::buffers::Buffers;

/// Room for values of whatever type.
pub(crate) enum Room<G: Gpu> {
    /// It goes back to the free memory of the network.
    Own(Memory<G, u8>),
    /// It leaves the network.
    Result(Memory<G, f32>),
    /// It belongs to somebody else, who lets it be read.
    Given(Pointer<f32>),
}

impl<G: Gpu> Room<G> {
    /// Where the values are.
    pub(super) fn pointer<T>(&self) -> Pointer<T> {
        Pointer::at(match self {
            Self::Own(memory) => memory.pointer().address(),
            Self::Result(memory) => memory.pointer().address(),
            Self::Given(values) => values.address(),
        })
    }

    /// Writes zeros, where the room is the network's own.
    pub(super) fn clear(&mut self, gpu: &G) -> Result<()> {
        match self {
            Self::Own(memory) => gpu.clear(memory),
            Self::Result(_) | Self::Given(_) => Ok(()),
        }
    }
}

impl<G: Gpu> Buffers<Memory<G, u8>> {
    /// Room for so many values: the smallest that is free, unless more than half of it would be
    /// idle.
    pub(super) fn room<T>(&mut self, gpu: &G, len: usize) -> Result<Room<G>> {
        let bytes = (len * size_of::<T>()).max(1);
        let free = self.free.iter().enumerate().map(|(index, free)| (index, free.len()));
        let fitting = free.filter(|(_, free)| (bytes..=2 * bytes).contains(free));
        Ok(Room::Own(match fitting.min_by_key(|&(_, free)| free) {
            Some((index, _)) => self.free.swap_remove(index),
            None => gpu.allocate(bytes)?,
        }))
    }

    /// Takes room back.
    pub(super) fn put(&mut self, room: Room<G>) {
        if let Room::Own(memory) = room {
            self.free.push(memory);
        }
    }
}
