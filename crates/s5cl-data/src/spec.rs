//! How a user names a dataset, and how it is opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use image::RgbImage;

use crate::synthetic::{CLASS_NAMES, Tissue, TissueConfig};
use crate::{DataError, Dataset, Sample, Tiles, folder, npz};

const SYNTHETIC: &str = "synthetic:";
const FOLDER: &str = "folder:";
const NPZ: &str = "npz:";

/// Where a dataset comes from.
///
/// Read from text, the kind is recognized from what is there, or named by a prefix:
///
/// - `synthetic:tissue`, with options as in `synthetic:tissue?size=32&images=3000&seed=0`;
/// - a folder, or `folder:PATH`;
/// - a file that ends in `.npz`, or `npz:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Tissue that is drawn on the fly.
    Synthetic(TissueConfig),
    /// One folder per class, with or without `train/`, `val/`, `test/` above them.
    Folder(PathBuf),
    /// An archive in MedMNIST layout.
    Npz(PathBuf),
}

impl FromStr for Spec {
    type Err = DataError;

    fn from_str(spec: &str) -> Result<Self, DataError> {
        if let Some(set) = spec.strip_prefix(SYNTHETIC) {
            return tissue_config(spec, set).map(Self::Synthetic);
        }
        if let Some(path) = spec.strip_prefix(FOLDER) {
            return Ok(Self::Folder(path.into()));
        }
        if let Some(path) = spec.strip_prefix(NPZ) {
            return Ok(Self::Npz(path.into()));
        }
        let path = PathBuf::from(spec);
        if path.is_dir() {
            Ok(Self::Folder(path))
        } else if !path.exists() {
            Err(DataError::NotFound { path })
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz")) {
            Ok(Self::Npz(path))
        } else {
            Err(DataError::UnknownKind { path })
        }
    }
}

impl fmt::Display for Spec {
    /// Writes what reads back as the same specification, wherever the path leads by then.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Synthetic(TissueConfig { size_pixels, images, seed, .. }) => {
                write!(f, "{SYNTHETIC}tissue?size={size_pixels}&images={images}&seed={seed}")
            }
            Self::Folder(path) => write!(f, "{FOLDER}{}", path.display()),
            Self::Npz(path) => write!(f, "{NPZ}{}", path.display()),
        }
    }
}

/// Opens what a specification names; tiles of a folder are read later, when they are asked for.
///
/// # Errors
///
/// If there is nothing at the path, if it is not laid out as a dataset, or if it holds fewer than
/// two classes.
pub fn open(spec: &Spec) -> Result<Dataset, DataError> {
    match spec {
        Spec::Synthetic(config) => open_tissue(spec, config),
        Spec::Folder(path) => folder::open(path),
        Spec::Npz(path) => npz::open(path),
    }
}

fn tissue_config(spec: &str, set: &str) -> Result<TissueConfig, DataError> {
    let (name, options) = set.split_once('?').unwrap_or((set, ""));
    if name != "tissue" {
        return Err(DataError::UnknownSynthetic { name: name.to_owned() });
    }
    let mut config = TissueConfig::standard();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "size" => config.size_pixels = number(spec, key, value)?,
            "images" => config.images = number(spec, key, value)?,
            "seed" => config.seed = number(spec, key, value)?,
            _ => {
                let (spec, option) = (spec.to_owned(), key.to_owned());
                return Err(DataError::UnknownOption { spec, option, valid: "size, images, seed" });
            }
        }
    }
    Ok(config)
}

fn number<T: FromStr>(spec: &str, key: &str, value: &str) -> Result<T, DataError> {
    let Ok(number) = value.parse() else {
        return Err(DataError::BadOption {
            spec: spec.to_owned(),
            option: key.to_owned(),
            value: value.to_owned(),
            expected: "a whole number",
        });
    };
    Ok(number)
}

impl Tiles for Tissue {
    fn tile(&self, sample_idx: usize) -> Result<RgbImage, DataError> {
        Ok(Tissue::tile(self, sample_idx))
    }
}

