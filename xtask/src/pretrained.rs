//! The weights that a run starts from, by a path, by the name of an encoder that is known, or by an
//! id of the Hub.

use std::path::PathBuf;

use anyhow::Result;
use s5cl_backbone::{KnownEncoder, known_encoder};

use crate::config::RunConfig;
use crate::failure::BadInput;
use crate::hub;

/// Above this side in pixels, images for a known encoder are made larger only where settings say so.
const LARGEST_SIZE: u32 = 224;

/// Weights that are on this disk.
pub(crate) struct Pretrained {
    pub(crate) path: PathBuf,
    /// What the user should know of them.
    pub(crate) notes: Vec<String>,
}

impl Pretrained {
    /// Brings the weights of a run onto this disk, if it starts from some. Settings that belong to
    /// a known encoder are filled in: where its weights are, the size of its images, and how their
    /// pixels become numbers.
    pub(crate) fn of(config: &mut RunConfig, quiet: bool) -> Result<Option<Self>> {
        if config.encoder.weights.is_empty() {
            return Ok(None);
        }
        let known = known(&config.encoder.weights);
        let mut notes = Vec::new();
        if let Some(known) = known {
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
        }
        let hub::Weights { path, name, warning } = hub::resolve(&config.encoder.weights, quiet)?;
        config.encoder.weights = name;
        notes.extend(warning);
        Ok(Some(Self { path, notes }))
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
        let error = Pretrained::of(&mut config(set)?, true).err();
        Ok(error.map(|error| error.to_string()).unwrap_or_default())
    }

    #[test]
    fn pretrained_of_a_path_is_the_path() -> Result<()> {
        let mut config = config(&["encoder.weights=here.safetensors"])?;
        let before = config.clone();
        let pretrained = Pretrained::of(&mut config, true)?;
        assert!(pretrained.is_some_and(|it| it.path.is_absolute() && it.notes.is_empty()));
        assert_eq!(config, before);
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
