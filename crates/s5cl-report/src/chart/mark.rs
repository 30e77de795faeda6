//! A color and a shape for the things that stand side by side: classes, methods, runs.

use std::fmt::Write;

/// Colors that the page's style has, as `c0`, `c1`, ...
const N_COLORS: usize = 12;
/// Shapes within a circle of radius 4.5 around the origin, of about the same area; neighbors in
/// the list are unlike each other.
const SHAPES: [&str; 6] = [
    "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z",
    "M-4.4 3.4L0-4.4L4.4 3.4z",
    "M-3.2-3.2h6.4v6.4h-6.4z",
    "M0-4.6L4.6 0L0 4.6L-4.6 0z",
    "M-1.5-4.3h3v2.8h2.8v3h-2.8v2.8h-3v-2.8h-2.8v-3h2.8z",
    "M-4.4-3.4h8.8L0 4.4z",
];

/// What tells one of several things from the others, to readers of any color vision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    color_idx: usize,
    shape_idx: usize,
}

impl Mark {
    /// The mark of the thing with this index. Up to 72 things have different marks: where colors
    /// repeat, shapes are others.
    pub(crate) fn of(index: usize) -> Self {
        let round = index / N_COLORS;
        Self { color_idx: index % N_COLORS, shape_idx: (index + round) % SHAPES.len() }
    }

    /// The class that gives the color.
    pub(crate) fn class(self) -> String {
        format!("c{}", self.color_idx)
    }

    /// The name of the shape among [`mark_definitions`].
    pub(crate) fn symbol(self) -> String {
        format!("mark-{}", self.shape_idx)
    }

    /// The shape as path data around the origin.
    pub(crate) fn path(self) -> &'static str {
        SHAPES[self.shape_idx]
    }

    /// The color by itself, for a legend of areas.
    pub(crate) fn swatch(self) -> String {
        format!(
            "<svg class=\"mark-key {}\" viewBox=\"-5 -5 10 10\" aria-hidden=\"true\">\
             <rect x=\"-5\" y=\"-5\" width=\"10\" height=\"10\" rx=\"1.5\"/></svg>",
            self.class()
        )
    }

    /// The mark by itself, for a legend beside its name.
    pub(crate) fn key(self) -> String {
        format!(
            "<svg class=\"mark-key {}\" viewBox=\"-5 -5 10 10\" aria-hidden=\"true\">\
             <path d=\"{}\"/></svg>",
            self.class(),
            self.path()
        )
    }
}

/// The shapes under their names, for charts that draw each of them many times.
pub(crate) fn mark_definitions(scale: f64) -> String {
    let mut definitions = "<defs>".to_owned();
    for (shape_idx, path) in SHAPES.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(
            definitions,
            "<path id=\"mark-{shape_idx}\" transform=\"scale({scale})\" d=\"{path}\"/>"
        );
    }
    definitions + "</defs>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_differ() {
        let marks: Vec<Mark> = (0..N_COLORS * SHAPES.len()).map(Mark::of).collect();
        for (index, mark) in marks.iter().enumerate() {
            assert!(!marks[..index].contains(mark), "{index}");
        }
    }

    #[test]
    fn colors_are_in_the_style() {
        let style = include_str!("../../templates/marks.css");
        for index in 0..N_COLORS {
            // Once in light, once in dark.
            assert_eq!(style.matches(&format!("--c{index}: #")).count(), 2, "{index}");
            assert!(style.contains(&format!(".c{index} {{")), "{index}");
        }
    }
}
