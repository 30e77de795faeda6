//! Reproducible random streams, keyed by what they are for.
//!
//! A [`Stream`] is a ChaCha8 generator whose whole key is `(seed, epoch, sample, view)`. Nothing
//! is shared between two streams and none has a past: whoever asks for the numbers of sample 17
//! in epoch 3 gets the same ones, on any thread, in any order, after any interruption. There is
//! no global generator and no clock.
//!
//! The distributions are written here rather than taken from a crate because their values are
//! part of every result: they must never change with a dependency's version.
//!
//! ```
//! use s5cl_random::{named_stream, stream};
//!
//! let mut weak_view = stream(0, 3, 17, 0);
//! let angle_degrees = weak_view.uniform_in(-10.0, 10.0);
//! assert_eq!(angle_degrees, stream(0, 3, 17, 0).uniform_in(-10.0, 10.0));
//!
//! let mut order: Vec<u32> = (0..10).collect();
//! named_stream(0, "split").shuffle(&mut order);
//! ```

mod distributions;
mod stream;

pub use stream::{Stream, named_stream, stream};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
