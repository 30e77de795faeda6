//! One entry of a dataset's index.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::DataError;

/// What a sample is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Learned from.
    Train,
    /// Chosen by.
    Validation,
    /// Judged by, once.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

impl FromStr for Split {
    type Err = DataError;

    /// Reads `train`, `validation` or `test` in any case, also `training`, `val`, `valid` and
    /// `testing`.
    fn from_str(name: &str) -> Result<Self, DataError> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "val" | "valid" | "validation" => Ok(Self::Validation),
            "test" | "testing" => Ok(Self::Test),
            _ => Err(DataError::UnknownSplit { name: name.to_owned() }),
        }
    }
}

/// One tile's entry in the index; the pixels are elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unique within the dataset and the same on every machine.
    pub id: String,
    /// Index into the class names; `None` for a tile that nobody labeled.
    pub class_idx: Option<u32>,
    /// The side it belongs to, where the dataset says so.
    pub split: Option<Split>,
    /// The patient, slide or smear it was cut from, where that is known.
    pub group: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::Split;

    #[test]
    fn split_reads_back_and_takes_the_usual_names() {
        for split in [Split::Train, Split::Validation, Split::Test] {
            assert_eq!(split.to_string().parse(), Ok(split));
            assert_eq!(serde_json::to_string(&split).unwrap(), format!("\"{split}\""));
        }
        assert_eq!("Val".parse(), Ok(Split::Validation));
        assert_eq!("Testing".parse(), Ok(Split::Test));
        let message = "holdout".parse::<Split>().unwrap_err().to_string();
        assert_eq!(message, "`holdout` is no split; there are train, validation and test");
    }
}
