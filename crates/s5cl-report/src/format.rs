//! Numbers as a reader wants them.

/// Between a number and its unit: narrow, and no line ends there.
const THIN_SPACE: char = '\u{202f}';
/// In place of a number that is absent or not finite.
pub(crate) const NO_VALUE: &str = "\u{2013}";

/// `0.8134` as `81.3 %`.
pub(crate) fn percent(fraction: Option<f64>) -> String {
    finite(fraction, |value| format!("{:.1}{THIN_SPACE}%", 100.0 * value))
}

/// `0.78` to `0.846` as `78.0 to 84.6 %`.
pub(crate) fn percent_range(ends: Option<(f64, f64)>) -> String {
    ends.filter(|(low, high)| low.is_finite() && high.is_finite()).map_or_else(
        || NO_VALUE.to_owned(),
        |(low, high)| format!("{:.1} to {:.1}{THIN_SPACE}%", 100.0 * low, 100.0 * high),
    )
}

/// `2.0987` with so many decimals.
pub(crate) fn decimal(value: Option<f64>, n_decimals: usize) -> String {
    finite(value, |value| format!("{value:.n_decimals$}"))
}

/// `12345` as `12,345`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A rate or size, rounded, with its unit.
pub(crate) fn quantity(value: Option<f64>, unit: &str) -> String {
    finite(value, |value| format!("{}{THIN_SPACE}{unit}", count(value.max(0.0).round() as u64)))
}

/// Seconds as `45 s`, `7 min 12 s` or `2 h 05 min`.
pub(crate) fn duration(seconds: Option<f64>) -> String {
    finite(seconds, |seconds| {
        let seconds = seconds.max(0.0).round() as u64;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        match (hours, minutes) {
            (0, 0) => format!("{seconds}{THIN_SPACE}s"),
            (0, _) => format!("{minutes}{THIN_SPACE}min {:02}{THIN_SPACE}s", seconds % 60),
            _ => format!("{}{THIN_SPACE}h {minutes:02}{THIN_SPACE}min", count(hours)),
        }
    })
}

/// `1 class`, `2 classes`.
pub(crate) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// `data_wait` as `Data wait`.
pub(crate) fn words(key: &str) -> String {
    let spaced = key.replace(['_', '-'], " ");
    let mut letters = spaced.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn finite(value: Option<f64>, show: impl FnOnce(f64) -> String) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| NO_VALUE.to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(percent(Some(0.8134)), "81.3\u{202f}%");
        assert_eq!(percent_range(Some((0.78, 0.846))), "78.0 to 84.6\u{202f}%");
        assert_eq!(percent_range(Some((0.78, f64::NAN))), NO_VALUE);
        assert_eq!(decimal(Some(0.5), 3), "0.500");
        assert_eq!(quantity(Some(1234.6), "MiB"), "1,235\u{202f}MiB");
    }

    #[test]
    fn numbers_that_are_absent_or_not_finite_are_a_dash() {
        for value in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(percent(value), NO_VALUE);
            assert_eq!(duration(value), NO_VALUE);
            assert_eq!(quantity(value, "s"), NO_VALUE);
        }
    }

    #[test]
    fn durations_take_the_two_largest_units() {
        assert_eq!(duration(Some(45.2)), "45\u{202f}s");
        assert_eq!(duration(Some(432.0)), "7\u{202f}min 12\u{202f}s");
        assert_eq!(duration(Some(7500.0)), "2\u{202f}h 05\u{202f}min");
    }

    #[test]
    fn keys_become_words() {
        assert_eq!(words("data_wait"), "Data wait");
        assert_eq!(words(""), "");
    }
}
