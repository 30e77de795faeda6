//! How far a figure of an evaluation can be trusted: intervals, comparisons of two runs, spread
//! over seeds.
//!
//! Two kinds of chance are kept apart. The *test images* are a sample of all images:
//! [`accuracy_intervals`], [`bootstrap`], [`compare_runs`] and [`mcnemar`] say what other images
//! (of other slides, where groups are given) could have shown of the same trained model. The
//! *seed* is a sample of all trainings: [`over_seeds`] and [`paired_over_seeds`] say what another
//! training of the same method could have reached on the same images.
//!
//! The intervals were chosen by simulation, which prints how often each holds the truth:
//! `cargo build -p xtask -p s5cl-eval --example coverage && target/debug/examples/coverage 1500`.

mod accuracy;
mod bootstrap;
mod comparison;
mod distributions;
mod groups;
mod interval;
mod mcnemar;
mod paired;
mod score;
mod seeds;

pub use accuracy::{AccuracyIntervals, accuracy_intervals};
pub use bootstrap::{BootstrapConfig, BootstrapResult, bootstrap};
pub use comparison::{RunComparison, RunDifference, TestRun, compare_runs};
pub use interval::{Interval, mid_p, proportion_by_group, wilson};
pub use mcnemar::{McNemar, mcnemar};
pub use paired::{PairedBootstrap, paired_bootstrap};
pub use seeds::{PairedDifference, SeedSummary, over_seeds, paired_over_seeds};
