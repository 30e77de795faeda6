//! The keyed generator and the two ways to make one.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A ChaCha8 generator that belongs to one purpose; see [`stream`] and [`named_stream`].
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

/// The stream of one view of one sample in one epoch.
///
/// The four numbers are the key itself, not a hash of it, so that two different keys never share
/// a stream. `view` tells apart what is drawn for the same sample: by convention 0 is the weak
/// view and 1 the strong one.
#[must_use]
pub fn stream(seed: u64, epoch: u64, sample: u64, view: u64) -> Stream {
    let mut key = [0_u8; 32];
    for (bytes, part) in key.chunks_exact_mut(8).zip([seed, epoch, sample, view]) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    Stream(ChaCha8Rng::from_seed(key))
}

/// The stream of whatever is not a view: the split, a weight's initial values, a sampler's order.
///
/// The name takes the place of the sample through its 64-bit FNV-1a hash; `view` is set to its
/// largest value, which no view uses.
#[must_use]
pub fn named_stream(seed: u64, name: &str) -> Stream {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = name.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    stream(seed, 0, hash, u64::MAX)
}

impl Stream {
    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}
