//! Pretrained encoders that are known by name: where they are, what they may be used for, and what
//! they want to see.

use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::Normalization;

static KNOWN_ENCODERS: LazyLock<Vec<KnownEncoder>> = LazyLock::new(|| {
    parse(include_str!("encoders.toml"))
        .unwrap_or_else(|error| unreachable!("encoders.toml, which a test reads: {error}"))
});

/// A pretrained encoder of a hub.
///
/// Facts are those of its authors' pages as far as they could be found; what could not be found is
/// empty. [`KnownEncoder::verified`] says whether the weights themselves were loaded and compared.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KnownEncoder {
    /// Short name, such as `phikon-v2`.
    pub id: String,
    /// Owner and name on the hub, such as `owkin/phikon-v2`; empty for what is not there.
    #[serde(default)]
    pub hub: String,
    /// The file of weights in the repository.
    pub file: String,
    /// Where the file is if it is not on the hub; empty otherwise.
    #[serde(default)]
    pub url: String,
    /// The commit of the repository, 40 hexadecimal digits; empty where none is known.
    #[serde(default)]
    pub revision: String,
    /// License of the weights.
    pub license: String,
    /// Whether one has to sign in and accept conditions before the file can be had.
    pub gated: bool,
    /// Its architecture, one of [`crate::ENCODERS`]; empty where there is none here.
    #[serde(default)]
    pub encoder: String,
    /// Mean of each channel that was subtracted in training, in units of the full range.
    pub mean: [f32; 3],
    /// Standard deviation that divided each channel.
    pub std: [f32; 3],
    /// Side of the square images of its evaluation, in pixels.
    pub input_px: usize,
    /// Scales of the images that it was trained on; empty for photographs and where no scale is
    /// told.
    #[serde(default)]
    pub microns_per_pixel: Vec<f64>,
    /// The paper, by its DOI or its number on arXiv.
    pub citation: String,
    /// Whether its weights were loaded here and gave the features of their authors' code.
    #[serde(default)]
    pub verified: bool,
}

impl KnownEncoder {
    /// What its images are normalized by.
    #[must_use]
    pub fn normalization(&self) -> Normalization {
        Normalization { mean: self.mean, std: self.std }
    }
}

impl fmt::Display for KnownEncoder {
    /// Name, place and license, and what one has to know before using it: `gated`, `unpinned` (no
    /// commit is known), `unverified`, `no such architecture here`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.hub.is_empty() { &self.url } else { &self.hub };
        write!(f, "{}: {place}", self.id)?;
        if let Some(short) = self.revision.get(..7) {
            write!(f, "@{short}")?;
        }
        write!(f, ", {}", self.license)?;
        let remarks = [
            (self.gated, "gated"),
            (self.revision.is_empty(), "unpinned"),
            (!self.verified, "unverified"),
            (self.encoder.is_empty(), "no such architecture here"),
        ];
        for (_, remark) in remarks.iter().filter(|(applies, _)| *applies) {
            write!(f, ", {remark}")?;
        }
        Ok(())
    }
}

/// All of them, in the order of the list.
#[must_use]
pub fn known_encoders() -> &'static [KnownEncoder] {
    &KNOWN_ENCODERS
}

/// The one with that short name or that name on the hub.
///
/// # Example
///
/// ```
/// use s5cl_backbone::known_encoder;
///
/// let phikon = known_encoder("owkin/phikon").expect("it is in the list");
/// assert_eq!((phikon.id.as_str(), phikon.encoder.as_str()), ("phikon", "vit-base-16"));
/// assert!(phikon.to_string().contains("unverified"));
/// assert!(known_encoder("resnet-9000").is_none());
/// ```
#[must_use]
pub fn known_encoder(id: &str) -> Option<&'static KnownEncoder> {
    let is_it = |known: &&KnownEncoder| known.id == id || (!id.is_empty() && known.hub == id);
    known_encoders().iter().find(is_it)
}

