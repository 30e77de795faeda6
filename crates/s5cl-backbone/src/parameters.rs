//! Every weight of a model, by name, drawn from a seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use s5cl_random::named_stream;

/// Names that end so are statistics, which no gradient moves.
const BUFFERS: [&str; 2] = ["running_mean", "running_var"];

/// The weights and statistics of a model, in the order of their names.
///
/// Layers ask for theirs through [`Parameters::builder`]. A weight's initial values depend on the
/// seed and its full name alone, so that adding a layer changes no other. (candle's own `VarMap`
/// iterates in random order and draws from a generator that cannot be seeded.)
///
/// A clone is another handle to the same weights.
#[derive(Clone)]
pub struct Parameters {
    seed: u64,
    variables: Arc<Mutex<BTreeMap<String, Var>>>,
}

impl Parameters {
    /// No weights yet; layers that are built add theirs.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, variables: Arc::default() }
    }

    /// What layers are built from; f32.
    #[must_use]
    pub fn builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// Weights and statistics by name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Var> {
        self.lock().clone()
    }

    /// What a gradient moves: weights without the statistics of normalization.
    #[must_use]
    pub fn trainable(&self) -> BTreeMap<String, Var> {
        let mut trainable = self.all();
        trainable.retain(|name, _| !BUFFERS.iter().any(|buffer| name.ends_with(buffer)));
        trainable
    }

    /// Where they are; the CPU while there are none.
    #[must_use]
    pub fn device(&self) -> Device {
        self.lock().values().next().map_or(Device::Cpu, |value| value.device().clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        // A panic while the lock was held leaves the map whole: insertion is its only change.
        self.variables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimpleBackend for Parameters {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let mut variables = self.lock();
        if let Some(known) = variables.get(name) {
            if known.shape() != &shape {
                bail!("{name} has shape {:?}, asked for with {shape:?}", known.shape())
            }
            return Ok(known.as_tensor().clone());
        }
        let values = initial_values(self.seed, name, &shape, init);
        let values = Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?;
        let variable = Var::from_tensor(&values)?;
        let tensor = variable.as_tensor().clone();
        variables.insert(name.to_owned(), variable);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> Result<Tensor> {
        match self.lock().get(name) {
            Some(known) => Ok(known.as_tensor().clone()),
            None => bail!("there is no parameter {name:?}"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

fn initial_values(seed: u64, name: &str, shape: &Shape, init: Init) -> Vec<f32> {
    let mut random = named_stream(seed, name);
    let n = shape.elem_count();
    let mut uniform = |low: f64, high: f64| -> Vec<f32> {
        (0..n).map(|_| random.uniform_in(low as f32, high as f32)).collect()
    };
    match init {
        Init::Const(value) => vec![value as f32; n],
        Init::Uniform { lo, up } => uniform(lo, up),
        Init::Randn { mean, stdev } => {
            (0..n).map(|_| (mean + stdev * f64::from(random.normal())) as f32).collect()
        }
        Init::Kaiming { dist, fan, non_linearity } => {
            let deviation = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => {
                    (0..n).map(|_| (deviation * f64::from(random.normal())) as f32).collect()
                }
                NormalOrUniform::Uniform => {
                    let bound = 3_f64.sqrt() * deviation;
                    uniform(-bound, bound)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};

    use super::Parameters;

    fn weight(seed: u64, name: &str) -> Result<Vec<f32>> {
        let init = candle_nn::init::DEFAULT_KAIMING_NORMAL;
        let builder = Parameters::new(seed).builder(&Device::Cpu);
        builder.get_with_hints((3, 4), name, init)?.flatten_all()?.to_vec1()
    }

    #[test]
    fn parameters_depend_on_seed_and_name_alone() -> Result<()> {
        assert_eq!(weight(0, "a")?, weight(0, "a")?);
        assert_ne!(weight(0, "a")?, weight(0, "b")?);
        assert_ne!(weight(0, "a")?, weight(1, "a")?);
        Ok(())
    }

    #[test]
    fn parameters_statistics_are_not_trainable() -> Result<()> {
        let parameters = Parameters::new(0);
        let builder = parameters.builder(&Device::Cpu).pp("bn1");
        builder.get(4, "weight")?;
        builder.get(4, "running_mean")?;
        assert_eq!(parameters.all().len(), 2);
        assert!(parameters.device().is_cpu() && Parameters::new(0).device().is_cpu());
        assert_eq!(parameters.trainable().into_keys().collect::<Vec<_>>(), ["bn1.weight"]);
        Ok(())
    }

    #[test]
    fn parameters_are_shared_with_the_layers() -> Result<()> {
        let parameters = Parameters::new(0);
        let seen = parameters.builder(&Device::Cpu).get(2, "bias")?;
        let variable = &parameters.all()["bias"];
        variable.set(&Tensor::new(&[1_f32, 2.0], &Device::Cpu)?)?;
        assert_eq!(seen.to_vec1::<f32>()?, [1.0, 2.0]);
        Ok(())
    }
}
