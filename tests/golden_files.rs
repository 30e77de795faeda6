//! The files under `golden/`, and how results are compared with them.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use serde::de::DeserializeOwned;

/// What a test returns: it fails at the first `?` that meets an error.
pub(crate) type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// Where a golden file lies.
pub(crate) fn path(name: &str) -> PathBuf {
    crate::package_folder().join("golden").join(name)
}

/// Reads a golden JSON file.
pub(crate) fn json<T: DeserializeOwned>(name: &str) -> TestResult<T> {
    Ok(serde_json::from_slice(&std::fs::read(path(name))?)?)
}

/// Reads a golden safetensors file.
pub(crate) fn arrays(name: &str) -> TestResult<BTreeMap<String, Tensor>> {
    Ok(candle_core::safetensors::load(path(name), &Device::Cpu)?.into_iter().collect())
}

/// The array of that name, or an error that names it.
pub(crate) fn array<'a>(
    arrays: &'a BTreeMap<String, Tensor>,
    name: &str,
) -> TestResult<&'a Tensor> {
    arrays.get(name).ok_or_else(|| format!("the golden file has no array {name:?}").into())
}

/// `[batch, channels, height, width]`, as PyTorch has it, to channels last.
pub(crate) fn channels_last(maps: &Tensor) -> candle_core::Result<Tensor> {
    maps.permute((0, 2, 3, 1))?.contiguous()
}

/// The gradient of a variable, or an error if none reached it.
pub(crate) fn gradient<'a>(gradients: &'a GradStore, of: &Var) -> TestResult<&'a Tensor> {
    gradients.get(of).ok_or_else(|| "no gradient reached the variable".into())
}

/// The values in order.
pub(crate) fn values(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Fails unless both have one shape and every value is within `tolerance` times the largest
/// expected size. Where all expected values are zero, so must the others be.
pub(crate) fn assert_close(
    what: &str,
    got: &Tensor,
    expected: &Tensor,
    tolerance: f64,
) -> TestResult {
    assert_eq!(got.dims(), expected.dims(), "{what}: shapes differ");
    assert_values_close(what, &values(got)?, &values(expected)?, tolerance);
    Ok(())
}

/// [`assert_close`] for plain numbers.
pub(crate) fn assert_values_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths differ");
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = (got - expected).abs();
        // A comparison with NaN is false and must fail.
        assert!(
            difference <= tolerance * largest,
            "{what}: value {i} is {got}, expected {expected} within {tolerance} of {largest}"
        );
    }
}
