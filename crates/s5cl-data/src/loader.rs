//! Batches that are made ahead of time, on other threads, and come in order.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Why a step has no batch.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError<E> {
    /// Making the batch failed.
    #[error("step {step}: {error}")]
    Failed {
        /// The step.
        step: u64,
        /// What it failed with.
        error: E,
    },
    /// Making the batch panicked.
    #[error("step {step}: making its batch panicked: {message}")]
    Panicked {
        /// The step.
        step: u64,
        /// The panic's message.
        message: String,
    },
}

type Made<B, E> = Result<B, LoaderError<E>>;
type Make<B, E> = dyn Fn(u64) -> Made<B, E> + Send + Sync;

/// A step to make and where its batch goes.
struct Order<B, E> {
    step: u64,
    reply: Sender<Made<B, E>>,
}

/// The batches of a range of steps, in order.
///
/// Every batch is made by the same function of its step, so that neither the number of workers
/// nor the number of batches ahead changes what comes out. An error belongs to its step: the
/// batches after it still come. Dropping the loader waits for the batches being made and no
/// others.
pub struct Loader<B, E> {
    /// Steps that were not ordered yet.
    steps: Range<u64>,
    prefetch: usize,
    make: Arc<Make<B, E>>,
    /// One reply for each ordered step, in order.
    ordered: VecDeque<(u64, Receiver<Made<B, E>>)>,
    workers: Option<Workers<B, E>>,
}

impl<B: Send + 'static, E: Send + 'static> Loader<B, E> {
    /// Starts to make the batches of `steps` on `workers` threads.
    ///
    /// At most `prefetch` batches are ahead of the one that is asked for. With 0 workers each
    /// batch is made when it is asked for, in the calling thread; so it is if the system grants
    /// no thread.
    pub fn new(
        steps: Range<u64>,
        workers: usize,
        prefetch: usize,
        make: impl Fn(u64) -> Result<B, E> + Send + Sync + 'static,
    ) -> Self {
        let make: Arc<Make<B, E>> = Arc::new(move |step| make_safely(step, &make));
        let workers = Workers::start(workers, prefetch, &make);
        let mut loader = Self { steps, prefetch, make, ordered: VecDeque::new(), workers };
        loader.order(prefetch);
        loader
    }
}

impl<B, E> Loader<B, E> {
    /// Orders steps until `n` are under way.
    fn order(&mut self, n: usize) {
        let Some(workers) = &self.workers else { return };
        while self.ordered.len() < n
            && let Some(step) = self.steps.next()
        {
            let (reply, made) = bounded(1);
            // The queue has room for all that is under way, so that this never waits.
            if workers.queue.send(Order { step, reply }).is_ok() {
                self.ordered.push_back((step, made));
            }
        }
    }
}

