//! CUDA's compiler, and libraries to link with, on a machine that may have neither.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::registers::{Kernel, parse};

/// The compiler and what it needs, as Python packages; one release, or their headers do not fit.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];

/// The libraries that a machine with a GPU has, and their versions. Here they are empty: a linker
/// is told to leave their symbols to the machine where the program runs.
const LIBRARIES: [(&str, u32); 6] =
    [("cuda", 1), ("nvrtc", 13), ("curand", 10), ("cublas", 13), ("cublasLt", 13), ("cudnn", 9)];

/// An installed toolkit.
pub(super) struct Toolkit {
    nvcc: PathBuf,
    home: PathBuf,
    host: String,
}

impl Toolkit {
    /// The toolkit in a folder, which is installed there by Python's installer the first time.
    pub(super) fn at_hand(folder: &Path) -> Result<Self> {
        let home = folder.join("nvidia/cu13");
        if !folder.join(".complete").is_file() {
            install(folder, &home).with_context(|| {
                format!(
                    "cannot install CUDA's compiler into {}: it comes as Python packages, with \
                     `python3 -m pip install {}`",
                    folder.display(),
                    WHEELS.join(" ")
                )
            })?;
            fs::write(folder.join(".complete"), "")?;
        }
        Ok(Self { nvcc: home.join("bin/nvcc"), home, host: host()? })
    }

    /// Compiles a file to machine code that nobody keeps; what the compiler says of each kernel.
    pub(super) fn compile(
        &self,
        source: &Path,
        target: &str,
        include: &Path,
    ) -> Result<Vec<Kernel>> {
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        let out = self.home.join(format!("{name}-{target}.cubin"));
        let output = Command::new(&self.nvcc)
            .env("CUDA_HOME", &self.home)
            .args(["-std=c++17", "-O3", "-cubin", "-Xptxas", "-v", "-Werror", "all-warnings"])
            .arg(format!("-gencode=arch=compute_{target},code=sm_{target}"))
            .arg("-I")
            .arg(include)
            .arg(source)
            .arg("-o")
            .arg(&out)
            .output()
            .with_context(|| format!("cannot start {}", self.nvcc.display()))?;
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{} does not compile for sm_{target}:\n{told}", source.display());
        }
        fs::remove_file(&out)?;
        // What the assembler could not do as asked, such as products one after another: it says so
        // and goes on.
        if let Some(line) = told.lines().find(|line| line.contains("(C7")) {
            bail!("{} on sm_{target}: {line}", source.display());
        }
        let kernels = parse(&told);
        if kernels.is_empty() {
            bail!("{} holds no kernel for sm_{target}", source.display());
        }
        Ok(kernels)
    }

    /// Whether candle's kernels are in a target folder.
    pub(super) fn has_built_candle(&self, target: &Path) -> bool {
        let builds = fs::read_dir(target.join(&self.host).join("debug/build"));
        builds.into_iter().flatten().flatten().any(|build| {
            build.file_name().to_string_lossy().starts_with("candle-kernels-")
                && build.path().join("output").is_file()
        })
    }

    /// What cargo is told so that it builds and links with this toolkit.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let (lib, stubs) = (self.home.join("lib"), self.home.join("lib/stubs"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.home.join("bin")).chain(std::env::split_paths(&path));
        let names: Vec<String> = LIBRARIES.iter().map(|(name, _)| format!("-l{name}")).collect();
        let flags = format!(
            "-L native={} -L native={} -C link-arg=-Wl,--unresolved-symbols=ignore-all,\
             --no-as-needed,{},--as-needed",
            lib.display(),
            stubs.display(),
            names.join(",")
        );
        let libraries = std::env::join_paths([&lib, &stubs]).unwrap_or_default();
        vec![
            ("CUDA_HOME", self.home.clone().into()),
            ("CUDA_PATH", self.home.clone().into()),
            ("NVCC", self.nvcc.clone().into()),
            ("PATH", std::env::join_paths(path).unwrap_or_default()),
            ("CUDA_COMPUTE_CAP", "80".into()),
            ("CUDARC_CUDA_VERSION", "13000".into()),
            ("LIBRARY_PATH", libraries),
            // With a target named, the flags reach our programs and not the build scripts.
            ("CARGO_BUILD_TARGET", self.host.clone().into()),
            ("RUSTFLAGS", flags.into()),
        ]
    }
}

fn install(folder: &Path, home: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    run(pip.arg("--target").arg(folder).args(WHEELS))?;
    let lib = home.join("lib");
    fs::create_dir_all(lib.join("stubs"))?;
    for (name, version) in LIBRARIES {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-x", "c", "/dev/null", "-o"]);
        cc.arg(lib.join(format!("stubs/lib{name}.so")));
        run(cc.arg(format!("-Wl,-soname,lib{name}.so.{version}")))?;
    }
    fs::copy(lib.join("libcudart.so.13"), lib.join("libcudart.so"))?;
    #[cfg(unix)]
    std::os::unix::fs::symlink("lib", home.join("lib64"))?;
    Ok(())
}

/// The target that programs are built for without being told.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names no host")
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}
