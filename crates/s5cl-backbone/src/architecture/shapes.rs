//! Names and shapes of parameters without their values.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

/// Hands out zeros that take no memory, and writes down what was asked for.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl SimpleBackend for Recorder {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros(1, dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("{name} was asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// What is asked for while something is built.
pub(super) fn asked_for<T>(
    build: impl FnOnce(&VarBuilder<'_>) -> Result<T>,
) -> Result<BTreeMap<String, Vec<usize>>> {
    let recorder = Recorder::default();
    let backend = Box::new(recorder.clone());
    build(&VarBuilder::from_backend(backend, DType::F32, Device::Cpu))?;
    let asked = recorder.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(asked.clone())
}
