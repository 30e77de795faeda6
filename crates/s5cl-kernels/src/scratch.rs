//! Memory that each thread keeps for intermediate values.
//!
//! Fresh memory costs a page fault every 4 KiB; what a thread has once touched is handed out
//! again.

use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Hands out `len` values, whatever they hold. Calls may be nested.
pub(crate) fn with<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut values = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if values.len() < len {
        values.resize(len, 0.0);
    }
    let result = work(&mut values[..len]);
    FREE.with_borrow_mut(|free| free.push(values));
    result
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn scratch_of_nested_calls_is_apart() {
        with(3, |outer| {
            outer.fill(1.0);
            with(5, |inner| inner.fill(2.0));
            assert_eq!(outer, [1.0; 3]);
        });
    }
}
