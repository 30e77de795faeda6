//! The weights that a run starts from, by a path, by the name of an encoder that is known, or by an
//! id of the Hub.

use std::path::{Path, PathBuf};

use anyhow::Result;
use s5cl_backbone::{KnownEncoder, Trained, known_encoder, known_encoders, sha256, verify_sha256};

use crate::config::RunConfig;
use crate::failure::BadInput;
use crate::hub;

/// The name of weights as it holds in any folder: that of a known encoder, an id of the Hub, or a path
/// from the root. What exists is a file.
pub(crate) fn absolute_weights(weights: &str) -> Result<String> {
    let path = Path::new(weights);
    if !path.exists() && known_encoder(weights).is_some() {
        return Ok(weights.to_owned());
    }
    let is_name = path.extension().is_none() && !weights.contains(['/', '@']);
    if is_name && !path.exists() {
        let distance = |known: &&KnownEncoder| strsim::damerau_levenshtein(&known.id, weights);
        let nearest = known_encoders().iter().min_by_key(distance);
        let nearest = nearest.map(|known| known.id.as_str()).unwrap_or_default();
        let message = format!(
            "there is no file {weights}, and no encoder of that name is known (did you mean \
             {nearest}?): cargo xtask encoders lists them"
        );
        return Err(BadInput::new(message).into());
    }
    match hub::Source::of(weights)? {
        hub::Source::File(path) => Ok(std::path::absolute(&path)?.display().to_string()),
        hub::Source::Hub(_) => Ok(weights.to_owned()),
    }
}

/// Above this side in pixels, images for a known encoder are made larger only where settings say so.
const LARGEST_SIZE: u32 = 224;

/// Weights that are on this disk.
pub(crate) struct Pretrained {
    pub(crate) path: PathBuf,
    /// What the user should know of them.
    pub(crate) note: Option<String>,
}

impl Pretrained {
    /// Fills in the settings that belong to a known encoder, if a run starts from its weights: where
    /// these are, the size of its images, and how their pixels become numbers. Nothing is fetched;
    /// returns what the user should know.
    pub(crate) fn settle(config: &mut RunConfig) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if config.encoder.weights.is_empty() {
            if config.encoder.trained()? != Trained::All {
                notes.push(format!(
                    "encoder.train = {:?} keeps weights that are random: encoder.weights is empty",
                    config.encoder.train
                ));
            }
            return Ok(notes);
        }
        let Some(known) = known(&config.encoder.weights) else { return Ok(notes) };
        fits(known, config)?;
        notes.push(format!("{known}; {}", known.citation));
        if config.data.mean.is_empty() && config.data.std.is_empty() {
            (config.data.mean, config.data.std) = (known.mean.to_vec(), known.std.to_vec());
            notes.push(format!("pixels are normalized as {} was trained", known.id));
        }
        if config.data.image_size == 0 {
            config.data.image_size = (known.input_px as u32).min(LARGEST_SIZE);
        }
        if config.encoder.weights == known.id {
            config.encoder.weights = place(known)?;
        }
        Ok(notes)
    }

    /// Brings the weights of a run onto this disk, if it starts from some. Settings name them, and
    /// the hash of the file, from then on; a file of another hash is refused.
    pub(crate) fn fetch(config: &mut RunConfig, quiet: bool) -> Result<Option<Self>> {
        if config.encoder.weights.is_empty() {
            return Ok(None);
        }
        let hub::Weights { path, name, warning } = hub::resolve(&config.encoder.weights, quiet)?;
        config.encoder.weights = name;
        let expected = &mut config.encoder.weights_sha256;
        if expected.is_empty() {
            *expected = sha256(&path)?;
        } else {
            verify_sha256(&path, expected)?;
        }
        Ok(Some(Self { path, note: warning }))
    }
}

/// The encoder of a short name, or of an id whatever its revision.
fn known(weights: &str) -> Option<&'static KnownEncoder> {
    let repository = weights.split_once('@').map_or(weights, |(repository, _)| repository);
    known_encoder(repository)
}

fn fits(known: &KnownEncoder, config: &RunConfig) -> Result<()> {
    let KnownEncoder { id, encoder, .. } = known;
    if encoder.is_empty() {
        let message = format!("{id} is of an architecture that there is not here: use another one");
        return Err(BadInput::new(message).into());
    }
    if *encoder != config.encoder.name {
        let name = &config.encoder.name;
        let message =
            format!("{id} does not fit encoder.name = {name:?}: add --set encoder.name={encoder}");
        return Err(BadInput::new(message).into());
    }
    Ok(())
}

