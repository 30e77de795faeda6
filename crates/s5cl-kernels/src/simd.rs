//! Which vector instructions run: the widest the processor has, found at run time.
//!
//! Code is written once, generic over [`pulp::Simd`], and compiled for AVX-512, AVX2, NEON and
//! plain scalars. A test can narrow the choice for its own process; an element's
//! sum has the same order in all of them.

#[cfg(test)]
use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicU8, Ordering},
};

use pulp::{Arch, WithSimd};

/// Runs an operation compiled for the processor: one that is generic over the instructions, or a
/// closure of loops over plain slices. The closure must be marked `#[inline(always)]`, or it is
/// compiled apart and for any processor.
#[inline]
pub(crate) fn dispatch<Op: WithSimd>(operation: Op) -> Op::Output {
    arch().dispatch(operation)
}

#[cfg(not(test))]
#[inline]
pub(crate) fn arch() -> Arch {
    Arch::new()
}

/// The widest instructions that tests allow: 0 all, 1 no AVX-512, 2 none.
#[cfg(test)]
static FORCED: AtomicU8 = AtomicU8::new(0);

#[cfg(test)]
pub(crate) fn arch() -> Arch {
    match FORCED.load(Ordering::Relaxed) {
        0 => Arch::new(),
        #[cfg(target_arch = "x86_64")]
        1 => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        _ => Arch::Scalar,
    }
}

/// Runs a test with all instructions, without AVX-512, and without any.
///
/// The choice is the process's: tests that run beside this one compute with it too, and must
/// pass with it.
#[cfg(test)]
pub(crate) fn with_each_instruction_set(mut test: impl FnMut()) {
    // A test that failed meanwhile leaves nothing behind that matters.
    let _held = IN_USE.write().unwrap_or_else(PoisonError::into_inner);
    for forced in 0..3 {
        FORCED.store(forced, Ordering::Relaxed);
        test();
    }
    FORCED.store(0, Ordering::Relaxed);
}

/// Held for writing while a test narrows the choice.
#[cfg(test)]
static IN_USE: RwLock<()> = RwLock::new(());

/// Runs a test that compares bits, which another instruction set could change in between.
#[cfg(test)]
pub(crate) fn with_one_instruction_set<R>(test: impl FnOnce() -> R) -> R {
    let _held = IN_USE.read().unwrap_or_else(PoisonError::into_inner);
    test()
}
