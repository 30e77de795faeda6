//! `benchmark`: claims as commands, one file or folder a suite.

mod baseline;
mod figure;
mod gate;
mod python;
mod speed;
mod statistics;
mod turns;

mod data;
mod gpu;
pub(crate) mod kernels;
mod label_efficiency;
pub(crate) mod quick;
mod train_speed;

#[cfg(test)]
mod self_pairs;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::failure::BadInput;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    suite: Option<Suite>,
    /// Without a suite: a little of each, in a few minutes on two cores
    #[arg(long)]
    quick: bool,
    /// Write everything that --quick measured into this file
    #[arg(long, value_name = "FILE.json", requires = "quick")]
    out: Option<PathBuf>,
    /// End standard output with the results of --quick as one line of JSON
    #[arg(long, requires = "quick")]
    json: bool,
    #[command(flatten)]
    gate: gate::Gate,
}

#[derive(Subcommand)]
enum Suite {
    /// Methods by number of labels and seeds: how far do few labels go
    LabelEfficiency(label_efficiency::LabelEfficiency),
    /// Losses, networks and operations beside PyTorch's and plain candle's: time and memory
    Kernels(kernels::Kernels),
    /// Tiles and views a second, beside decoding alone
    Data(data::Data),
    /// Views a second of the training step, beside the same step on plain candle
    TrainSpeed(train_speed::TrainSpeed),
    /// A CUDA device: its results against the processor's, its speed against PyTorch's
    Gpu(gpu::Gpu),
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        match self.suite {
            Some(Suite::LabelEfficiency(suite)) => suite.run(),
            Some(Suite::Kernels(suite)) => suite.run(),
            Some(Suite::Data(suite)) => suite.run(),
            Some(Suite::TrainSpeed(suite)) => suite.run(),
            Some(Suite::Gpu(suite)) => suite.run(),
            None if self.quick => quick::run(&self.gate, self.out.as_deref(), self.json),
            None => {
                let message =
                    "name a suite (label-efficiency, kernels, data, train-speed, gpu), or --quick";
                Err(BadInput::new(message).into())
            }
        }
    }
}
