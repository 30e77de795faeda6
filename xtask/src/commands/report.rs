//! `report`: the HTML report of a finished run.

use std::path::PathBuf;

use anyhow::Result;

use crate::run_folder::RunFolder;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run folder
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let folder = RunFolder::open(&self.run)?;
        println!("{}", s5cl_report::write_report(folder.path())?.display());
        Ok(())
    }
}
