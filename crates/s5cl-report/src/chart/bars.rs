//! Horizontal bars from zero to one.

use std::fmt::Write;

use super::{At, Escaped, shortened, svg};
use crate::format::percent;

const WIDTH: f64 = 440.0;
const LABEL_WIDTH: f64 = 152.0;
/// Letters of a label that fit.
const MOST_LETTERS: usize = 18;
const VALUE_WIDTH: f64 = 66.0;
const ROW_HEIGHT: f64 = 30.0;
const BAR_HEIGHT: f64 = 14.0;

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    /// A fraction in `[0, 1]`; what is absent or not finite has no bar.
    pub(crate) value: Option<f64>,
    /// Whether this is the bar that the others are compared with.
    pub(crate) is_main: bool,
    /// The ends of the value's 95 % interval, where it has one.
    pub(crate) interval: Option<(f64, f64)>,
}

/// Bars under each other, with their values in percent. A full bar is `full`, a fraction.
pub(crate) fn bars(id: &str, title: &str, bars: &[Bar], full: f64) -> String {
    let mut body = String::new();
    let mut description = String::new();
    let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
    for (index, bar) in bars.iter().enumerate() {
        let top = ROW_HEIGHT * index as f64;
        let length = bar.value.map_or(0.0, |value| room * (value / full).clamp(0.0, 1.0));
        let length = if length.is_finite() { length } else { 0.0 };
        let class = if bar.is_main { "main" } else { "other" };
        let label = shortened(&bar.label, MOST_LETTERS);
        let (label, value) = (Escaped(&label), percent(bar.value));
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            "<text class=\"bar-label {class}\" x=\"0\" y=\"{baseline}\">{label}</text>\
             <rect class=\"bar-room\" x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{room}\" \
             height=\"{BAR_HEIGHT}\" rx=\"2\"/>\
             <rect class=\"bar {class}\" x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{length}\" \
             height=\"{BAR_HEIGHT}\" rx=\"2\"/>\
             <text class=\"bar-value {class}\" x=\"{WIDTH}\" y=\"{baseline}\" \
             text-anchor=\"end\">{value}</text>",
            baseline = At(top + ROW_HEIGHT / 2.0 + 4.5),
            y = At(top + (ROW_HEIGHT - BAR_HEIGHT) / 2.0),
            length = At(length),
        );
        if let Some((low, high)) = bar.interval {
            let at = |end: f64| At(LABEL_WIDTH + room * (end / full).clamp(0.0, 1.0));
            let (top, middle) = (At(top + ROW_HEIGHT / 2.0 - 4.0), At(top + ROW_HEIGHT / 2.0));
            let (low, high) = (at(low), at(high));
            let path = format!("M{low} {top}v8M{low} {middle}H{high}M{high} {top}v8");
            let _ = writeln!(
                body,
                "<path class=\"interval halo\" d=\"{path}\"/>\
                 <path class=\"interval\" d=\"{path}\"/>"
            );
        }
        let _ = write!(description, "{}{}: {value}", if index > 0 { "; " } else { "" }, bar.label);
        if let Some((low, high)) = bar.interval {
            let (low, high) = (percent(Some(low)), percent(Some(high)));
            let _ = write!(description, ", 95 % interval {low} to {high}");
        }
    }
    svg(id, WIDTH, ROW_HEIGHT * bars.len() as f64, title, &description, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |value| Bar {
            label: "a & b".to_owned(),
            value,
            is_main: false,
            interval: value.filter(|v: &f64| v.is_finite()).map(|_| (0.4, 0.6)),
        };
        let svg = bars("id", "title", &[bar(Some(0.5)), bar(Some(f64::NAN)), bar(None)], 1.0);
        assert!(svg.contains("width=\"111\""), "{svg}");
        assert_eq!(svg.matches("width=\"0\"").count(), 2);
        assert!(svg.contains("; a &amp; b: \u{2013}"));
        assert!(svg.contains("50.0\u{202f}%, 95 % interval 40.0\u{202f}% to 60.0\u{202f}%"));
        assert!(svg.contains("class=\"interval\" d=\"M240.8 11v8M240.8 15H285.2M285.2 11v8\""));
        assert!(!svg.contains("NaN"));
    }
}
