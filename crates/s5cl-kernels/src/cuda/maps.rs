//! Maps from f32 to the type in which they are stored and back, and their sums.
#![expect(unsafe_code, reason = "kernels are started with raw pointers")]

use candle_core::{Result, bail};

use crate::cuda::stored::{Stored, names};
use crate::cuda::{Gpu, Launch, Pointer};

/// Threads of a block.
const THREADS: u32 = 256;

/// Rows of channels, of which there are others behind the conversion.
#[derive(Clone, Copy)]
pub(crate) struct Channels {
    pub(crate) rows: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Channels {
    pub(crate) fn same(values: usize) -> Self {
        Self { rows: 1, from: values, to: values }
    }

    /// Where no channel comes or goes, rows do not matter.
    fn merged(self) -> Self {
        if self.from == self.to { Self::same(self.rows * self.from) } else { self }
    }
}

fn count(n: usize) -> Result<u32> {
    match u32::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => bail!("network: {n} values are more than a GPU counts"),
    }
}

fn launch(kernel: &'static str, n: u32) -> Launch {
    Launch::new("maps", kernel, n.div_ceil(THREADS), THREADS)
}

/// From f32 to the type of the maps; further channels are zero.
///
/// # Safety
///
/// The pointers must reach as far as the sizes say.
pub(crate) unsafe fn store<G: Gpu, T: Stored>(
    gpu: &G,
    values: Pointer<f32>,
    out: Pointer<T>,
    channels: Channels,
) -> Result<()> {
    let Channels { rows, from, to } = channels.merged();
    let (kernel, width) = names!("store_maps").of::<T>(to, &[out.address()]);
    let n = count(rows * to / width)?;
    let [from, to] = [count(from)?, count(to)?];
    let arguments = [values.into(), out.into(), from.into(), to.into(), n.into()];
    // SAFETY: these are the kernel's parameters; the caller's promise covers their reach.
    unsafe { gpu.launch(&launch(kernel, n), &arguments) }
}

/// From the type of the maps to f32; further channels are left out.
///
/// # Safety
///
/// The pointers must reach as far as the sizes say.
pub(crate) unsafe fn load<G: Gpu, T: Stored>(
    gpu: &G,
    values: Pointer<T>,
    out: Pointer<f32>,
    channels: Channels,
) -> Result<()> {
    let Channels { rows, from, to } = channels.merged();
    let (kernel, width) = names!("load_maps").of::<T>(to, &[out.address()]);
    let n = count(rows * to / width)?;
    let [from, to] = [count(from)?, count(to)?];
    let arguments = [values.into(), out.into(), from.into(), to.into(), n.into()];
    // SAFETY: as above.
    unsafe { gpu.launch(&launch(kernel, n), &arguments) }
}

/// Adds other maps to a sum.
///
/// # Safety
///
/// Both pointers must reach `len` values.
pub(crate) unsafe fn add<G: Gpu, T: Stored>(
    gpu: &G,
    sum: Pointer<T>,
    other: Pointer<T>,
    len: usize,
) -> Result<()> {
    let (kernel, width) = names!("add_maps").of::<T>(len, &[sum.address(), other.address()]);
    let n = count(len / width)?;
    // SAFETY: as above.
    unsafe { gpu.launch(&launch(kernel, n), &[sum.into(), other.into(), n.into()]) }
}

/// Writes the sum of two maps, or a copy of the first where the second is null.
///
/// # Safety
///
/// The pointers must reach `len` values.
pub(crate) unsafe fn sum<G: Gpu, T: Stored>(
    gpu: &G,
    [first, second, out]: [Pointer<T>; 3],
    len: usize,
) -> Result<()> {
    let addresses = [first, second, out].map(Pointer::address);
    let (kernel, width) = names!("sum_maps").of::<T>(len, &addresses);
    let n = count(len / width)?;
    let arguments = [first.into(), second.into(), out.into(), n.into()];
    // SAFETY: as above.
    unsafe { gpu.launch(&launch(kernel, n), &arguments) }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{Channels, add, load, store, sum};
    use crate::checks::draw;
    use crate::cuda::Gpu;
    use crate::cuda::Pointer;
    use crate::cuda::emulated::{EmulatedGpu, with_emulated_gpu};
    use crate::cuda::stored::Stored;

    fn check_sum<T: Stored>(gpu: &EmulatedGpu, len: usize) {
        let values =
            [1, 2].map(|seed| -> Vec<T> { draw(seed, len).into_iter().map(T::nearest).collect() });
        let [first, second] = values.each_ref().map(|values| gpu.upload(values).unwrap());
        let [copy, both] = [(); 2].map(|()| gpu.allocate::<T>(len).unwrap());
        let (a, b) = (first.pointer(), second.pointer());
        // SAFETY: everything was allocated for so many values.
        unsafe {
            sum(gpu, [a, Pointer::NULL, copy.pointer()], len).unwrap();
            sum(gpu, [a, b, both.pointer()], len).unwrap();
        }
        let wide = |values: Vec<T>| values.into_iter().map(T::to_f32).collect::<Vec<f32>>();
        let [first, second] = values.map(wide);
        assert_eq!(wide(gpu.download(&copy)), first, "{:?} {len}", T::TYPE);
        let sums = first.iter().zip(&second).map(|(a, b)| T::nearest(a + b).to_f32());
        assert_eq!(wide(gpu.download(&both)), sums.collect::<Vec<f32>>(), "{:?} {len}", T::TYPE);
    }

    fn check<T: Stored>(gpu: &EmulatedGpu, [rows, few, many]: [usize; 3]) {
        let what = format!("{:?} {rows} x {few} of {many}", T::TYPE);
        let values = draw(1, rows * few);
        let [out, back] = [rows * many, rows * few].map(|n| gpu.allocate::<f32>(n).unwrap());
        let stored = gpu.allocate::<T>(rows * many).unwrap();
        let given = gpu.upload(&values).unwrap();
        let (wider, narrower) =
            (Channels { rows, from: few, to: many }, Channels { rows, from: many, to: few });
        // SAFETY: everything was allocated for these shapes.
        unsafe {
            store(gpu, given.pointer(), stored.pointer(), wider).unwrap();
            load(gpu, stored.pointer(), out.pointer(), Channels::same(rows * many)).unwrap();
            add(gpu, stored.pointer(), stored.pointer(), rows * many).unwrap();
            load(gpu, stored.pointer(), back.pointer(), narrower).unwrap();
        }
        let rounded = |value: f32| T::nearest(value).to_f32();
        let expected: Vec<f32> = (0..rows * many)
            .map(|i| if i % many < few { rounded(values[i / many * few + i % many]) } else { 0.0 })
            .collect();
        assert_eq!(gpu.download(&out), expected, "{what}");
        let expected: Vec<f32> = values.iter().map(|&value| 2.0 * rounded(value)).collect();
        assert_eq!(gpu.download(&back), expected, "{what} and back");
    }

    #[test]
    fn maps_kernels_sum_and_copy() {
        with_emulated_gpu(|gpu| {
            for len in [1, 8, 300, 2056] {
                check_sum::<f32>(gpu, len);
                check_sum::<bf16>(gpu, len);
                check_sum::<f16>(gpu, len);
            }
        });
    }

    #[test]
    fn maps_kernels_convert_and_add() {
        with_emulated_gpu(|gpu| {
            for shape in [[1, 1, 1], [300, 3, 8], [70, 3, 4], [9, 5, 5], [33, 16, 16], [2, 1, 3]] {
                check::<f32>(gpu, shape);
                check::<bf16>(gpu, shape);
                check::<f16>(gpu, shape);
            }
        });
    }
}
