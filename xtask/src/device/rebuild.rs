//! A program without CUDA that is asked for it: the same program built with CUDA takes over.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::toolkit::Places;
use crate::failure::BadInput;
use crate::system::workspace_root;

/// Set for a program that was built here, so that it does not build another.
const BUILT: &str = "S5CL_BUILT_WITH_CUDA";

/// Builds this program with CUDA, and runs it with the same arguments in the place of this one.
/// Comes back only to fail.
pub(super) fn run_with_cuda<T>() -> Result<T> {
    if std::env::var_os(BUILT).is_some() {
        bail!("--device cuda: this program was built with the feature cuda and is without it")
    }
    let places = Places::here();
    let missing = places.missing();
    if !missing.is_empty() {
        return Err(BadInput::new(format!(
            "--device cuda: this program is built without CUDA, and for a build with it there is \
             not: {}; or use --device cpu",
            missing.join("; ")
        ))
        .into());
    }
    eprintln!("building this program with CUDA; the first time takes 10 minutes and more");
    let failed = take_over(&mut build_and_run(&places)?);
    match failed.with_context(|| "cannot run cargo, which builds this program with CUDA")? {}
}

/// The build, and this program's arguments behind it.
fn build_and_run(places: &Places) -> Result<Command> {
    let root = workspace_root();
    if !root.join("Cargo.toml").is_file() {
        let message = format!(
            "--device cuda: this program is built without CUDA, and its source is not in {}; or \
             use --device cpu",
            root.display()
        );
        return Err(BadInput::new(message).into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--package", "xtask", "--features", "cuda"]);
    command.arg("--manifest-path").arg(root.join("Cargo.toml"));
    command.arg("--target-dir").arg(root.join("target/cuda"));
    command.arg("--").args(std::env::args_os().skip(1));
    command.env(BUILT, "1");
    // What links the program and what starts it look in different places.
    command.env("LIBRARY_PATH", places.library_path());
    command.env("LD_LIBRARY_PATH", places.library_path());
    if let Some(toolkit) = places.nvcc().as_deref().and_then(toolkit_of)
        && std::env::var_os("CUDA_HOME").is_none()
    {
        command.env("CUDA_HOME", toolkit);
    }
    Ok(command)
}

/// The folder of the toolkit whose compiler it is.
fn toolkit_of(nvcc: &Path) -> Option<PathBuf> {
    Some(nvcc.canonicalize().ok()?.parent()?.parent()?.to_owned())
}

/// Runs a program in the place of this one.
#[cfg(unix)]
fn take_over(command: &mut Command) -> std::io::Result<Infallible> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

/// Runs a program and ends as it does.
#[cfg(not(unix))]
fn take_over(command: &mut Command) -> std::io::Result<Infallible> {
    let status = command.status()?;
    std::process::exit(status.code().unwrap_or(1))
}
