//! Batches that are made ahead of time, on other threads, and come in order.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Display;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Why a step has no batch.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError<E: Display> {
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
struct Order<B, E: Display> {
    step: u64,
    reply: Sender<Made<B, E>>,
}

/// The batches of a range of steps, in order.
///
/// Every batch is made by the same function of its step, so that neither the number of workers
/// nor the number of batches ahead changes what comes out. An error belongs to its step: the
/// batches after it still come. Dropping the loader waits for the batches being made and no
/// others.
pub struct Loader<B, E: Display> {
    /// Steps that were not ordered yet.
    steps: Range<u64>,
    prefetch: usize,
    make: Arc<Make<B, E>>,
    /// One reply for each ordered step, in order.
    ordered: VecDeque<(u64, Receiver<Made<B, E>>)>,
    workers: Option<Workers<B, E>>,
}

impl<B: Send + 'static, E: Display + Send + 'static> Loader<B, E> {
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

impl<B, E: Display> Loader<B, E> {
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

impl<B, E: Display> Iterator for Loader<B, E> {
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
struct Workers<B, E: Display> {
    queue: Sender<Order<B, E>>,
    /// The queue's other end, to empty it.
    orders: Receiver<Order<B, E>>,
    threads: Vec<JoinHandle<()>>,
}

impl<B: Send + 'static, E: Display + Send + 'static> Workers<B, E> {
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

impl<B, E: Display> Drop for Loader<B, E> {
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

fn make_safely<B, E: Display>(step: u64, make: impl Fn(u64) -> Result<B, E>) -> Made<B, E> {
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
