//! How long the parts of a step take, from the spans that name them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::span::Id;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The parts of a step on the training thread, in order. `views` is time on the loader's threads
/// and so not a share of the step.
pub(crate) const PARTS: [&str; 5] = ["data_wait", "forward", "loss", "backward", "update"];

/// Adds up the time that is spent in spans, by name. A clone is another handle to the same sums.
#[derive(Clone, Default)]
pub(crate) struct SpanTimes(Arc<Mutex<BTreeMap<&'static str, Duration>>>);

struct Entered(Instant);

impl SpanTimes {
    /// Seconds spent in spans of a name.
    pub(crate) fn seconds(&self, name: &str) -> f64 {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.get(name).copied().unwrap_or_default().as_secs_f64()
    }

    /// Starts from zero.
    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The time that making views takes on the loader's threads, as a share of that of all parts.
    pub(crate) fn views_share(&self) -> f64 {
        let total: f64 = PARTS.iter().map(|part| self.seconds(part)).sum();
        self.seconds("views") / total.max(f64::MIN_POSITIVE)
    }

    /// The share of each part in the time of all parts, by name; nothing where no step ran.
    pub(crate) fn shares(&self) -> BTreeMap<String, f64> {
        let total: f64 = PARTS.iter().map(|part| self.seconds(part)).sum();
        if total == 0.0 {
            return BTreeMap::new();
        }
        let share = |part: &&str| ((*part).to_owned(), self.seconds(part) / total);
        PARTS.iter().map(share).collect()
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanTimes {
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(Entered(Instant::now()));
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let Some(Entered(since)) = span.extensions_mut().remove() else { return };
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *times.entry(span.name()).or_default() += since.elapsed();
    }
}
