//! The report as a file.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::ReportError;
use crate::page::render;
use crate::run::Run;

/// Reads a run folder and writes `report.html` into it; returns the report's path.
///
/// The file is written beside its place and renamed, so that an older report stays whole until
/// the new one is.
///
/// # Errors
///
/// What [`Run::read`] and [`render`] refuse, and what the disk refuses.
pub fn write_report(run_dir: &Path) -> Result<PathBuf, ReportError> {
    let page = render(&Run::read(run_dir)?)?;
    let path = run_dir.join("report.html");
    let partial = run_dir.join("report.html.partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(page.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)
    };
    match write() {
        Ok(()) => Ok(path),
        Err(source) => {
            // The first error is the one to tell; what remains of the file is of no use.
            let _ = fs::remove_file(&partial);
            Err(ReportError::Write { path, source })
        }
    }
}