fn parse(text: &str) -> Result<Vec<KnownEncoder>, toml::de::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        encoder: Vec<KnownEncoder>,
    }
    Ok(toml::from_str::<File>(text)?.encoder)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{KnownEncoder, known_encoder, known_encoders, parse};
    use crate::Architecture;

    /// What is wrong with an entry.
    fn complaints(known: &KnownEncoder) -> Vec<String> {
        let KnownEncoder { id, hub, file, url, revision, .. } = known;
        let is_word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        let is_hub = hub.split_once('/').is_some_and(|(o, n)| is_word(o) && is_word(n));
        let is_commit =
            |text: &str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let architecture = Architecture::named(&known.encoder);
        let fits = architecture
            .as_ref()
            .is_none_or(|architecture| architecture.check_image_size(known.input_px).is_ok());
        let in_range = |values: &[f32; 3]| values.iter().all(|value| (0.05..0.95).contains(value));
        let scales = &known.microns_per_pixel;
        let has_citation = ["arXiv:", "doi.org/10.", "github.com/"];
        let checks = [
            (is_word(id) && id.to_lowercase() == *id, "has no short name in lower case"),
            (is_hub != url.starts_with("https://"), "is neither on the hub nor elsewhere, or both"),
            (!file.is_empty() && !file.contains('/'), "has no file"),
            (revision.is_empty() || is_commit(revision), "has a revision that is no commit"),
            (!known.license.is_empty(), "has no license"),
            (in_range(&known.mean) && in_range(&known.std), "has a mean or std out of range"),
            ((32..=1024).contains(&known.input_px) && fits, "has an input size that does not fit"),
            (scales.iter().all(|scale| (0.1..=4.0).contains(scale)), "has a scale out of range"),
            (has_citation.iter().any(|kind| known.citation.contains(kind)), "has no citation"),
            (!known.verified, "was verified: say how in this test"),
            (known.encoder.is_empty() || architecture.is_some(), "has an unknown encoder"),
        ];
        checks.iter().filter(|(holds, _)| !holds).map(|(_, what)| format!("{id} {what}")).collect()
    }

    #[test]
    fn known_encoders_are_complete() {
        assert!(known_encoders().len() >= 25);
        let found: Vec<String> = known_encoders().iter().flat_map(complaints).collect();
        assert!(found.is_empty(), "{found:#?}");
        let ids: BTreeSet<&str> = known_encoders().iter().map(|known| known.id.as_str()).collect();
        assert_eq!(ids.len(), known_encoders().len(), "every name is there once");
    }

    #[test]
    fn known_encoder_is_found_by_either_name() {
        for known in known_encoders() {
            assert_eq!(known_encoder(&known.id), Some(known));
        }
        let uni = known_encoder("MahmoodLab/UNI").unwrap();
        assert!(uni.gated && uni.to_string().contains("gated"), "{uni}");
        let swin = known_encoder("ctranspath").unwrap();
        assert!(swin.to_string().contains("no such architecture"), "{swin}");
        assert_eq!(swin.normalization().mean, [0.485, 0.456, 0.406]);
        assert_eq!((known_encoder(""), known_encoder("magic")), (None, None));
    }

    #[test]
    fn known_encoder_with_a_gap_is_refused() {
        let text = include_str!("encoders.toml");
        let without = |key: &str| {
            let lines = text.lines().filter(|line| !line.starts_with(key));
            parse(&lines.collect::<Vec<_>>().join("\n")).unwrap_err().to_string()
        };
        for key in ["license", "gated", "citation", "mean", "input_px"] {
            assert!(without(key).contains(key), "{key}");
        }
        let mut known = known_encoder("resnet18-imagenet").unwrap().clone();
        known.revision = "main".to_owned();
        known.mean[0] = 123.675;
        known.citation.clear();
        known.url = "https://a.b/c".to_owned();
        assert_eq!(complaints(&known).len(), 4);
    }
}
