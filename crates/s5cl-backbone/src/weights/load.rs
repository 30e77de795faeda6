//! From a file into the parameters of a model.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Tensor, Var};

use super::architecture::{encoder_of, encoder_of_file};
use super::key_map::KEY_MAPS;
use super::mapping::Mapping;
use super::positions::{CLASS_TOKEN, POSITIONS, PositionFit, REGISTERS};
use super::report::is_head;
use super::{KeyReport, WeightsError, WeightsFile};

/// Loads a file as initial weights: [`WeightsFile::open`] and [`WeightsFile::load_into`].
///
/// # Errors
///
/// Those of the two.
///
/// # Example
///
/// ```
/// use candle_core::Device;
/// use s5cl_backbone::{Encoder, EncoderConfig, Parameters, load_weights, save_weights};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pretrained = Parameters::new(0);
/// let config = EncoderConfig::named("resnet-slim", 32)?;
/// Encoder::new(&config, &pretrained.builder(&Device::Cpu))?;
/// let prefixed = |(key, value): (String, candle_core::Var)| {
///     (format!("module.backbone.{key}"), value.into_inner())
/// };
/// let tensors = pretrained.all().into_iter().map(prefixed).collect();
/// let path = std::env::temp_dir().join("s5cl-backbone-load-weights.safetensors");
/// std::fs::write(&path, save_weights(&tensors, &Default::default())?)?;
///
/// let parameters = Parameters::new(1);
/// Encoder::new(&config, &parameters.builder(&Device::Cpu))?;
/// let report = load_weights(&path, &parameters.all())?;
/// assert!(report.is_complete() && report.prefix == "module.backbone.");
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
pub fn load_weights(
    path: &Path,
    parameters: &BTreeMap<String, Var>,
) -> Result<KeyReport, WeightsError> {
    WeightsFile::open(path)?.load_into(parameters)
}

/// The tensors of one key, and what is done with them.
struct Planned<'p> {
    key: &'p str,
    variable: &'p Var,
    sources: Vec<String>,
    positions: Option<PositionFit>,
}

impl WeightsFile {
    /// Loads the file as initial weights.
    ///
    /// Names may be those of timm, torchvision, transformers or DINOv2's own code, behind prefixes
    /// such as `module.` or `teacher.backbone.`; the ones that give most keys of the model count.
    /// Shapes may differ by dimensions of length 1. A position embedding of another square grid is
    /// interpolated, and its row of the class token is added to the token where the model has no
    /// such row. Heads are only taken from a file that has both of ours. Nothing is changed unless
    /// the whole file fits; until then its values are held in memory, in f32.
    ///
    /// # Errors
    ///
    /// If a key of the encoder is missing or has another shape, if the file has a key that a
    /// larger encoder would need, or a value that is not finite or of a type that cannot be used.
    pub fn load_into(
        &mut self,
        parameters: &BTreeMap<String, Var>,
    ) -> Result<KeyReport, WeightsError> {
        let (planned, report) = self.plan(parameters);
        if !report.fits() {
            let hint = self.hint(parameters);
            let (path, report) = (self.path().to_owned(), Box::new(report));
            return Err(WeightsError::Mismatch { path, report, hint });
        }
        let mut class_row = None;
        let mut loaded = BTreeMap::new();
        for Planned { key, variable, sources, positions } in &planned {
            let mut values = Vec::with_capacity(variable.elem_count());
            for source in sources {
                values.extend(self.values(source)?.0);
            }
            if let Some(fit) = positions {
                let (class, patches) = fit.apply(&values);
                class_row = fit.moves_class_row().then_some(class);
                values = patches;
            }
            loaded.insert(*key, (*variable, values));
        }
        if let (Some(row), Some((_, token))) = (class_row, loaded.get_mut(CLASS_TOKEN)) {
            token.iter_mut().zip(row).for_each(|(token, row)| *token += row);
        }
        let mut tensors = Vec::with_capacity(loaded.len());
        for (key, (variable, values)) in loaded {
            let tensor = Tensor::from_vec(values, variable.shape(), variable.device())
                .and_then(|tensor| tensor.to_dtype(variable.dtype()));
            let failed = |error: candle_core::Error| self.tensor_error(key, error.to_string());
            tensors.push((key, variable, tensor.map_err(failed)?));
        }
        for (key, variable, tensor) in tensors {
            let set = variable.set(&tensor);
            set.map_err(|error| self.tensor_error(key, error.to_string()))?;
        }
        Ok(report)
    }

