//! `ci instructions`: no main operation takes notably more instructions than it did.
//!
//! Times depend on the machine and on whatever else it does; counts do not. valgrind runs this
//! program, with its AVX2 code, on one thread, and counts one call of each operation.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::workloads::{Call, WORKLOADS};
use crate::system::workspace_root;

/// By how much a count may rise; what differs between two builds of the same code is far below.
const MARGIN: f64 = 0.05;

/// Where the counts to compare with are.
const COUNTS: &str = "benches/instructions.json";

/// What valgrind knows [`counted_call`] by. It takes patterns too, but not in two options at once.
const COUNTED: &str = concat!(module_path!(), "::counted_call");

/// The counts to compare with, and what they depend on beside the code.
#[derive(Serialize, Deserialize)]
struct Counts {
    rustc: String,
    /// By operation, one call.
    instructions: BTreeMap<String, u64>,
}

/// Compares the counts with those in `benches/instructions.json`, or writes them there.
pub(super) fn check(update: bool) -> Result<()> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        println!("skipped: the counts are those of Linux on x86-64");
        return Ok(());
    }
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        println!("skipped: valgrind is not installed");
        return Ok(());
    }
    let counts = Counts { rustc: rustc_version()?, instructions: count()? };
    let path = workspace_root().join(COUNTS);
    if update {
        return write(&path, &counts);
    }
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {COUNTS}; --update writes it"))?;
    let before: Counts =
        serde_json::from_str(&text).with_context(|| format!("{COUNTS} is damaged"))?;
    for (name, &count) in &counts.instructions {
        println!("{}", line(name, count, before.instructions.get(name).copied()));
    }
    let offenders = risen(&before.instructions, &counts.instructions);
    if !offenders.is_empty() {
        bail!(
            "more than {:.0} % above {COUNTS}, or in one of them only: {}; it was written with {}, \
             and this is {}; where more are meant, `cargo xtask ci instructions --update` writes \
             it anew",
            MARGIN * 100.0,
            offenders.join(", "),
            before.rustc,
            counts.rustc
        );
    }
    Ok(())
}

/// Calls every operation twice; the second call is counted. This is what valgrind runs.
pub(super) fn call_workloads() -> Result<()> {
    // valgrind zeroes and dumps the counts of the calling thread, so that all work must be there.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    for (name, make) in WORKLOADS {
        let mut call = make().with_context(|| format!("cannot make {name}"))?;
        // The first call takes memory that later ones find.
        call()?;
        counted_call(&mut call)?;
    }
    Ok(())
}

/// What is counted: a function of its own in the program, never a part of its caller.
#[inline(never)]
fn counted_call(call: &mut Call) -> Result<()> {
    // Something is left to do behind the call, so that it is no jump.
    Ok(std::hint::black_box(call())?)
}

/// Runs the operations under valgrind.
fn count() -> Result<BTreeMap<String, u64>> {
    let folder = tempfile::tempdir()?;
    let dumps = folder.path().join("counts");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]);
    valgrind.arg(format!("--zero-before={COUNTED}")).arg(format!("--dump-after={COUNTED}"));
    valgrind.arg(format!("--callgrind-out-file={}", dumps.display()));
    valgrind.arg(std::env::current_exe()?).args(["ci", "instructions", "--call-workloads"]);
    valgrind.env("RAYON_NUM_THREADS", "1");
    // One instruction that fills or copies many bytes would count once a byte, and whether memory
    // has to be filled is a matter of what lay there before.
    valgrind.env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS");
    let status = valgrind.status().context("cannot start valgrind")?;
    if !status.success() {
        bail!("the operations failed under valgrind: {status}");
    }
    let counts = WORKLOADS.iter().enumerate().map(|(index, (name, _))| {
        let dump = PathBuf::from(format!("{}.{}", dumps.display(), index + 1));
        let text = fs::read_to_string(&dump)
            .with_context(|| format!("valgrind wrote no counts of {name}"))?;
        let count = total(&text).with_context(|| format!("valgrind counted nothing in {name}"))?;
        Ok(((*name).to_owned(), count))
    });
    counts.collect()
}

/// The sum in a dump of callgrind's.
fn total(dump: &str) -> Option<u64> {
    let line = dump.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok().filter(|&count| count > 0)
}

/// Operations whose count rose by more than the margin, and those that only one side knows.
fn risen(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Vec<String> {
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let most = |name: &String| before.get(name).map(|&count| count as f64 * (1.0 + MARGIN));
    let risen = now.iter().filter(|(name, count)| most(name).is_none_or(|m| **count as f64 > m));
    risen.map(|(name, _)| name).chain(gone).cloned().collect()
}

fn line(name: &str, count: u64, before: Option<u64>) -> String {
    let change = before.map_or_else(String::new, |before| {
        format!("{:>+8.2} %", (count as f64 / before as f64 - 1.0) * 100.0)
    });
    format!("{name:<28}{count:>12}{change}")
}

fn write(path: &Path, counts: &Counts) -> Result<()> {
    let text = serde_json::to_string_pretty(counts)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {COUNTS}"))?;
    println!("wrote {COUNTS}");
    Ok(())
}

fn rustc_version() -> Result<String> {
    let output = Command::new("rustc").arg("--version").current_dir(workspace_root()).output();
    let output = output.context("cannot start rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, risen, total};

    #[test]
    fn total_is_the_dumps_own() {
        assert_eq!(total("part: 1\nfn=(1) a\n0 5\n\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("summary: 3\ntotals: 0\n"), None);
    }

    #[test]
    fn risen_names_what_exceeds_the_margin_or_is_on_one_side_only() {
        let counts = |counts: &[(&str, u64)]| -> BTreeMap<String, u64> {
            counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
        };
        let before = counts(&[("fell", 1000), ("gone", 1), ("rose", 1000), ("same", 1000)]);
        let now = counts(&[("fell", 10), ("new", 1), ("rose", 1051), ("same", 1049)]);
        assert_eq!(risen(&before, &now), ["new", "rose", "gone"]);
    }
}
