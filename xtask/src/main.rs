//! The commands of S5CL: wires the crates together, one file per command.

mod commands;

mod config;
mod experiment;
mod resident;
mod run_folder;
mod tiles;

mod batches;
mod evaluation;
mod gpu_views;
mod inference;
mod outcome;
mod pretrained;
mod pseudo_labels;
mod training;

mod journal;
mod progress;
mod table;
mod tensorboard;
mod timing;

mod csv_file;
mod device;
mod failure;
mod features;
mod hub;
mod system;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// S5CL: one embedding space from labeled and unlabeled images.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model; without arguments on the built-in synthetic tissue set
    Train(commands::train::Args),
    /// Evaluate a trained model on a split
    Evaluate(commands::evaluate::Args),
    /// Classify images with a trained model
    Predict(commands::predict::Args),
    /// Embed images with a trained model
    Embed(commands::embed::Args),
    /// Find the images of a gallery that look most like others to a trained model
    Retrieve(commands::retrieve::Args),
    /// Run a benchmark
    Benchmark(commands::benchmark::Args),
    /// Write the HTML report of a run, or compare several on one page
    Report(commands::report::Args),
    /// Look at datasets
    Data(commands::data::Args),
    /// List the encoders, and pretrained weights for them
    Encoders(commands::encoders::Args),
    /// Run the checks that CI runs
    Ci(commands::ci::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(args) => args.run(),
        Command::Evaluate(args) => args.run(),
        Command::Predict(args) => args.run(),
        Command::Embed(args) => args.run(),
        Command::Retrieve(args) => args.run(),
        Command::Benchmark(args) => args.run(),
        Command::Report(args) => args.run(),
        Command::Data(args) => args.run(),
        Command::Encoders(args) => args.run(),
        Command::Ci(args) => args.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", failure::one_line(&error));
            ExitCode::from(failure::exit_code(&error))
        }
    }
}
