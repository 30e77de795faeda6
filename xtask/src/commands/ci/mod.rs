//! `ci`: the checks that CI runs, the same locally.

mod cuda;
mod instructions;
mod workloads;

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::commands::benchmark::quick;
use crate::failure::BadInput;
use crate::system::workspace_root;

/// A library alone asks for fewer features of the shared dependencies than the whole workspace, so
/// its build can share nothing with the one of the tests. It has a folder of its own, which
/// `consumer` and `package` share, and is not optimized: these steps ask whether it builds.
const ALONE: [&str; 4] =
    ["--config", "profile.dev.opt-level=0", "--config", "profile.dev.debug=false"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The check to run; without it all of them, in this order
    #[arg(value_enum)]
    step: Option<Step>,
    /// Write what `instructions` counts into benches/instructions.json, or the registers of
    /// `cuda` into benches/registers.json
    #[arg(long)]
    update: bool,
    /// Of `cuda` the kernels alone; Rust behind the feature is type-checked where candle's kernels
    /// were compiled before
    #[arg(long)]
    kernels_only: bool,
    /// Only call what is counted and end; `instructions` starts the program so under valgrind
    #[arg(long, hide = true)]
    call_workloads: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt changes nothing
    Fmt,
    /// clippy has no warning, tests and examples included
    Lint,
    /// rustdoc has no warning
    Doc,
    /// A run of a few steps writes its whole folder
    Train,
    /// A crate outside the workspace runs the training loop in the README of s5cl-losses
    Consumer,
    /// Every library packs, and builds from its package
    Package,
    /// The quick benchmark is as benches/baselines/quick.json has it: accuracies in their intervals,
    /// speeds beside plain candle's in the same run
    Benchmark,
    /// No main operation takes more instructions than in benches/instructions.json
    Instructions,
    /// CUDA kernels compile without spills and with no more registers than in
    /// benches/registers.json, and the program and its tests link; needs no GPU, installs the
    /// compiler, and takes ten minutes the first time
    Cuda,
    /// The client of s5cl-hub has no warning and passes its tests against a server on this machine,
    /// and the program is type-checked with it; compiles 160 crates more the first time
    Hub,
    /// All tests and examples, the tidy test among them
    Test,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        let is_counted = matches!(self.step, Some(Step::Instructions | Step::Cuda));
        if self.update && !is_counted {
            let message = "--update is for counts: cargo xtask ci instructions --update, or cuda";
            return Err(BadInput::new(message).into());
        }
        if self.kernels_only && self.step != Some(Step::Cuda) {
            let message = "--kernels-only is for one step: cargo xtask ci cuda --kernels-only";
            return Err(BadInput::new(message).into());
        }
        if self.call_workloads {
            return instructions::call_workloads();
        }
        let steps = self.step.map_or_else(|| Step::value_variants().to_vec(), |step| vec![step]);
        for step in steps {
            let started = Instant::now();
            step.run(&self).with_context(|| format!("ci step {} failed", step.name()))?;
            println!("ci step {}: {:.0} s", step.name(), started.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn run(self, args: &Args) -> Result<()> {
        let deny = ["--", "-D", "warnings"];
        match self {
            Self::Fmt => succeed(&mut cargo(["fmt", "--all", "--check"])),
            Self::Lint => {
                succeed(cargo(["clippy", "--workspace", "--all-targets", "--quiet"]).args(deny))
            }
            Self::Doc => succeed(
                cargo(["doc", "--workspace", "--no-deps", "--quiet"])
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ),
            Self::Train => train(),
            Self::Consumer => consumer(),
            Self::Package => package(),
            Self::Benchmark => quick::check(&workspace_root().join("benches/baselines/quick.json")),
            Self::Instructions => instructions::check(args.update),
            Self::Cuda => cuda::check(args.update, args.kernels_only),
            Self::Hub => hub(deny),
            Self::Test => succeed(&mut cargo(["test", "--workspace"])),
        }
    }
}

/// The client is in no default build, so the other steps do not see it.
fn hub(deny: [&str; 3]) -> Result<()> {
    let client = ["--package", "s5cl-hub", "--features", "client"];
    succeed(cargo(["clippy", "--all-targets", "--quiet"]).args(client).args(deny))?;
    succeed(cargo(["test"]).args(client))?;
    let program = ["--package", "xtask", "--features", "hub"];
    succeed(cargo(["clippy", "--all-targets", "--quiet"]).args(program).args(deny))
}

fn train() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let command = ["xtask", "train", "--steps", "4", "--set", "evaluation.every=2", "--quiet"];
    succeed(cargo(command).arg("--out").arg(&out))?;
    let files = ["config.toml", "split.json", "metrics.jsonl", "metrics.json", "model.safetensors"];
    for file in files.into_iter().chain(["report.html"]) {
        if !out.join(file).is_file() {
            bail!("the run wrote no {file}");
        }
    }
    Ok(())
}

fn consumer() -> Result<()> {
    let root = workspace_root();
    let library = root.join("crates/s5cl-losses");
    let readme = library.join("README.md");
    let text = fs::read_to_string(&readme)?;
    let program =
        rust_example(&text).with_context(|| format!("{} has no Rust example", readme.display()))?;
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let dependencies = &manifest["workspace"]["dependencies"];
    let manifest = format!(
        "[package]\nname = \"consumer\"\nedition = \"2024\"\n\n[dependencies]\n\
         candle-core = {}\ns5cl-losses = {{ path = {:?} }}\n",
        dependencies["candle-core"],
        library.display().to_string()
    );

    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("Cargo.toml"), manifest)?;
    // The versions that everything else is tested with; what is not needed here, cargo drops.
    fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock"))?;
    fs::create_dir(folder.path().join("src"))?;
    fs::write(folder.path().join("src/main.rs"), program)?;
    let mut run = cargo(["run", "--quiet"]);
    succeed(run.args(ALONE).arg("--target-dir").arg(alone_target()?).current_dir(folder.path()))
}

