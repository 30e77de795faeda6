//! Benchmarks by name: an experiment of a paper as one command.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::metric::Metric;
use crate::failure::BadInput;

/// The presets by name.
const PRESETS: [(&str, &str); 2] = [
    ("nct-crc-he", include_str!("../../../../presets/benchmark/nct-crc-he.toml")),
    ("munich-aml", include_str!("../../../../presets/benchmark/munich-aml.toml")),
];

/// What a preset fixes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Preset {
    pub(super) data: String,
    /// The dataset's card, which says how to get it.
    pub(super) card: String,
    /// The settings of the runs start from this preset.
    pub(super) preset: String,
    pub(super) set: Vec<String>,
    pub(super) fractions: Vec<f64>,
    pub(super) methods: Vec<String>,
    pub(super) seeds: u32,
    pub(super) learning_rates: Vec<f64>,
    pub(super) metric: Metric,
    /// What the paper's encoders started from.
    pub(super) initial_weights: String,
    /// Images where the card does not tell; for plans alone.
    pub(super) n_images: Option<usize>,
    /// The paper's figures by method, in the order of the fractions; the last may be absent.
    pub(super) published: BTreeMap<String, Vec<f64>>,
}

impl Preset {
    /// The preset of that name.
    pub(super) fn named(name: &str) -> Result<Self> {
        let (_, text) = PRESETS.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let known: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            BadInput::new(format!(
                "unknown benchmark preset {name:?}: use one of {}",
                known.join(", ")
            ))
        })?;
        toml::from_str(text).with_context(|| format!("benchmark preset {name}"))
    }

    /// The paper's figure for a method and fraction.
    pub(super) fn published(&self, method: &str, fraction: f64) -> Option<f64> {
        let idx = self.fractions.iter().position(|known| *known == fraction)?;
        self.published.get(method)?.get(idx).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{PRESETS, Preset};

    #[test]
    fn presets_parse_and_have_a_figure_for_every_method() -> anyhow::Result<()> {
        for (name, _) in PRESETS {
            let preset = Preset::named(name)?;
            for method in &preset.methods {
                assert!(
                    preset.published(method, preset.fractions[0]).is_some(),
                    "{name}: {method}"
                );
                assert!(preset.published[method].len() <= preset.fractions.len());
            }
        }
        assert!(Preset::named("cifar").unwrap_err().to_string().contains("nct-crc-he, munich-aml"));
        Ok(())
    }
}
