//! Pages as files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::ReportError;
use crate::page::{BenchmarkPage, PairedResult, render, render_benchmark, render_comparison};
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
    let path = run_dir.join("report.html");
    write_page(&path, &render(&Run::read(run_dir)?)?)?;
    Ok(path)
}

/// Writes several runs on one page to `path`, as [`write_report`] does.
///
/// # Errors
///
/// What [`render_comparison`] refuses, and what the disk refuses.
pub fn write_comparison(
    runs: &[Run],
    pairs: &[PairedResult],
    path: &Path,
) -> Result<(), ReportError> {
    write_page(path, &render_comparison(runs, pairs)?)
}

/// Writes the results of a benchmark to `path`, as [`write_report`] does.
///
/// # Errors
///
/// What [`render_benchmark`] refuses, and what the disk refuses.
pub fn write_benchmark(page: &BenchmarkPage, path: &Path) -> Result<(), ReportError> {
    write_page(path, &render_benchmark(page)?)
}

fn write_page(path: &Path, page: &str) -> Result<(), ReportError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(page.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| {
        // The first error is the one to tell; what remains of the file is of no use.
        let _ = fs::remove_file(&partial);
        ReportError::Write { path: path.to_owned(), source }
    })
}
