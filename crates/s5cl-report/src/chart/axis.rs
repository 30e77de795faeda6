//! A range of values, its round ticks and their labels.

use crate::format::count;

/// How a tick is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TickFormat {
    /// `0.25`, with as many decimals as the distance of the ticks needs.
    Number,
    /// `25 %` for 0.25.
    Percent,
    /// `1,000`; ticks are whole numbers.
    Count,
}

/// The values from `low` to `high`, `low < high`.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    format: TickFormat,
    scale: Scale,
}

/// How values are spread over the axis, and which of them are ticks.
#[derive(Clone, Debug)]
enum Scale {
    /// Evenly; every multiple of `step`.
    Linear { step: f64 },
    /// By their logarithm; these values.
    Log { ticks: Vec<f64> },
}

/// Share of a logarithmic axis that two labels keep between them.
const LEAST_LABEL_DISTANCE: f64 = 0.08;
/// Share of a logarithmic axis beyond its first and last value.
const LOG_MARGIN: f64 = 0.08;

impl Axis {
    /// A logarithmic axis whose ticks are the given positive values, in any order; others are
    /// left out.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>, format: TickFormat) -> Self {
        let mut values: Vec<f64> =
            values.into_iter().filter(|value| value.is_finite() && *value > 0.0).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (first, last) = match (values.first(), values.last()) {
            (Some(&first), Some(&last)) => (first, last),
            _ => (1.0, 1.0),
        };
        let extent = (last / first).ln().max(1.0);
        let margin = (LOG_MARGIN * extent).exp();
        let mut ticks: Vec<f64> = Vec::new();
        for value in values {
            let has_room = |last: &f64| (value / last).ln() > LEAST_LABEL_DISTANCE * extent;
            if ticks.last().is_none_or(has_room) {
                ticks.push(value);
            }
        }
        Self { low: first / margin, high: last * margin, format, scale: Scale::Log { ticks } }
    }

    /// An axis over a range with about `n_ticks` round ticks; a range without extent is widened.
    pub(crate) fn new(range: (f64, f64), n_ticks: u32, format: TickFormat) -> Self {
        let (low, high) = range;
        // Below this, neighboring ticks would be the same f64 or look the same.
        let least = (low.abs().max(high.abs()) * 1e-6).max(1e-9);
        let (low, high) = if high - low > least {
            range
        } else {
            let margin =
                if low == 0.0 || format == TickFormat::Count { 0.5 } else { low.abs() / 20.0 };
            (low - margin, high + margin)
        };
        let rough = (high - low) / f64::from(n_ticks);
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            // Rather some ticks more than asked for than half as many.
            .find(|step| *step >= rough * 0.7)
            .unwrap_or(10.0 * power);
        let step = if format == TickFormat::Count { step.max(1.0) } else { step };
        Self { low, high, format, scale: Scale::Linear { step } }
    }

    /// The same with `share` of the range added at both ends.
    pub(crate) fn padded(range: (f64, f64), share: f64, n_ticks: u32, format: TickFormat) -> Self {
        let margin = (range.1 - range.0) * share;
        Self::new((range.0 - margin, range.1 + margin), n_ticks, format)
    }

    /// The round values inside, each with its label.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let step = match &self.scale {
            Scale::Linear { step } => *step,
            Scale::Log { ticks } => {
                return ticks.iter().map(|&value| (value, self.label(value, 1.0))).collect();
            }
        };
        // In whole steps, so that rounding does not add up.
        let first = (self.low / step - 1e-6).ceil();
        let n = ((self.high / step + 1e-6).floor() - first).max(-1.0) as usize + 1;
        (0..n)
            .map(|index| (first + index as f64) * step)
            .map(|value| (value, self.label(value, step)))
            .collect()
    }

    /// Where a value lies between the coordinates of the axis' two ends.
    pub(crate) fn position(&self, value: f64, from: f64, to: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear { .. } => (value - self.low) / (self.high - self.low),
            Scale::Log { .. } => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        from + share * (to - from)
    }

    fn label(&self, value: f64, step: f64) -> String {
        // Adding zero turns -0 into 0.
        let value = value + 0.0;
        match self.format {
            TickFormat::Percent => format!("{:.0}\u{202f}%", 100.0 * value),
            TickFormat::Count => count(value.max(0.0).round() as u64),
            TickFormat::Number if !(1e-5..1e6).contains(&step) => format!("{value:.1e}"),
            TickFormat::Number => {
                let n_decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
                format!("{value:.n_decimals$}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(range: (f64, f64), format: TickFormat) -> Vec<String> {
        Axis::new(range, 5, format).ticks().into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            labels((0.0, 1.0), TickFormat::Number),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels((3.97, 4.33), TickFormat::Number), ["4.0", "4.1", "4.2", "4.3"]);
        assert_eq!(labels((-1.0, 1.0), TickFormat::Number), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(labels((0.0, 3906.0), TickFormat::Count), ["0", "1,000", "2,000", "3,000"]);
        assert_eq!(labels((0.0, 2.0), TickFormat::Count), ["0", "1", "2"]);
        assert_eq!(labels((0.0, 1.0), TickFormat::Percent).last().unwrap(), "100\u{202f}%");
    }

    #[test]
    fn axis_of_one_value_has_an_extent_and_a_tick() {
        for value in [0.0, 2.5, -3.0, 1e-12, 1e90] {
            let axis = Axis::new((value, value), 5, TickFormat::Number);
            assert!(axis.low < axis.high, "{value}");
            assert!((1..20).contains(&axis.ticks().len()), "{value}: {:?}", axis.ticks());
            assert!(axis.position(value, 0.0, 100.0).is_finite());
        }
        assert_eq!(labels((0.0, 0.0), TickFormat::Count), ["0"]);
    }

    #[test]
    fn log_axis_has_its_values_as_ticks_and_no_crowd() {
        let ticks = |values: &[f64]| -> Vec<String> {
            let axis = Axis::log(values.iter().copied(), TickFormat::Count);
            axis.ticks().into_iter().map(|tick| tick.1).collect()
        };
        assert_eq!(ticks(&[100.0, 5.0, 20.0, 20.0, 0.0, f64::NAN]), ["5", "20", "100"]);
        assert_eq!(ticks(&[1.0, 1000.0, 1001.0]), ["1", "1,000"]);
        assert!(ticks(&[]).is_empty());
        let axis = Axis::log([5.0, 20.0, 80.0], TickFormat::Count);
        assert!((axis.position(20.0, 0.0, 10.0) - 5.0).abs() < 1e-9);
        assert!(axis.position(5.0, 0.0, 10.0) > 0.0);
    }

    #[test]
    fn position_maps_the_ends_to_the_ends() {
        let axis = Axis::new((2.0, 4.0), 5, TickFormat::Number);
        assert_eq!(axis.position(2.0, 200.0, 20.0), 200.0);
        assert_eq!(axis.position(4.0, 200.0, 20.0), 20.0);
        assert_eq!(axis.position(3.0, 0.0, 10.0), 5.0);
    }
}
