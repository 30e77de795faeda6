//! `benchmark`: claims as commands, one file a suite.

pub(crate) mod kernels;
mod label_efficiency;
mod summary;

use anyhow::Result;
use clap::Subcommand;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// Methods by number of labels and seeds: how far do few labels go
    LabelEfficiency(label_efficiency::LabelEfficiency),
    /// Losses, networks and operations beside PyTorch's and plain candle's: time and memory
    Kernels(kernels::Kernels),
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        match self.suite {
            Suite::LabelEfficiency(suite) => suite.run(),
            Suite::Kernels(suite) => suite.run(),
        }
    }
}
