//! What a person sees while a run trains.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use s5cl_trainer::StepRecord;

/// Steps between lines where standard error is no terminal.
const LINES_PER_RUN: u64 = 10;
/// Weight of the past in the shown speed.
const SPEED_DECAY: f64 = 0.9;

/// Counts what is done before the first step: a bar on a terminal, a line now and then elsewhere,
/// nothing when asked to be quiet.
pub(crate) struct Counter {
    what: &'static str,
    bar: ProgressBar,
    n: usize,
    done: usize,
    lines: bool,
}

impl Counter {
    /// Of `n` to be done.
    pub(crate) fn new(what: &'static str, n: usize, quiet: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let is_shown = !quiet && on_terminal;
        let bar = if is_shown { ProgressBar::new(n as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{msg} {bar:24} {pos}/{len}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        Self { what, bar, n, done: 0, lines: !quiet && !on_terminal }
    }

    /// So many more are done.
    pub(crate) fn add(&mut self, n: usize) {
        let part = |done: usize| done * LINES_PER_RUN as usize / self.n.max(1);
        if self.lines && part(self.done + n) > part(self.done) {
            eprintln!("{} {}/{}", self.what, self.done + n, self.n);
        }
        self.done += n;
        self.bar.set_position(self.done as u64);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A bar on a terminal, a line now and then elsewhere, nothing when asked to be quiet.
pub(crate) struct Progress {
    bar: ProgressBar,
    steps: u64,
    lines: bool,
    last: Instant,
    seconds_per_view: Option<f64>,
}

impl Progress {
    /// Starts at `first` of `steps`.
    pub(crate) fn new(first: u64, steps: u64, quiet: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let bar =
            if quiet || !on_terminal { ProgressBar::hidden() } else { ProgressBar::new(steps) };
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(first);
        bar.reset_eta();
        Self {
            bar,
            steps,
            lines: !quiet && !on_terminal,
            last: Instant::now(),
            seconds_per_view: None,
        }
    }

    /// Shows a step and gives the seconds since the one before, or since [`Progress::restart_clock`].
    pub(crate) fn step(&mut self, record: &StepRecord) -> f64 {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let now = seconds / record.n_views.max(1) as f64;
        let smooth = self
            .seconds_per_view
            .map_or(now, |past| SPEED_DECAY * past + (1.0 - SPEED_DECAY) * now);
        self.seconds_per_view = Some(smooth);
        let done = record.step + 1;
        let message = format!("{}, {:.0} images/s", losses(record), 1.0 / smooth);
        if self.lines
            && (done == self.steps || done.is_multiple_of(self.steps.div_ceil(LINES_PER_RUN)))
        {
            eprintln!("step {done}/{}: {message}", self.steps);
        }
        self.bar.set_position(done);
        self.bar.set_message(message);
        seconds
    }

    /// Leaves what happened since the last step out of the time of the next one.
    pub(crate) fn restart_clock(&mut self) {
        self.last = Instant::now();
    }

    /// Shows a line above the bar.
    pub(crate) fn note(&self, line: &str) {
        if self.lines {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn losses(record: &StepRecord) -> String {
    let terms = [
        ("labels", record.supervised),
        (if record.pseudo_share > 0.0 { "pseudo" } else { "instances" }, record.unsupervised),
        ("classes", record.classification),
    ];
    let shown: Vec<String> = terms
        .iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name} {value:.2}")))
        .collect();
    format!("loss {:.2} ({})", record.total, shown.join(", "))
}
