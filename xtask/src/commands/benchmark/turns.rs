//! Times of several sides, taken in turns.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

/// A turn lasts about so long: many calls where one is short, so that the first of them, which
/// finds the caches full of the other side's data, weighs little.
const TURN_SECONDS: f64 = 0.1;
const MOST_CALLS: f64 = 50.0;
/// Threads that wait for work spin for a while before they sleep. The other side's turn begins
/// after that.
const REST: Duration = Duration::from_millis(20);

/// Makes a number of calls and says how many seconds they took.
pub(super) type Side<'a> = Box<dyn FnMut(u32) -> Result<f64> + 'a>;

/// Milliseconds a call, over all turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Timing {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Timing {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |idx: usize| 1e3 * seconds.get(idx).copied().unwrap_or(f64::NAN);
        let last = seconds.len().saturating_sub(1);
        Self { median: (at(last / 2) + at(last.div_ceil(2))) / 2.0, min: at(0), max: at(last) }
    }
}

/// A side in this process.
pub(super) fn here<'a, E>(mut call: impl FnMut() -> Result<(), E> + 'a) -> Side<'a>
where
    anyhow::Error: From<E>,
{
    Box::new(move |calls| {
        let started = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        Ok(started.elapsed().as_secs_f64())
    })
}

/// Warms every side up with two calls, then gives each its turns, one after the other.
pub(super) fn in_turns(sides: &mut [Side<'_>], turns: u32) -> Result<Vec<Timing>> {
    let mut calls = Vec::new();
    for side in sides.iter_mut() {
        side(1)?;
        sleep(REST);
        calls.push((TURN_SECONDS / side(1)?).ceil().clamp(1.0, MOST_CALLS) as u32);
    }
    let mut seconds = vec![Vec::new(); sides.len()];
    for _ in 0..turns {
        for ((side, &calls), seconds) in sides.iter_mut().zip(&calls).zip(&mut seconds) {
            sleep(REST);
            seconds.push(side(calls)? / f64::from(calls));
        }
    }
    Ok(seconds.into_iter().map(Timing::of).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::{Side, Timing, in_turns};

    #[test]
    fn timing_is_the_middle_and_the_ends() {
        let expected = Timing { median: 2e3, min: 1e3, max: 4e3 };
        assert_eq!(Timing::of(vec![4.0, 1.0, 2.0]), expected);
        assert_eq!(Timing::of(vec![4.0, 1.0]).median, 2.5e3);
    }

    #[test]
    fn in_turns_alternates_and_divides_by_the_calls() {
        let order = RefCell::new(String::new());
        let side = |name: char, seconds_a_call: f64| -> Side<'_> {
            let order = &order;
            Box::new(move |calls| {
                order.borrow_mut().push_str(&format!("{name}{calls} "));
                Ok(seconds_a_call * f64::from(calls))
            })
        };
        let timings = in_turns(&mut [side('a', 0.25), side('b', 0.0625)], 2).unwrap();
        assert_eq!(*order.borrow(), "a1 a1 b1 b1 a1 b2 a1 b2 ");
        assert_eq!(timings[0], Timing { median: 250.0, min: 250.0, max: 250.0 });
        assert_eq!(timings[1].median, 62.5);
    }
}
