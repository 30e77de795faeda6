//! What the tests of several operations share.

use candle_core::{Device, Result, Tensor, backprop::GradStore};

use crate::simd;

/// Values between -1 and 1, the same for a seed: a linear congruential generator's upper bits.
pub(crate) fn draw(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    // The first values of neighboring seeds are alike.
    const SKIPPED: usize = 8;
    std::iter::repeat_with(&mut next).skip(SKIPPED).take(n).collect()
}

/// A drawn tensor.
pub(crate) fn drawn(seed: u64, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(draw(seed, shape.iter().product()), shape, &Device::Cpu)
}

/// The values in order.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// The values of a variable's gradient.
pub(crate) fn gradient(gradients: &GradStore, of: &Tensor) -> Result<Vec<f32>> {
    match gradients.get(of) {
        Some(gradient) => values(gradient),
        None => candle_core::bail!("no gradient reached {of:?}"),
    }
}

/// The message of a refusal, or nothing.
pub(crate) fn refusal<T>(result: Result<T>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

/// Fails unless each value is the expected one, but for an error measured against the largest.
pub(crate) fn assert_close<T: Copy + Into<f64>>(
    what: &str,
    got: &[T],
    expected: &[f64],
    tolerance: f64,
) {
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0, "{what}: nothing to compare");
    assert_within(what, got, expected, tolerance * largest);
}

/// Fails unless each value is the expected one, but for an error of `most`; a NaN is not.
pub(crate) fn assert_within<T: Copy + Into<f64>>(
    what: &str,
    got: &[T],
    expected: &[f64],
    most: f64,
) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&got, expected)) in got.iter().zip(expected).enumerate() {
        let got: f64 = got.into();
        assert!((got - expected).abs() <= most, "{what}: value {i} is {got}, expected {expected}");
    }
}

/// Numbers of threads that bits must not depend on.
const N_THREADS: [usize; 4] = [1, 2, 3, 5];

/// Fails unless a computation gives the same bits on 1, 2, 3 and 5 threads, with each instruction
/// set; returns its values.
pub(crate) fn same_everywhere(compute: impl Fn() -> Result<Vec<f32>> + Sync) -> Vec<f32> {
    let mut expected: Option<Vec<f32>> = None;
    simd::with_each_instruction_set(|| assert_same_bits(&compute, &mut expected));
    expected.unwrap_or_default()
}

/// Fails unless a computation gives the same bits on 1, 2, 3 and 5 threads; another instruction
/// set may give others, as not all of them add a product without rounding it.
pub(crate) fn same_on_any_threads(compute: impl Fn() -> Result<Vec<f32>> + Sync) {
    simd::with_each_instruction_set(|| assert_same_bits(&compute, &mut None));
}

fn assert_same_bits(
    compute: &(impl Fn() -> Result<Vec<f32>> + Sync),
    expected: &mut Option<Vec<f32>>,
) {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for n_threads in N_THREADS {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let got = pool.install(compute).unwrap();
        let expected = expected.get_or_insert_with(|| got.clone());
        assert!(bits(&got) == bits(expected), "{n_threads} threads give other bits");
    }
}
