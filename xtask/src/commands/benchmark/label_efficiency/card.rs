//! What a dataset's card tells a benchmark.

use anyhow::Result;
use serde::Deserialize;

use crate::failure::BadInput;
use crate::system::workspace_root;

/// The fields of a card in `datasets/` that are needed here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Card {
    pub(super) name: String,
    title: String,
    url: String,
    pub(super) classes: Vec<toml::Value>,
    pub(super) n_images: Option<Counts>,
    /// Side in pixels.
    pub(super) image_size: Option<u32>,
    #[serde(default)]
    files: Vec<File>,
}

/// Images by split.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Counts {
    #[serde(default)]
    pub(super) train: usize,
    #[serde(default)]
    pub(super) validation: usize,
    #[serde(default)]
    pub(super) test: usize,
}

#[derive(Clone, Debug, Deserialize)]
struct File {
    name: String,
}

impl Card {
    /// Reads `datasets/NAME.toml`.
    pub(super) fn read(name: &str) -> Result<Self> {
        let path = workspace_root().join("datasets").join(format!("{name}.toml"));
        let refused = |e: String| BadInput::new(format!("the card {}: {e}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|e| refused(e.to_string()))?;
        Ok(toml::from_str(&text).map_err(|e| refused(e.message().to_owned()))?)
    }

    /// One line for somebody who lacks the images.
    pub(super) fn how_to_get(&self) -> String {
        let files: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        let what = if files.is_empty() { self.title.clone() } else { files.join(" and ") };
        format!(
            "get {what} from {} as datasets/README.md says under {}, or give another place with --data",
            self.url, self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Card;

    #[test]
    fn card_says_how_to_get_its_images() -> anyhow::Result<()> {
        let card = Card::read("nct-crc-he")?;
        assert_eq!((card.classes.len(), card.image_size), (9, Some(224)));
        assert!(card.how_to_get().contains("NCT-CRC-HE-100K.zip and CRC-VAL-HE-7K.zip"));
        assert!(Card::read("munich-aml")?.n_images.is_none());
        Ok(())
    }
}
