//! Which cells a benchmark has, and the settings of the run of each.

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use s5cl_data::Spec;
use serde::{Deserialize, Serialize};
use toml::Value;

use super::preset::Preset;
use crate::config::{Overrides, RunConfig, resolve};
use crate::failure::BadInput;

/// Everything that decides on the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) version: String,
    /// The benchmark's preset.
    pub(crate) benchmark: Option<String>,
    /// The preset that the runs start from; none for the default one.
    pub(crate) preset: Option<String>,
    /// None for the data of the preset.
    pub(crate) data: Option<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) seeds: u32,
    pub(crate) learning_rates: Vec<f64>,
    pub(crate) metric: Metric,
    pub(crate) set: Vec<String>,
}

/// How many labels a cell keeps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    /// So many of each class; 0 keeps all.
    PerClass(u32),
    /// This share of each class, at least one.
    Fraction(f64),
}

/// The figure that the table and the tests between methods are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    /// Mean recall of the classes
    BalancedAccuracy,
    /// Share of the images that are right
    Accuracy,
    /// Mean F1 of the classes
    MacroF1,
}

impl Settings {
    /// Refuses what no run could use, before the first one starts.
    pub(super) fn check(&self) -> Result<()> {
        let refused = |message: &str| Err(BadInput::new(message).into());
        if self.seeds == 0 || self.learning_rates.is_empty() {
            return refused("--seeds must be at least 1, and --learning-rates must name one");
        }
        for (idx, method) in self.methods.iter().enumerate() {
            if self.methods[..idx].contains(method) {
                return refused(&format!("--methods names {method} twice"));
            }
            for (idx, &budget) in self.budgets.iter().enumerate() {
                if self.budgets[..idx].contains(&budget) {
                    return refused(&format!("{budget} is given twice"));
                }
                for &rate in &self.learning_rates {
                    self.config(method, budget, 0, rate)?;
                }
            }
        }
        Ok(())
    }

    /// The settings of one run.
    pub(super) fn config(
        &self,
        method: &str,
        budget: Budget,
        seed: u32,
        learning_rate: f64,
    ) -> Result<RunConfig> {
        let (per_class, fraction) = match budget {
            Budget::PerClass(n) => (n, 0.0),
            Budget::Fraction(fraction) => (0, fraction),
        };
        let mut flags = vec![
            ("method", Value::String(method.to_owned())),
            ("data.labels_per_class", Value::Integer(per_class.into())),
            ("data.label_fraction", Value::Float(fraction)),
            ("seed", Value::Integer(seed.into())),
            ("optimizer.learning_rate", Value::Float(learning_rate)),
        ];
        flags.extend(self.data.clone().map(|spec| ("data.spec", Value::String(spec))));
        resolve(&Overrides {
            preset: self.preset.clone(),
            set: self.set.clone(),
            flags,
            ..Overrides::default()
        })
    }

    /// Runs of a method and budget: one a learning rate with seed 0, of which the best goes on, and
    /// one for every other seed.
    pub(super) fn runs(&self) -> usize {
        self.learning_rates.len() + self.seeds as usize - 1
    }

    /// The preset of the benchmark, if it has one.
    pub(super) fn named(&self) -> Result<Option<Preset>> {
        self.benchmark.as_deref().map(Preset::named).transpose()
    }

    /// Says where a preset's images come from if they are not there.
    pub(super) fn require_data(&self) -> Result<()> {
        let (Some(preset), Some(data)) = (self.named()?, &self.data) else { return Ok(()) };
        if data.parse::<Spec>().is_ok() {
            return Ok(());
        }
        let card = super::card::Card::read(&preset.card)?;
        let message = format!("there are no images in {data}; {}", card.how_to_get());
        Err(BadInput::new(message).into())
    }

    /// The method that the others are the baselines of.
    pub(super) fn subject(&self) -> &str {
        const SUBJECT: &str = "s5cl";
        match self.methods.iter().any(|method| method == SUBJECT) {
            true => SUBJECT,
            false => self.methods.last().map_or(SUBJECT, String::as_str),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerClass(0) => f.write_str("all labels"),
            Self::PerClass(1) => f.write_str("1 label a class"),
            Self::PerClass(n) => write!(f, "{n} labels a class"),
            // Ten digits hide that a decimal fraction is none in binary.
            Self::Fraction(share) => write!(f, "{} % of the labels", (share * 1e12).round() / 1e10),
        }
    }
}

impl Budget {
    /// For the name of a folder.
    pub(super) fn slug(self) -> String {
        match self {
            Self::PerClass(n) => n.to_string(),
            Self::Fraction(fraction) => format!("fraction{fraction}"),
        }
    }
}

impl Metric {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BalancedAccuracy => "balanced accuracy",
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "macro F1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn budget_is_shown_as_people_say_it() {
        assert_eq!(Budget::PerClass(5).to_string(), "5 labels a class");
        assert_eq!(Budget::Fraction(0.0005).to_string(), "0.05 % of the labels");
        assert_eq!(Budget::Fraction(0.002).to_string(), "0.2 % of the labels");
    }
}
