//! Memory that each thread keeps for intermediate values.
//!
//! Fresh memory costs a page fault every 4 KiB; what a thread has once touched is handed out
//! again.

use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Hands out `len` values, whatever they hold, for as long as the work takes. Calls may be nested.
pub(crate) fn with<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut values = take(len);
    let result = work(&mut values);
    give(values);
    result
}

/// Hands out `len` values, whatever they hold: the smallest free memory that fits. Where none
/// does, the largest that is too small makes way, so that a thread keeps no more than it has
/// needed at once.
pub(crate) fn take(len: usize) -> Vec<f32> {
    FREE.with_borrow_mut(|free| {
        let largest = free.iter().enumerate().max_by_key(|(_, free)| free.capacity());
        if let Some((index, _)) = largest.filter(|(_, free)| free.capacity() < len) {
            free.swap_remove(index);
        }
        best_fit(free, len)
    })
}

/// Takes memory back.
pub(crate) fn give(values: Vec<f32>) {
    if values.capacity() > 0 {
        FREE.with_borrow_mut(|free| free.push(values));
    }
}

/// Takes `len` values, whatever they hold, out of the smallest free memory that fits; fresh
/// memory if none does.
pub(crate) fn best_fit(free: &mut Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let fitting = free.iter().enumerate().filter(|(_, free)| free.capacity() >= len);
    match fitting.min_by_key(|(_, free)| free.capacity()).map(|(index, _)| index) {
        Some(index) => {
            let mut values = free.swap_remove(index);
            values.resize(len, 0.0);
            values
        }
        None => vec![0.0; len],
    }
}

#[cfg(test)]
mod tests {
    use super::{FREE, best_fit, give, take, with};

    #[test]
    fn scratch_of_nested_calls_is_apart() {
        with(3, |outer| {
            outer.fill(1.0);
            with(5, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 3]);
        });
    }

    #[test]
    fn scratch_that_is_too_small_makes_way() {
        let sizes = || FREE.with_borrow(|free| free.iter().map(Vec::capacity).sum::<usize>());
        for len in 1..50 {
            give(take(len));
        }
        assert!(sizes() < 60, "{} values are kept", sizes());
    }

    #[test]
    fn scratch_is_the_smallest_that_fits() {
        let mut free = vec![vec![0.0; 100], vec![0.0; 10]];
        let place = free[1].as_ptr();
        let taken = best_fit(&mut free, 7);
        assert_eq!((taken.len(), taken.as_ptr()), (7, place));
        assert_eq!(best_fit(&mut free, 50).capacity(), 100);
        assert!(free.is_empty());
    }
}
