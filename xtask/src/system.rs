//! What the machine tells: memory, logs, signals.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::failure::BadInput;
use crate::timing::SpanTimes;

static STOP: AtomicBool = AtomicBool::new(false);

/// Whether somebody asked the program to stop, by Ctrl-C or a signal. A second Ctrl-C ends it at
/// once.
pub(crate) fn stop_on_signal() -> Result<impl Fn() -> bool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(|| STOP.load(Ordering::SeqCst))
}

/// Starts to measure spans and, with a path, to write a log of JSON lines; `RUST_LOG` chooses
/// what goes into it.
pub(crate) fn start_tracing(log: Option<&Path>) -> Result<SpanTimes> {
    let times = SpanTimes::default();
    let file = log
        .map(|path| {
            File::create(path)
                .map_err(|e| BadInput::new(format!("cannot write the log {}: {e}", path.display())))
        })
        .transpose()?;
    let json = file.map(|file| {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let layer = tracing_subscriber::fmt::layer().json().with_span_events(FmtSpan::CLOSE);
        layer.with_writer(std::sync::Mutex::new(file)).with_filter(filter)
    });
    tracing_subscriber::registry().with(times.clone()).with(json).init();
    Ok(times)
}

/// The checkout that cargo started this program in. Checkouts that share a target folder share
/// the program too, so that the folder it was built in is only the second choice.
pub(crate) fn workspace_root() -> PathBuf {
    let started = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    started.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).join("..")
}

/// The processor, as results name it.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} x {}", model.map_or(std::env::consts::ARCH, |(_, name)| name.trim()))
}

/// Processes that wanted to run, on average over the last minute; none where the system does not
/// tell.
pub(crate) fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The largest memory of the process so far in MiB; 0 where the system does not tell.
pub(crate) fn peak_memory_mib() -> u64 {
    memory_kib("VmHWM").unwrap_or(0) / 1024
}

/// A field of Linux's status of this process, such as `VmRSS`; none elsewhere.
pub(crate) fn memory_kib(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let of_field = |line: &str| {
        line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    status.lines().find_map(of_field)
}
