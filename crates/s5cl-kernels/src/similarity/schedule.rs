//! Who meets whom when: rounds in which no block of rows takes part twice.
//!
//! The tasks of a round write to rows of their own, so they need no copies and no atomics, and a
//! row receives its parts in the order of the rounds: the result is the same for any number of
//! threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

/// Calls `task` once for every pair of blocks `(i, j)` with `i <= j < n`, for up to `at_once` of
/// them at a time: round `r` holds the pairs with `i + j = r` modulo `n`.
pub(super) fn for_each_pair(n: usize, at_once: usize, task: impl Fn(usize, usize) + Sync) {
    let pairs = |round| {
        let pairs = (0..n).map(move |i| (i, (round + n - i) % n));
        pairs.filter(|(i, j)| i <= j)
    };
    for_each_round(n, at_once, pairs, task);
}

/// The most pairs in a round of [`for_each_pair`].
pub(super) fn most_pairs(n: usize) -> usize {
    // Every block in two pairs would be `n / 2` of them; up to two blocks meet themselves.
    n / 2 + 1
}

/// Calls `task` once for every block `i < n_left` with every block `j < n_right`, for up to
/// `at_once` of them at a time: round `r` holds the pairs with `j - i = r` modulo the larger number.
pub(super) fn for_each_crossing(
    n_left: usize,
    n_right: usize,
    at_once: usize,
    task: impl Fn(usize, usize) + Sync,
) {
    let n = n_left.max(n_right);
    let pairs = |round| {
        let pairs = (0..n_left).map(move |i| (i, (round + i) % n));
        pairs.filter(move |(_, j)| *j < n_right)
    };
    for_each_round(n, at_once, pairs, task);
}

fn for_each_round<P: Iterator<Item = (usize, usize)>>(
    n: usize,
    at_once: usize,
    pairs: impl Fn(usize) -> P + Sync + Send,
    task: impl Fn(usize, usize) + Sync,
) {
    if at_once <= 1 {
        return (0..n).flat_map(pairs).for_each(|(i, j)| task(i, j));
    }
    // The loop itself runs in the pool, whose threads stay awake from one round to the next.
    rayon::scope(|_| {
        // Threads take pairs one by one. Where not all of them may, a round is cut into no more
        // pieces than tasks are allowed.
        let is_limited = at_once < rayon::current_num_threads();
        for round in 0..n {
            let pairs: Vec<(usize, usize)> = pairs(round).collect();
            let fewest = if is_limited { pairs.len().div_ceil(at_once) } else { 1 };
            pairs.into_par_iter().with_min_len(fewest).for_each(|(i, j)| task(i, j));
        }
    });
}

/// The parts of a whole, to be taken one by one. The schedule lets no two tasks want the same part
/// at the same time, so nobody ever waits.
pub(super) struct Parts<T>(Vec<Mutex<T>>);

impl<T> Parts<T> {
    pub(super) fn new(parts: impl IntoIterator<Item = T>) -> Self {
        Self(parts.into_iter().map(Mutex::new).collect())
    }

    pub(super) fn take(&self, index: usize) -> MutexGuard<'_, T> {
        lock(&self.0[index])
    }
}

/// Working memory that tasks borrow; there come to be as many pieces as tasks at the same time.
pub(super) struct Workspaces<T>(Mutex<Vec<T>>);

impl<T> Workspaces<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn with<R>(&self, make: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let free = lock(&self.0).pop();
        let mut workspace = free.unwrap_or_else(make);
        let result = work(&mut workspace);
        lock(&self.0).push(workspace);
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Parts, for_each_crossing, for_each_pair, most_pairs};

    /// Counts the visits of each pair.
    fn visits(n: usize, run: impl FnOnce(&(dyn Fn(usize, usize) + Sync))) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..n * n).map(|_| AtomicUsize::new(0)).collect();
        run(&|i, j| {
            counts[i * n + j].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn schedule_brings_every_pair_together_once() {
        for n in 0..10 {
            for at_once in [1, 2, 100] {
                let counts = visits(n, |task| for_each_pair(n, at_once, task));
                let expected = (0..n * n).map(|pair| usize::from(pair / n <= pair % n));
                assert!(counts.into_iter().eq(expected), "{n} blocks, {at_once} at once");
                for right in 0..=n {
                    let counts = visits(n, |task| for_each_crossing(n, right, at_once, task));
                    let expected = (0..n * n).map(|pair| usize::from(pair % n < right));
                    assert!(counts.into_iter().eq(expected), "{n} x {right} blocks");
                    let counts = visits(n, |task| for_each_crossing(right, n, at_once, task));
                    let expected = (0..n * n).map(|pair| usize::from(pair / n < right));
                    assert!(counts.into_iter().eq(expected), "{right} x {n} blocks");
                }
            }
        }
    }

    #[test]
    fn schedule_gives_a_block_its_parts_in_one_order() {
        let order_of = |at_once| {
            let orders = Parts::new(vec![Vec::new(); 7]);
            for_each_pair(7, at_once, |i, j| {
                orders.take(i).push(j);
                if i != j {
                    orders.take(j).push(i);
                }
            });
            (0..7).map(|block| orders.take(block).clone()).collect::<Vec<_>>()
        };
        assert_eq!(order_of(1), order_of(100));
    }

    #[test]
    fn schedule_has_no_more_tasks_at_once_than_it_may() {
        const N: usize = 24;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        for at_once in 1..8 {
            let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let task = |_, _| {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Long enough for every thread to begin another task, if it were allowed to.
                (0..50).for_each(|_| std::thread::yield_now());
                running.fetch_sub(1, Ordering::SeqCst);
            };
            pool.install(|| {
                for_each_pair(N, at_once, task);
                for_each_crossing(N, N - 1, at_once, task);
            });
            let most = most.into_inner();
            assert!(most <= at_once, "{most} tasks at once, {at_once} allowed");
        }
    }

    #[test]
    fn schedule_has_rounds_of_at_most_half_of_the_blocks_and_one() {
        for n in 1..20 {
            let mut lengths = vec![0; n];
            let counts = visits(n, |task| for_each_pair(n, 1, task));
            for (pair, count) in counts.into_iter().enumerate() {
                lengths[(pair / n + pair % n) % n] += count;
            }
            assert_eq!(lengths.into_iter().max(), Some(most_pairs(n)), "{n} blocks");
        }
    }
}
