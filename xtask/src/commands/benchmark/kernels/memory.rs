//! The peak of memory of one row, in a process of its own, so that no other row is in it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::ours::ours;
use super::peer::{Layout, Peer};
use super::rows::{Row, Work};
use crate::system::memory_kib;

/// The second call finds everything that the first one leaves behind, as the state of an
/// optimizer.
const CALLS: u32 = 2;

/// MiB of ours, if the system tells.
pub(super) fn of_ours(row: &Row) -> Result<Option<f64>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["benchmark", "kernels", "--memory-of", &row.name]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start this program")?;
    if !output.status.success() {
        bail!("measuring the memory of {} failed: {}", row.name, output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

/// MiB of a peer, if the system tells.
pub(super) fn of_peer(python: &Path, row: &Row) -> Result<Option<f64>> {
    let mut peer = Peer::start(python)?;
    peer.prepare(row.work, Layout::ChannelsLast)?;
    peer.memory(Layout::ChannelsLast, CALLS)
}

/// Prints for [`of_ours`] what this process needs for a row, or `-`.
pub(super) fn print(work: Work) -> Result<()> {
    let mut call = ours(work)?;
    let before = reset_peak().and_then(|()| memory_kib("VmRSS"));
    for _ in 0..CALLS {
        call()?;
    }
    match before.zip(memory_kib("VmHWM")) {
        Some((before, peak)) => println!("{}", peak.saturating_sub(before) as f64 / 1024.0),
        None => println!("-"),
    }
    Ok(())
}

/// Sets the peak to what is there now; 5 is the kernel's word for that.
fn reset_peak() -> Option<()> {
    std::fs::write("/proc/self/clear_refs", "5").ok()
}
