//! What is measured, by name.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::failure::BadInput;

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What `--only` finds it by.
    pub(super) name: String,
    pub(super) work: Work,
    /// The ratio to PyTorch that is aimed at.
    pub(super) target: Option<f64>,
}

/// What one call does. The worker of the peers reads it as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Work {
    /// SupCon of `n` rows of length `dim`, forward and backward.
    Supcon { n: usize, dim: usize },
    /// Forward in training mode, cross entropy, backward and a step of Adamax.
    Train(Images),
    /// Forward in evaluation mode, nothing kept for a gradient.
    Inference(Images),
    /// One operation, forward.
    Forward(Operation),
    /// One operation, forward and backward, with the gradient of its input.
    Backward(Operation),
}

/// A batch of square images and the network that they go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Images {
    pub(crate) encoder: &'static str,
    /// Side in pixels.
    pub(crate) size: usize,
    pub(crate) batch: usize,
}

/// An operation on a batch of square maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Operation {
    pub(super) op: Op,
    /// Side in pixels.
    pub(super) size: usize,
    pub(super) channels: usize,
    pub(super) batch: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Op {
    /// 3x3, stride 1, as many channels out as in.
    Conv2d,
    /// By the statistics of the batch.
    BatchNorm,
    /// 3x3, stride 2, padding 1.
    MaxPool,
}

impl Work {
    /// Whether a peer can hold its maps in two layouts.
    pub(super) fn has_layouts(self) -> bool {
        matches!(self, Self::Train(_) | Self::Inference(_))
    }

    /// Whether its peak of memory is measured: that of one operation is its operands.
    pub(super) fn has_memory(self) -> bool {
        !matches!(self, Self::Forward(_) | Self::Backward(_))
    }

    /// The peer that all ratios to PyTorch are about.
    pub(super) fn peer_name(self) -> &'static str {
        match self {
            Self::Supcon { .. } => "pytorch-metric-learning",
            _ => "PyTorch, channels_last",
        }
    }
}

/// Encoders of a kind each: name, side and number of images, ratio that is aimed at.
const LARGER: [(&str, usize, usize, Option<f64>); 9] = [
    ("resnet34", 224, 16, None),
    ("resnet50", 224, 16, Some(1.0)),
    ("resnet101", 224, 8, None),
    ("wide-resnet28-2", 32, 64, None),
    ("convnext-tiny", 224, 16, None),
    ("efficientnet-v2-s", 224, 16, None),
    ("vit-small-14-dinov2", 224, 16, Some(1.0)),
    ("vit-base-16", 224, 8, None),
    ("vit-large-14-dinov2", 224, 4, None),
];

/// All rows, in the order of the table.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name: String, work, target| rows.push(Row { name, work, target });
    for (n, target) in [(320, 3.0), (1024, 5.0), (4096, 12.0), (8192, 20.0)] {
        add(format!("supcon-{n}"), Work::Supcon { n, dim: 64 }, Some(target));
    }
    let sizes = [(28, 256), (64, 128), (224, 32)];
    for (size, batch) in sizes {
        let images = Images { encoder: "resnet18", size, batch };
        add(format!("resnet18-train-{size}"), Work::Train(images), Some(1.0));
    }
    for (size, batch) in sizes {
        let images = Images { encoder: "resnet18", size, batch };
        add(format!("resnet18-inference-{size}"), Work::Inference(images), Some(1.0));
    }
    for (encoder, size, batch, target) in LARGER {
        let images = Images { encoder, size, batch };
        add(format!("{encoder}-train-{size}"), Work::Train(images), target);
        add(format!("{encoder}-inference-{size}"), Work::Inference(images), target);
    }
    let slim = Images { encoder: "resnet-slim", size: 32, batch: 192 };
    add("resnet-slim-train-32".into(), Work::Train(slim), Some(1.0));
    for (op, size, channels) in [
        (Op::Conv2d, 56, 64),
        (Op::Conv2d, 28, 128),
        (Op::Conv2d, 14, 256),
        (Op::Conv2d, 7, 512),
        (Op::BatchNorm, 56, 64),
        (Op::MaxPool, 112, 64),
    ] {
        let name = match op {
            Op::Conv2d => "conv2d",
            Op::BatchNorm => "batch-norm",
            Op::MaxPool => "max-pool",
        };
        let operation = Operation { op, size, channels, batch: 32 };
        add(format!("{name}-{size}-forward"), Work::Forward(operation), None);
        add(format!("{name}-{size}-backward"), Work::Backward(operation), None);
    }
    rows
}

/// The row of that name.
pub(super) fn named(name: &str) -> Result<Row> {
    let row = rows().into_iter().find(|row| row.name == name);
    row.with_context(|| format!("there is no row {name}"))
}

/// The rows whose names contain one of the patterns; all of them without a pattern.
pub(super) fn select(patterns: &[String]) -> Result<Vec<Row>> {
    let mut rows = rows();
    for pattern in patterns {
        if !rows.iter().any(|row| row.name.contains(pattern)) {
            let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            let message =
                format!("--only {pattern:?} is in no name of a row: {}", names.join(", "));
            return Err(BadInput::new(message).into());
        }
    }
    let is_wanted = |row: &Row| patterns.iter().any(|pattern| row.name.contains(pattern));
    rows.retain(|row| patterns.is_empty() || is_wanted(row));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{named, rows, select};

    #[test]
    fn rows_have_names_of_their_own() {
        let names: BTreeSet<String> = rows().into_iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows().len());
    }

    #[test]
    fn named_gives_the_row_or_says_that_there_is_none() {
        assert!(named("resnet18-train-28").is_ok_and(|row| row.name == "resnet18-train-28"));
        // A part of a name is no name.
        let error = named("supcon").unwrap_err().to_string();
        assert_eq!(error, "there is no row supcon");
    }

    #[test]
    fn select_keeps_the_order_and_refuses_what_no_row_has() {
        let names = |patterns: &[&str]| -> Option<Vec<String>> {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            Some(select(&patterns).ok()?.into_iter().map(|row| row.name).collect())
        };
        let expected = ["supcon-320", "resnet18-inference-28"].map(str::to_owned).to_vec();
        assert_eq!(names(&["inference-28", "supcon-320"]), Some(expected));
        assert_eq!(names(&[]).map(|all| all.len()), Some(rows().len()));
        assert_eq!(names(&["supcon", "transformer"]), None);
    }
}
