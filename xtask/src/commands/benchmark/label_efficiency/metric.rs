//! The figure that a benchmark is about.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

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

impl Metric {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BalancedAccuracy => "balanced accuracy",
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "macro F1",
        }
    }
}
