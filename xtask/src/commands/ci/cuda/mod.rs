//! `ci cuda`: the kernels and what is behind the feature `cuda`, as far as no GPU is needed.

mod registers;
mod toolkit;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::{alone_target, cargo, succeed};
use crate::system::workspace_root;
use registers::{Kernel, Limits};
use toolkit::Toolkit;

/// What a portable kernel is compiled for; a newer device takes the newest that is not above it.
const PORTABLE: [u32; 3] = [80, 90, 100];
/// How the name of a file for Hopper alone ends.
const HOPPER: &str = "_sm90a";
/// The program, and the packages that have tests behind the feature. All in one command: alone, one
/// would have other features of its dependencies, and candle's kernels would be compiled again.
const PACKAGES: [&str; 3] = ["xtask", "s5cl-kernels", "s5cl-tests"];

/// Compiles every kernel and holds its registers against what they were, then builds and links what
/// is behind the feature; with `kernels_only` that is only type-checked, and only where candle's own
/// kernels were compiled before, which takes ten minutes.
pub(super) fn check(update: bool, kernels_only: bool) -> Result<()> {
    let toolkit = Toolkit::at_hand(&alone_target()?.with_file_name("cuda-toolkit"))?;
    let kernels = compile_all(&toolkit)?;
    let limits = Limits::at(workspace_root().join("benches/registers.json"));
    if update {
        limits.write(&kernels)?;
    }
    limits.check(&kernels)?;
    println!("{} kernels of {} targets: no spills", kernels.len(), PORTABLE.len() + 1);

    let target = alone_target()?.with_file_name("cuda");
    let cuda = |args: &[&str]| {
        let mut command = cargo([]);
        command.args(args).envs(toolkit.environment());
        command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        command.args(["--features", "cuda", "--target-dir"]).arg(&target);
        succeed(&mut command)
    };
    if kernels_only {
        if !toolkit.has_built_candle(&target) {
            println!("skipped: Rust behind the feature `cuda`: `cargo xtask ci cuda` has not run");
            return Ok(());
        }
        return cuda(&["check", "--tests", "--quiet"]);
    }
    cuda(&["test", "--no-run"])
}

/// Compiles every file for every target that it is made for, on all cores.
fn compile_all(toolkit: &Toolkit) -> Result<Vec<Kernel>> {
    let crate_folder = workspace_root().join("crates/s5cl-kernels");
    let mut sources = Vec::new();
    kernels_below(&crate_folder.join("src"), &mut sources)?;
    sources.sort();
    let tasks: Vec<(&Path, String)> = sources.iter().flat_map(|source| targets(source)).collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let include = crate_folder.join("src/cuda");
    let work = || {
        while let Some((source, target)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let kernels = toolkit.compile(source, target, &include);
            found.lock().unwrap_or_else(PoisonError::into_inner).push(kernels);
        }
    };
    std::thread::scope(|scope| {
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..n_threads).for_each(|_| {
            scope.spawn(work);
        });
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let found: Vec<Vec<Kernel>> = found.into_iter().collect::<Result<_>>()?;
    let mut kernels: Vec<Kernel> = found.into_iter().flatten().collect();
    kernels.sort();
    if kernels.is_empty() {
        bail!("there is no kernel below {}", crate_folder.display());
    }
    Ok(kernels)
}

/// A source with the names of its targets.
fn targets(source: &Path) -> Vec<(&Path, String)> {
    let is_hopper = source.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(HOPPER));
    match is_hopper {
        true => vec![(source, "90a".to_owned())],
        false => PORTABLE.iter().map(|target| (source, target.to_string())).collect(),
    }
}

fn kernels_below(folder: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            kernels_below(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            sources.push(path);
        }
    }
    Ok(())
}
