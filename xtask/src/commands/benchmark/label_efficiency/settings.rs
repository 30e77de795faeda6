//! Which cells a benchmark has, and the settings of the run of each.

use std::fmt;

use anyhow::Result;
use s5cl_data::Spec;
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::Value;

use super::metric::Metric;
use super::preset::Preset;
use crate::config::{Overrides, RunConfig, resolve};
use crate::failure::BadInput;

/// What the cells decide on, and the flag that says it to all of them.
const DECIDED: [(&str, &str); 6] = [
    ("method", "--methods"),
    ("seed", "--seeds"),
    ("data.spec", "--data"),
    ("data.labels_per_class", "--labels"),
    ("data.label_fraction", "--fractions"),
    ("optimizer.learning_rate", "--learning-rates"),
];

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

impl Settings {
    /// Refuses what no run could use, before the first one starts.
    pub(super) fn check(&self) -> Result<()> {
        let refused = |message: String| Err(BadInput::new(message).into());
        if self.seeds == 0 {
            return refused("--seeds must be at least 1".to_owned());
        }
        for assignment in &self.set {
            let key = assignment.split('=').next().unwrap_or_default().trim();
            if let Some((_, flag)) = DECIDED.iter().find(|(decided, _)| *decided == key) {
                return refused(format!("--set {key}: every cell has its own: give {flag}"));
            }
        }
        for budget in &self.budgets {
            if let Budget::Fraction(share) = budget
                && !(*share > 0.0 && *share <= 1.0)
            {
                return refused(format!(
                    "--fractions {share}: a share must be above 0 and at most 1"
                ));
            }
        }
        if let Some(method) = twice(&self.methods) {
            return refused(format!("--methods names {method} twice"));
        }
        if let Some(budget) = twice(&self.budgets) {
            return refused(format!("{budget} is given twice"));
        }
        if let Some(rate) = twice(&self.learning_rates) {
            return refused(format!("--learning-rates names {rate} twice"));
        }
        for method in &self.methods {
            for &budget in &self.budgets {
                for &rate in &self.learning_rates {
                    self.config(method, budget, 0, rate)?;
                }
            }
        }
        Ok(())
    }

    /// What the results are of, for the gate. The learning rates are not in it: that they are bad
    /// ones is for the gate to find.
    pub(super) fn measured(&self) -> Result<serde_json::Value> {
        let config = self.first_config()?;
        Ok(json!({
            "data": config.data.spec,
            "preset": config.preset,
            "steps": config.training.steps,
            "methods": self.methods,
            "budgets": self.budgets,
            "seeds": self.seeds,
            "metric": self.metric,
            "set": self.set,
        }))
    }

    /// What a reader must know before the numbers.
    pub(super) fn warnings(&self) -> Result<Vec<String>> {
        let Some(preset) = self.named()? else { return Ok(Vec::new()) };
        if !self.first_config()?.encoder.weights.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![format!(
            "the published figures are of encoders that started from {}, these runs start from \
             random ones; --set encoder.weights=FILE starts them alike",
            preset.initial_weights
        )])
    }

    /// Whether these are the cells of another benchmark and more.
    pub(super) fn extends(&self, other: &Self) -> bool {
        let Self { methods, budgets, seeds, .. } = self;
        let same = Self {
            methods: methods.clone(),
            budgets: budgets.clone(),
            seeds: *seeds,
            ..other.clone()
        };
        *self == same
            && *seeds >= other.seeds
            && other.methods.iter().all(|method| methods.contains(method))
            && other.budgets.iter().all(|budget| budgets.contains(budget))
    }

    /// The settings of the first run.
    pub(super) fn first_config(&self) -> Result<RunConfig> {
        self.config(&self.methods[0], self.budgets[0], 0, self.learning_rates[0])
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

/// The first that was there before.
fn twice<T: PartialEq>(all: &[T]) -> Option<&T> {
    all.iter().enumerate().find_map(|(idx, one)| all[..idx].contains(one).then_some(one))
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

#[cfg(test)]
mod tests {
    use super::{Budget, Metric, Settings, twice};
    use crate::failure::exit_code;

    fn settings() -> Settings {
        Settings {
            version: String::new(),
            benchmark: None,
            preset: None,
            data: None,
            methods: vec!["s5cl".into()],
            budgets: vec![Budget::PerClass(5)],
            seeds: 1,
            learning_rates: vec![0.01],
            metric: Metric::BalancedAccuracy,
            set: Vec::new(),
        }
    }

    /// What [`Settings::check`] says of settings that were changed.
    fn refusal(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = settings();
        change(&mut settings);
        let error = settings.check().unwrap_err();
        assert_eq!(exit_code(&error), 2);
        error.to_string()
    }

    #[test]
    fn budget_is_shown_as_people_say_it() {
        assert_eq!(Budget::PerClass(5).to_string(), "5 labels a class");
        assert_eq!(Budget::Fraction(0.0005).to_string(), "0.05 % of the labels");
        assert_eq!(Budget::Fraction(0.002).to_string(), "0.2 % of the labels");
    }

    #[test]
    fn check_refuses_what_would_be_ignored_or_be_another_thing() {
        assert!(settings().check().is_ok());
        assert!(refusal(|s| s.set.push("seed=9".into())).contains("give --seeds"));
        assert!(refusal(|s| s.set.push("method = foo".into())).contains("give --methods"));
        assert!(refusal(|s| s.learning_rates.push(0.01)).contains("0.01 twice"));
        for share in [0.0, -0.5, 1.5, f64::NAN] {
            let message = refusal(|s| s.budgets = vec![Budget::Fraction(share)]);
            assert!(message.contains(&format!("--fractions {share}")), "{message}");
        }
    }

    #[test]
    fn extends_lets_cells_be_added_alone() {
        let changed = |change: fn(&mut Settings)| {
            let mut more = settings();
            change(&mut more);
            more
        };
        let more = changed(|s| {
            s.seeds = 2;
            s.methods.insert(0, "supcon".into());
            s.budgets.push(Budget::Fraction(0.5));
        });
        assert!(more.extends(&settings()) && !settings().extends(&more));
        assert!(!changed(|s| s.learning_rates.push(0.1)).extends(&settings()));
        assert!(!changed(|s| s.methods = vec!["supcon".into()]).extends(&settings()));
    }

    #[test]
    fn warnings_name_the_weights_that_a_paper_started_from() -> anyhow::Result<()> {
        let mut settings = Settings {
            benchmark: Some("nct-crc-he".into()),
            data: Some("synthetic:tissue".into()),
            ..settings()
        };
        assert!(settings.warnings()?[0].contains("ImageNet"));
        settings.set.push("encoder.weights=weights.safetensors".into());
        assert!(settings.warnings()?.is_empty());
        Ok(())
    }

    #[test]
    fn twice_finds_the_second() {
        assert_eq!((twice(&[1, 2, 1]), twice(&[1, 2])), (Some(&1), None));
    }
}