fn open_tissue(spec: &Spec, config: &TissueConfig) -> Result<Dataset, DataError> {
    let spec = spec.to_string();
    let tissue = Tissue::new(config.clone())
        .map_err(|error| DataError::Synthetic { spec: spec.clone(), reason: error.to_string() })?;
    let samples = tissue
        .samples()
        .iter()
        .map(|sample| Sample {
            id: sample.id.clone(),
            class_idx: Some(sample.class_idx),
            split: Some(sample.split),
            group: Some(sample.patient.clone()),
        })
        .collect();
    let class_names = CLASS_NAMES.iter().map(|&name| name.to_owned()).collect();
    Dataset::new("synthetic-tissue", class_names, samples, Arc::new(tissue), spec.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::test_support::TempFolder;
    use crate::{LabelBudget, partition};

    fn refused(spec: &str) -> String {
        spec.parse::<Spec>().unwrap_err().to_string()
    }

    #[test]
    fn spec_reads_synthetic_options() {
        let standard = Spec::Synthetic(TissueConfig::standard());
        assert_eq!("synthetic:tissue".parse(), Ok(standard.clone()));
        assert_eq!(standard.to_string().parse(), Ok(standard));
        let spec: Spec = "synthetic:tissue?seed=7&size=64".parse().unwrap();
        assert_eq!(spec.to_string(), "synthetic:tissue?size=64&images=3000&seed=7");
    }

    #[test]
    fn spec_refuses_what_it_does_not_know_and_names_what_it_does() {
        let message = refused("synthetic:tissue?colour=3");
        assert!(message.contains("unknown option `colour`; valid options are size, images, seed"));
        let message = refused("synthetic:tissue?images=-3");
        assert!(message.contains("`-3` is no value for `images`; give a whole number"));
        assert!(refused("synthetic:tissue?size").contains("`` is no value for `size`"));
        assert!(refused("synthetic:bone?size=3").contains("there is synthetic:tissue"));
        assert!(refused("no/such/place").contains("no/such/place: no such file or folder"));
    }

    #[test]
    fn spec_recognizes_folders_and_archives() {
        let folder = TempFolder::new();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let spec: Spec = text(folder.path()).parse().unwrap();
        assert_eq!(spec, Spec::Folder(folder.path().to_owned()));
        assert_eq!(spec.to_string().parse(), Ok(spec));
        let archive = folder.write("cells.NPZ", b"");
        let spec: Spec = text(&archive).parse().unwrap();
        assert_eq!(spec, Spec::Npz(archive.clone()));
        assert_eq!(spec.to_string().parse(), Ok(spec));
        let other = text(&folder.write("cells.tar", b""));
        assert!(refused(&other).contains("neither a folder nor a .npz file"));
        assert_eq!(format!("npz:{other}").parse(), Ok(Spec::Npz(other.into())));
    }

    #[test]
    fn open_makes_a_dataset_of_synthetic_tissue() {
        let spec: Spec = "synthetic:tissue?size=16&images=180".parse().unwrap();
        let dataset = open(&spec).unwrap();
        assert_eq!(dataset.samples.len(), 180);
        assert_eq!(dataset.n_classes(), CLASS_NAMES.len());
        assert_eq!(dataset.tile(3).unwrap().dimensions(), (16, 16));
        let parts = partition(&dataset, LabelBudget::PerClass(2), 0).unwrap();
        assert_eq!(parts.labeled.len(), 2 * CLASS_NAMES.len());
        let other = open(&"synthetic:tissue?size=16&images=180&seed=1".parse().unwrap()).unwrap();
        assert_ne!(dataset.digest(), other.digest());
    }

    #[test]
    fn open_says_what_the_generator_refuses() {
        let spec: Spec = "synthetic:tissue?size=1".parse().unwrap();
        let message = open(&spec).unwrap_err().to_string();
        assert!(message.starts_with("synthetic:tissue?size=1&"), "{message}");
    }
}
