//! Compiles the CUDA kernels where the feature `cuda` is on.
//!
//! Every `.cu` file below `src` becomes portable code for sm_80 and later (PTX), which the driver
//! finishes for its device; one whose name ends in `_sm90a` becomes machine code for Hopper. With
//! `S5CL_CUDA_KERNELS=DIR` the compiled files are taken from there, and no nvcc is needed.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Names a folder of files that were compiled before.
const PREBUILT: &str = "S5CL_CUDA_KERNELS";
/// How the name of a file for Hopper alone ends.
const HOPPER: &str = "_sm90a";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for variable in [PREBUILT, "NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=src");
    if let Err(reason) = build() {
        println!("cargo::error={reason}");
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo gave no OUT_DIR")?);
    let mut sources = Vec::new();
    kernels_below(Path::new("src"), &mut sources)?;
    sources.sort();
    let compiled = match env::var_os(PREBUILT) {
        Some(folder) => prebuilt(&sources, Path::new(&folder), &out)?,
        None => sources.iter().map(|source| compile(source, &out)).collect::<Result<_, _>>()?,
    };
    let table = |ending: &str, include: &str| -> Result<String, String> {
        let mut rows = String::new();
        for file in compiled.iter().filter(|file| file.ends_with(ending)) {
            let module = file.trim_end_matches(ending);
            let path = out.join(file);
            writeln!(rows, "    ({module:?}, {include}!({path:?})),").map_err(|e| e.to_string())?;
        }
        Ok(rows)
    };
    let source = format!(
        "/// Portable code by module.\npub(crate) static PTX: &[(&str, &str)] = &[\n{}];\n\
         /// Machine code for Hopper by module.\n\
         pub(crate) static CUBIN: &[(&str, &[u8])] = &[\n{}];\n",
        table(".ptx", "include_str")?,
        table(".cubin", "include_bytes")?
    );
    std::fs::write(out.join("kernels.rs"), source).map_err(|e| format!("cannot write: {e}"))
}

fn kernels_below(folder: &Path, sources: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            kernels_below(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            sources.push(path);
        }
    }
    Ok(())
}

/// The name of what a source becomes.
fn target(source: &Path) -> String {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let ending = if stem.ends_with(HOPPER) { "cubin" } else { "ptx" };
    format!("{stem}.{ending}")
}

fn prebuilt(sources: &[PathBuf], folder: &Path, out: &Path) -> Result<Vec<String>, String> {
    let copied = sources.iter().map(|source| {
        let (name, from) = (target(source), folder.join(target(source)));
        std::fs::copy(&from, out.join(&name)).map_err(|e| {
            format!("{PREBUILT} names a folder without {}: {e}", from.display())
        })?;
        println!("cargo::rerun-if-changed={}", from.display());
        Ok(name)
    });
    copied.collect()
}

fn compile(source: &Path, out: &Path) -> Result<String, String> {
    let name = target(source);
    let code = if name.ends_with(".cubin") {
        ["-cubin", "-gencode=arch=compute_90a,code=sm_90a"]
    } else {
        ["-ptx", "-gencode=arch=compute_80,code=compute_80"]
    };
    let nvcc = nvcc();
    let result = Command::new(&nvcc)
        .args(["-std=c++17", "-O3", "-I", "src/cuda"])
        .args(code)
        .arg(source)
        .arg("-o")
        .arg(out.join(&name))
        .output();
    match result {
        Ok(output) if output.status.success() => Ok(name),
        Ok(output) => Err(format!(
            "{} does not compile: {}",
            source.display(),
            String::from_utf8_lossy(&output.stderr).replace('\n', " ")
        )),
        Err(error) => Err(format!(
            "cannot start CUDA's compiler {}: {error}; install the CUDA toolkit 12 or later and \
             set NVCC or CUDA_HOME, or set {PREBUILT} to a folder of compiled kernels",
            nvcc.display()
        )),
    }
}

/// CUDA's compiler: as named, in the toolkit that is named, or in the path.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let within = |toolkit| Path::new(&toolkit).join("bin/nvcc");
    toolkits.map(within).find(|nvcc| nvcc.is_file()).unwrap_or_else(|| "nvcc".into())
}