impl<B, E> Iterator for Loader<B, E> {
    type Item = Result<B, LoaderError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.workers.is_none() {
            return self.steps.next().map(|step| (self.make)(step));
        }
        self.order(self.prefetch.saturating_add(1));
        let (step, made) = self.ordered.pop_front()?;
        Some(made.recv().unwrap_or_else(|_| {
            Err(LoaderError::Panicked { step, message: "its worker is gone".to_owned() })
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.steps.end.saturating_sub(self.steps.start));
        let left = left.ok().and_then(|left| left.checked_add(self.ordered.len()));
        (left.unwrap_or(usize::MAX), left)
    }
}

/// The threads and their queue.
struct Workers<B, E> {
    queue: Sender<Order<B, E>>,
    /// The queue's other end, to empty it.
    orders: Receiver<Order<B, E>>,
    threads: Vec<JoinHandle<()>>,
}

impl<B: Send + 'static, E: Send + 'static> Workers<B, E> {
    fn start(n: usize, prefetch: usize, make: &Arc<Make<B, E>>) -> Option<Self> {
        let (queue, orders) = bounded::<Order<B, E>>(prefetch.saturating_add(1));
        let spawn = |worker| {
            let (orders, make) = (orders.clone(), Arc::clone(make));
            let work = move || {
                for Order { step, reply } in orders {
                    // Nobody waits for the reply once the loader is dropped.
                    let _ = reply.send(make(step));
                }
            };
            Builder::new().name(format!("loader-{worker}")).spawn(work).ok()
        };
        let threads: Vec<_> = (0..n).filter_map(spawn).collect();
        (!threads.is_empty()).then_some(Self { queue, orders, threads })
    }
}

impl<B, E> Drop for Loader<B, E> {
    fn drop(&mut self) {
        if let Some(Workers { queue, orders, threads }) = self.workers.take() {
            drop(queue);
            while orders.try_recv().is_ok() {}
            for thread in threads {
                // A worker catches the panics of what it makes; there is no other result.
                let _ = thread.join();
            }
        }
    }
}

fn make_safely<B, E>(step: u64, make: impl Fn(u64) -> Result<B, E>) -> Made<B, E> {
    // The function is shared and only read, and a step that panicked is not made again.
    match catch_unwind(AssertUnwindSafe(|| make(step))) {
        Ok(Ok(batch)) => Ok(batch),
        Ok(Err(error)) => Err(LoaderError::Failed { step, error }),
        Err(payload) => Err(LoaderError::Panicked { step, message: message_of(&*payload) }),
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Work whose duration varies from step to step.
    fn work(step: u64) -> u64 {
        let rounds = 1 + (step * 7919) % 20_000;
        (0..rounds).fold(step, |hash, i| (hash ^ i).wrapping_mul(0x0000_0100_0000_01b3))
    }

    #[test]
    fn loader_gives_the_same_batches_for_any_number_of_workers() {
        let expected: Vec<u64> = (5..105).map(work).collect();
        for workers in [0, 1, 2, 7] {
            for prefetch in [0, 1, 3, 200] {
                let loader =
                    Loader::new(5..105, workers, prefetch, |step| Ok::<_, String>(work(step)));
                assert_eq!(loader.size_hint(), (100, Some(100)));
                let made: Vec<u64> = loader.map(Result::unwrap).collect();
                assert_eq!(made, expected, "{workers} workers, {prefetch} ahead");
            }
        }
    }

    #[test]
    fn loader_gives_an_error_at_its_step_and_goes_on() {
        for workers in [0, 3] {
            let make = |step| if step == 2 { Err("bad tile") } else { Ok(step) };
            let made: Vec<_> = Loader::new(0..5, workers, 2, make).collect();
            let failed = LoaderError::Failed { step: 2, error: "bad tile" };
            assert_eq!(made, [Ok(0), Ok(1), Err(failed.clone()), Ok(3), Ok(4)]);
            assert_eq!(failed.to_string(), "step 2: bad tile");
        }
    }

    #[test]
    fn loader_turns_a_panic_into_an_error() {
        for workers in [0, 2] {
            let make = |step| {
                assert!(step != 1, "no batch {step}");
                Ok::<_, String>(step)
            };
            let made: Vec<_> = Loader::new(0..3, workers, 2, make).collect();
            let panicked = LoaderError::Panicked { step: 1, message: "no batch 1".to_owned() };
            assert_eq!(made, [Ok(0), Err(panicked), Ok(2)]);
        }
    }

    #[test]
    fn loader_stays_within_its_prefetch() {
        let started = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&started);
        let loader = Loader::new(0..1000, 4, 3, move |step| {
            counter.fetch_max(step, Ordering::SeqCst);
            Ok::<_, String>(step)
        });
        for batch in loader.take(200) {
            let (step, furthest) = (batch.unwrap(), started.load(Ordering::SeqCst));
            assert!(furthest <= step + 3, "{furthest} was started when {step} was asked for");
        }
    }

    #[test]
    fn loader_dropped_early_leaves_no_thread_behind() {
        let held = Arc::new(());
        for taken in [0, 1, 5] {
            let inside = Arc::clone(&held);
            let mut loader = Loader::new(0..u64::MAX, 3, 8, move |step| {
                let _held = &inside;
                Ok::<_, String>(work(step))
            });
            loader.by_ref().take(taken).for_each(|batch| assert!(batch.is_ok()));
            drop(loader);
            // Every worker has given back its share of what `make` holds.
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }

    #[test]
    fn loader_of_no_steps_is_empty() {
        assert!(Loader::new(3..3, 2, 2, Ok::<u64, String>).next().is_none());
    }
}
