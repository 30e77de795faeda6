//! `report`: the HTML report of a finished run, or several runs on one page.

use std::path::PathBuf;

use anyhow::Result;
use s5cl_report::{PairedResult, Run, write_comparison};

use crate::evaluation::{JudgedImages, compare};
use crate::failure::BadInput;
use crate::run_folder::{RunFolder, require_folder};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run folder; of several runs a comparison is made
    #[arg(value_name = "RUN_DIR", required = true)]
    runs: Vec<PathBuf>,
    /// The page of a comparison [default: comparison.html]
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let folders: Vec<RunFolder> =
            self.runs.iter().map(|run| RunFolder::open(run)).collect::<Result<_>>()?;
        match (&folders[..], &self.out) {
            ([folder], None) => {
                println!("{}", s5cl_report::write_report(folder.path())?.display());
            }
            ([_], Some(_)) => {
                let message = "--out is the page of a comparison: give several run folders; the \
                               report of one run is written into its folder";
                return Err(BadInput::new(message).into());
            }
            (folders, out) => {
                let out = out.clone().unwrap_or_else(|| "comparison.html".into());
                require_folder(&out)?;
                let runs: Vec<Run> = folders
                    .iter()
                    .map(|folder| Run::read(folder.path()))
                    .collect::<Result<_, _>>()?;
                write_comparison(&runs, &pairs(folders)?, &out)?;
                println!("{}", out.display());
            }
        }
        Ok(())
    }
}

/// Every run beside every earlier one, where both kept what they said of the same images.
fn pairs(folders: &[RunFolder]) -> Result<Vec<PairedResult>> {
    let read = |folder: &RunFolder| -> Result<Option<JudgedImages>> {
        let table = folder.predictions();
        if !table.is_file() {
            eprintln!(
                "note: no paired test of {}: it has no predictions.csv",
                folder.path().display()
            );
            return Ok(None);
        }
        JudgedImages::read(&table, None).map(Some)
    };
    let judged: Vec<Option<JudgedImages>> = folders.iter().map(read).collect::<Result<_>>()?;
    let mut pairs = Vec::new();
    for (a, of_a) in judged.iter().enumerate() {
        for (b, of_b) in judged.iter().enumerate().take(a) {
            let (Some(of_a), Some(of_b)) = (of_a, of_b) else { continue };
            let found = match compare(of_a, of_b) {
                Ok(found) => found,
                Err(error) => {
                    let (a, b) = (folders[a].path().display(), folders[b].path().display());
                    eprintln!("note: no paired test of {a} and {b}: {error}");
                    continue;
                }
            };
            let balanced = found.balanced_accuracy;
            pairs.push(PairedResult {
                a,
                b,
                difference: balanced.difference,
                low: balanced.interval.low,
                high: balanced.interval.high,
                p_value: balanced.p_value,
                mcnemar_p: found.mcnemar.p_value,
            });
        }
    }
    Ok(pairs)
}