    /// What would be loaded from where, and how the keys compare.
    fn plan<'p>(&self, parameters: &'p BTreeMap<String, Var>) -> (Vec<Planned<'p>>, KeyReport) {
        let names: Vec<&str> = self.shapes().map(|(name, _)| name).collect();
        let mut report = KeyReport::default();
        let Some(mapping) = Mapping::best(&names, parameters.keys()) else {
            report.missing = parameters.keys().cloned().collect();
            return (Vec::new(), report);
        };
        if parameters.keys().any(|key| mapping.complete(key).is_some()) {
            report.names = mapping.map.name.clone();
            report.prefix = mapping.prefix.clone();
        }
        // A classifier without an embedder is somebody else's, whatever its shape.
        let has_heads =
            parameters.keys().all(|key| !is_head(key) || mapping.complete(key).is_some());
        let registers = parameters.get(REGISTERS).and_then(|tokens| tokens.dims().get(1).copied());
        let n_registers = registers.unwrap_or(0);
        let mut planned = Vec::new();
        for (key, variable) in parameters {
            let sources = mapping.complete(key).filter(|_| has_heads || !is_head(key));
            let Some(sources) = sources else {
                report.missing.push(key.clone());
                continue;
            };
            let shape = self.joined_shape(&sources);
            let positions = shape.as_ref().and_then(|shape| {
                PositionFit::new(shape, variable.dims(), n_registers).filter(|_| key == POSITIONS)
            });
            let is_same = shape.as_ref().is_some_and(|shape| fits(shape, variable.dims()));
            if is_same || positions.is_some() {
                report.matched.push(key.clone());
                report.interpolated =
                    report.interpolated.or(positions.and_then(|fit| fit.interpolated()));
                let sources = sources.into_iter().map(str::to_owned).collect();
                planned.push(Planned { key, variable, sources, positions });
            } else {
                let shape = shape.map_or_else(|| "[?]".into(), |shape| format!("{shape:?}"));
                report.misshapen.push(format!("{key} {shape} for {:?}", variable.dims()));
            }
        }
        // What lies outside the prefix belongs to other parts of a checkpoint.
        for (key, names) in &mapping.sources {
            let is_known = parameters.contains_key(key) && (has_heads || !is_head(key));
            let names = names.iter().flatten().filter(|_| !is_known);
            for name in names {
                let bare = &name[mapping.prefix.len()..];
                let is_needless = KEY_MAPS.is_needless(bare) || KEY_MAPS.is_needless(key);
                let list = if is_needless { &mut report.ignored } else { &mut report.unexpected };
                list.push((*name).to_owned());
            }
        }
        for name in mapping.others {
            let is_outside = !name.starts_with(&mapping.prefix);
            let list = if is_outside { &mut report.ignored } else { &mut report.unexpected };
            list.push(name.to_owned());
        }
        report.ignored.sort();
        report.unexpected.sort();
        (planned, report)
    }

    /// The shape of tensors that are concatenated along the first dimension.
    pub(super) fn joined_shape(&self, names: &[&str]) -> Option<Vec<usize>> {
        let mut shape = self.shape(names.first()?)?.to_vec();
        for name in &names[1..] {
            let (first, rest) = self.shape(name)?.split_first()?;
            if shape.get(1..)? != rest {
                return None;
            }
            shape[0] += first;
        }
        Some(shape)
    }

    /// The encoder that a file is of, as the end of a line that says which one it is not of.
    fn hint(&self, parameters: &BTreeMap<String, Var>) -> String {
        let ours = encoder_of(|key| parameters.get(key).map(|variable| variable.dims().to_vec()));
        match encoder_of_file(self).filter(|theirs| Some(*theirs) != ours) {
            Some(theirs) => format!("; its keys are those of encoder.name = {theirs:?}"),
            None => String::new(),
        }
    }
}

/// Whether two shapes differ by nothing but dimensions of length 1.
pub(super) fn fits(theirs: &[usize], ours: &[usize]) -> bool {
    let longer =
        |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|&dim| dim != 1).collect() };
    longer(theirs) == longer(ours)
}
