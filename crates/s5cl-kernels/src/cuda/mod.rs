//! What a GPU is to the operations: memory, and kernels that are started on it.
//!
//! The code that starts kernels is generic over [`Gpu`], so that it runs twice: on a device through
//! candle, and in tests on the CPU, where the same kernels are compiled as C++ and their threads
//! take turns (`emulated.hpp`). Kernels lie as `.cu` files beside the code that starts them.

#[cfg(feature = "cuda")]
mod device;
#[cfg(test)]
pub(crate) mod emulated;
pub(crate) mod library;
pub(crate) mod maps;
pub(crate) mod stored;

use std::ffi::c_void;
use std::marker::PhantomData;

use candle_core::Result;

#[cfg(feature = "cuda")]
pub(crate) use device::{CudaGpu, operand, values};

/// Something that runs kernels, one after another in the order in which they are started.
pub(crate) trait Gpu {
    /// Bytes on the device, given back when dropped; kernels that were started before still may
    /// use them.
    type Memory;

    /// Room for `len` values, which hold anything.
    fn allocate<T: Plain>(&self, len: usize) -> Result<Memory<Self, T>>
    where
        Self: Sized,
    {
        let memory = self.allocate_bytes(len * size_of::<T>())?;
        let pointer = Pointer { address: self.address(&memory), values: PhantomData };
        Ok(Memory { pointer, len, _owned: memory })
    }

    /// Room for so many bytes.
    fn allocate_bytes(&self, bytes: usize) -> Result<Self::Memory>;

    /// Where memory is on the device.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Copies values to the device.
    fn upload<T: Plain>(&self, values: &[T]) -> Result<Memory<Self, T>>
    where
        Self: Sized,
    {
        let mut memory = self.allocate(values.len())?;
        self.write(&mut memory, 0, values)?;
        Ok(memory)
    }

    /// Copies values into memory of the device, from the value `first` on.
    fn write<T: Plain>(&self, to: &mut Memory<Self, T>, first: usize, values: &[T]) -> Result<()>
    where
        Self: Sized;

    /// Writes zeros.
    fn clear<T: Plain>(&self, memory: &mut Memory<Self, T>) -> Result<()>
    where
        Self: Sized;

    /// How many blocks of the largest kind the device runs at a time.
    fn n_multiprocessors(&self) -> u32;

    /// Whether the kernels made for Hopper alone run there.
    fn is_hopper(&self) -> bool;

    /// Starts a kernel.
    ///
    /// # Errors
    ///
    /// If there is no such kernel, or the device refuses it.
    ///
    /// # Safety
    ///
    /// The arguments must be the kernel's parameters in order and type, and every pointer among
    /// them must reach as far as the kernel reads and writes for the sizes beside it.
    #[expect(unsafe_code, reason = "a kernel reads and writes wherever it is told to")]
    unsafe fn launch(&self, launch: &Launch, arguments: &[Argument<'_>]) -> Result<()>;
}

/// Values on a device.
pub(crate) struct Memory<G: Gpu, T> {
    pointer: Pointer<T>,
    len: usize,
    _owned: G::Memory,
}

impl<G: Gpu, T> Memory<G, T> {
    /// Where the values are.
    pub(crate) fn pointer(&self) -> Pointer<T> {
        self.pointer
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Where values are on a device.
#[repr(transparent)]
pub(crate) struct Pointer<T> {
    address: u64,
    values: PhantomData<fn() -> T>,
}

impl<T> Clone for Pointer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Pointer<T> {}

impl<T> Pointer<T> {
    /// What a kernel is given where it is given nothing.
    pub(crate) const NULL: Self = Self { address: 0, values: PhantomData };

    /// Where the values begin at an address of the device.
    pub(crate) fn at(address: u64) -> Self {
        Self { address, values: PhantomData }
    }

    /// The value `n` places further.
    pub(crate) fn offset(self, n: usize) -> Self {
        Self::at(self.address + (n * size_of::<T>()) as u64)
    }

    /// The address on the device.
    pub(crate) fn address(self) -> u64 {
        self.address
    }
}

/// Numbers, and structures of numbers in C's order, which mean the same on a device.
///
/// # Safety
///
/// Every pattern of bits is a value, and there is no padding that must not be read.
#[expect(unsafe_code, reason = "bytes go to the device and back as they are")]
pub(crate) unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($number:ty),*) => {$(
        // SAFETY: a number has no padding, and any bits are one.
        #[expect(unsafe_code, reason = "a number is its bytes")]
        unsafe impl Plain for $number {}
    )*};
}
plain!(u8, u16, u32, i32, u64, f32, f64);

/// Which kernel is started, on how many threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch {
    /// The file that holds the kernel, without its ending.
    pub(crate) module: &'static str,
    /// The kernel's name.
    pub(crate) kernel: &'static str,
    /// Blocks in each direction.
    pub(crate) grid: [u32; 3],
    /// Threads of a block in each direction.
    pub(crate) block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub(crate) shared_bytes: u32,
}

impl Launch {
    /// Blocks and threads in one direction, without dynamic shared memory.
    pub(crate) fn new(
        module: &'static str,
        kernel: &'static str,
        blocks: u32,
        threads: u32,
    ) -> Self {
        Self { module, kernel, grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes: 0 }
    }
}

/// A value that a kernel is given.
#[derive(Clone, Copy)]
pub(crate) enum Argument<'a> {
    /// A pointer or a number, its bits in the lower part.
    Scalar(u64),
    /// A structure, where it lies in memory.
    Structure(*const c_void, PhantomData<&'a ()>),
}

impl<'a> Argument<'a> {
    /// A structure by value.
    pub(crate) fn structure<T: Plain>(value: &'a T) -> Self {
        Self::Structure(std::ptr::from_ref(value).cast(), PhantomData)
    }

    /// Where the value lies, as the start of a kernel takes it.
    fn address(&self) -> *mut c_void {
        match self {
            // The lower part comes first, as on every machine with a GPU of this kind.
            Self::Scalar(bits) => std::ptr::from_ref(bits).cast_mut().cast(),
            Self::Structure(address, _) => address.cast_mut(),
        }
    }
}

impl<T> From<Pointer<T>> for Argument<'_> {
    fn from(pointer: Pointer<T>) -> Self {
        Self::Scalar(pointer.address)
    }
}

macro_rules! scalar_argument {
    ($($number:ty => $bits:ty),*) => {$(
        impl From<$number> for Argument<'_> {
            fn from(number: $number) -> Self {
                Self::Scalar(u64::from(<$bits>::from_le_bytes(number.to_le_bytes())))
            }
        }
    )*};
}
scalar_argument!(u32 => u32, i32 => u32, f32 => u32, u64 => u64, f64 => u64);
