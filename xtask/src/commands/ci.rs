//! Not there yet.
use anyhow::Result;
#[derive(clap::Args)]
pub(crate) struct Args {}
impl Args {
    pub fn run(self) -> Result<()> {
        Ok(())
    }
}