/// Its id on the Hub, with what is known of its commit.
fn place(known: &KnownEncoder) -> Result<String> {
    let KnownEncoder { id, hub, file, url, revision, .. } = known;
    if hub.is_empty() {
        let message = format!("{id} is not on the Hub: download {url}, and give its path");
        return Err(BadInput::new(message).into());
    }
    let revision = if revision.is_empty() { "main" } else { revision };
    Ok(format!("{hub}@{revision}:{file}"))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::Pretrained;
    use crate::config::{Overrides, RunConfig, resolve};

    fn config(set: &[&str]) -> Result<RunConfig> {
        let set = set.iter().map(|set| (*set).to_owned()).collect();
        resolve(&Overrides { set, ..Overrides::default() })
    }

    fn refusal(set: &[&str]) -> Result<String> {
        let mut config = config(set)?;
        let fetched =
            Pretrained::settle(&mut config).and_then(|_notes| Pretrained::fetch(&mut config, true));
        Ok(fetched.err().map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn pretrained_of_a_path_is_the_file_of_its_hash() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("w.safetensors");
        std::fs::write(&path, "abc")?;
        let weights = format!("encoder.weights={}", path.display());
        let mut config = config(&[&weights])?;
        assert!(Pretrained::settle(&mut config)?.is_empty());
        let fetched = Pretrained::fetch(&mut config, true)?;
        assert!(fetched.is_some_and(|it| it.path == path && it.note.is_none()));
        assert!(config.encoder.weights_sha256.starts_with("ba7816bf"));
        std::fs::write(&path, "abd")?;
        let told = Pretrained::fetch(&mut config, true).err().map(|error| error.to_string());
        assert!(told.is_some_and(|told| told.contains("ba7816bf") && told.contains("w.safetens")));
        Ok(())
    }

    #[test]
    fn pretrained_settings_are_those_of_the_known_encoder() -> Result<()> {
        let (name, weights) = ("encoder.name=vit-base-16", "encoder.weights=phikon");
        let mut config = config(&[name, weights])?;
        let notes = Pretrained::settle(&mut config)?;
        assert!(
            notes[0].contains("non-commercial") && notes[0].contains("unverified"),
            "{notes:?}"
        );
        assert_eq!((config.data.image_size, config.data.mean[0]), (224, 0.485));
        assert!(config.encoder.weights.starts_with("owkin/phikon@51d48ed"));
        Ok(())
    }

    #[test]
    fn pretrained_of_nothing_is_told_where_the_encoder_stays_as_it_is() -> Result<()> {
        assert!(Pretrained::settle(&mut config(&[])?)?.is_empty());
        let notes = Pretrained::settle(&mut config(&["encoder.train=none"])?)?;
        assert!(notes.len() == 1 && notes[0].contains("random"), "{notes:?}");
        Ok(())
    }

    #[test]
    fn pretrained_names_nearest_to_an_unknown_one_are_told() -> Result<()> {
        let told = config(&["encoder.weights=phikon2"]).err().map(|error| error.to_string());
        assert!(told.is_some_and(|told| told.contains("did you mean phikon?")));
        assert!(config(&["encoder.weights=./absent"])?.encoder.weights.starts_with('/'));
        Ok(())
    }

    #[test]
    fn pretrained_by_name_must_be_of_the_encoder() -> Result<()> {
        let told = refusal(&["encoder.weights=phikon"])?;
        assert!(told.ends_with("add --set encoder.name=vit-base-16"), "{told}");
        let told = refusal(&["encoder.weights=owkin/phikon@main"])?;
        assert!(told.starts_with("phikon does not fit"), "{told}");
        let told = refusal(&["encoder.weights=ctranspath"])?;
        assert!(told.contains("there is not here"), "{told}");
        let (name, weights) =
            ("encoder.name=efficientnet-v2-s", "encoder.weights=efficientnet-v2-s-imagenet");
        let told = refusal(&[name, weights])?;
        assert!(told.contains("download https://"), "{told}");
        Ok(())
    }

    #[test]
    #[cfg(not(feature = "hub"))]
    fn pretrained_by_name_is_looked_for_on_the_hub() -> Result<()> {
        let told = refusal(&["encoder.weights=phikon", "encoder.name=vit-base-16"])?;
        assert!(told.contains("owkin/phikon@51d48ed") && told.contains("--features hub"), "{told}");
        Ok(())
    }
}
