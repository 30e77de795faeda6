//! The types in which feature maps lie on a device.

use half::{bf16, f16};

use super::Plain;

/// A type of maps. Sums, statistics and parameters are f32 whatever it is.
pub(crate) trait Stored: Plain + Send + Sync {
    const TYPE: StoredType;

    /// The nearest value.
    #[cfg(test)]
    fn nearest(value: f32) -> Self;

    #[cfg(test)]
    fn to_f32(self) -> f32;
}

/// Which one it is, in the order in which kernels are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StoredType {
    F32,
    Bf16,
    F16,
}

macro_rules! stored {
    ($type:ty, $which:ident, $nearest:expr, $to_f32:expr) => {
        impl Stored for $type {
            const TYPE: StoredType = StoredType::$which;

            #[cfg(test)]
            fn nearest(value: f32) -> Self {
                $nearest(value)
            }

            #[cfg(test)]
            fn to_f32(self) -> f32 {
                $to_f32(self)
            }
        }
    };
}
stored!(f32, F32, std::convert::identity, std::convert::identity);
stored!(bf16, Bf16, bf16::from_f32, bf16::to_f32);
stored!(f16, F16, f16::from_f32, f16::to_f32);

// SAFETY: both are 16 bits, and any bits are a number.
#[expect(unsafe_code, reason = "a number is its bytes")]
unsafe impl Plain for bf16 {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a number is its bytes")]
unsafe impl Plain for f16 {}

/// Bytes that are read and written at once, whose address must be a multiple.
const ALIGNED: u64 = 16;

/// The names of a kernel that is there for each type, for one value at a time and for 16 bytes.
pub(crate) struct Names {
    pub(crate) single: [&'static str; 3],
    pub(crate) wide: [&'static str; 3],
}

impl Names {
    /// The kernel for so many neighboring values, which lie behind these addresses, and how many of
    /// them a thread takes at a time.
    pub(crate) fn of<T: Stored>(&self, values: usize, at: &[u64]) -> (&'static str, usize) {
        let width = wide::<T>();
        if values.is_multiple_of(width) && at.iter().all(|at| at.is_multiple_of(ALIGNED)) {
            (self.wide[T::TYPE as usize], width)
        } else {
            (self.single[T::TYPE as usize], 1)
        }
    }
}

/// Values in 16 bytes.
pub(crate) const fn wide<T>() -> usize {
    ALIGNED as usize / size_of::<T>()
}

/// The [`Names`] that `FOR_EACH_TYPE` of `maps.cuh` gives.
macro_rules! names {
    ($kernel:literal) => {
        crate::cuda::stored::Names {
            single: [concat!($kernel, "_f32"), concat!($kernel, "_bf16"), concat!($kernel, "_f16")],
            wide: [
                concat!($kernel, "_f32_wide"),
                concat!($kernel, "_bf16_wide"),
                concat!($kernel, "_f16_wide"),
            ],
        }
    };
}
pub(crate) use names;

#[cfg(test)]
mod tests {
    use half::bf16;

    #[test]
    fn kernels_take_vectors_where_values_and_addresses_allow_it() {
        let names = names!("kernel");
        assert_eq!(names.of::<f32>(12, &[0, 4096]), ("kernel_f32_wide", 4));
        assert_eq!(names.of::<bf16>(16, &[32]), ("kernel_bf16_wide", 8));
        assert_eq!(names.of::<bf16>(12, &[32]), ("kernel_bf16", 1));
        assert_eq!(names.of::<f32>(12, &[4096, 4]), ("kernel_f32", 1));
    }
}