fn package() -> Result<()> {
    forget_packages()?;
    // The working tree is what is checked, committed or not.
    let mut package = cargo(["package", "--workspace", "--allow-dirty", "--quiet"]);
    package.args(["--exclude", "xtask", "--exclude", "s5cl-tests"]);
    succeed(package.args(ALONE).arg("--target-dir").arg(alone_target()?))
}

/// Removes what an earlier `package` left. Cargo takes a package for unchanged while its version is,
/// so it would build the sources unpacked then, and take over what was compiled of them.
fn forget_packages() -> Result<()> {
    let target = alone_target()?;
    let mut clean = cargo(["clean", "--quiet"]);
    clean.arg("--target-dir").arg(&target);
    let mut unpacked = Vec::new();
    for library in fs::read_dir(workspace_root().join("crates"))? {
        let name = library?.file_name();
        clean.arg("--package").arg(&name);
        unpacked.push(format!("{}-{}", name.to_string_lossy(), env!("CARGO_PKG_VERSION")));
    }
    if target.is_dir() {
        succeed(&mut clean)?;
    }
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let sources = home.context("no home folder")?.join("registry/src");
    if !sources.is_dir() {
        return Ok(());
    }
    for registry in fs::read_dir(sources)? {
        let registry = registry?.path();
        for package in unpacked.iter().map(|name| registry.join(name)).filter(|path| path.is_dir())
        {
            fs::remove_dir_all(package)?;
        }
    }
    Ok(())
}

/// The first block of Rust in a Markdown text.
fn rust_example(markdown: &str) -> Option<&str> {
    let (_, block) = markdown.split_once("```rust\n")?;
    Some(block.split_once("```")?.0)
}

/// This program is `TARGET/PROFILE/xtask`.
fn alone_target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("this program is in no target folder")?;
    Ok(target.join("alone"))
}

fn cargo<const N: usize>(args: [&str; N]) -> Command {
    // The cargo that started this program, if one did.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(workspace_root());
    command
}

/// Runs a command to its end and fails where it does.
fn succeed(command: &mut Command) -> Result<()> {
    let parts: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let line = format!("cargo {}", parts.join(" "));
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::rust_example;

    #[test]
    fn rust_example_is_the_first_block_of_rust() {
        let markdown =
            "# A\n\n```toml\na = 1\n```\n\n```rust\nfn main() {}\n```\n\n```rust\n2\n```\n";
        assert_eq!(rust_example(markdown), Some("fn main() {}\n"));
        assert_eq!(rust_example("no code"), None);
    }
}
