//! Lines on two axes.

use std::fmt::Write;

use super::{At, Axis, Escaped, Mark, svg};
use crate::series::{Point, is_drawable};

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = HEIGHT - 42.0;

/// What a line stands for; the page's style gives it color, width and dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineStyle {
    /// Unsmoothed values behind a line.
    Raw,
    /// The value that the chart is about.
    Main,
    /// A second value on the same axis.
    Second,
    /// A third one.
    Third,
    /// What the values cannot go below, or have to be above.
    Floor,
    /// One of several that stand side by side, each with its own mark.
    Series(Mark),
}

impl LineStyle {
    fn class(self) -> String {
        match self {
            Self::Raw => "raw".to_owned(),
            Self::Main => "main".to_owned(),
            Self::Second => "second".to_owned(),
            Self::Third => "third".to_owned(),
            Self::Floor => "floor".to_owned(),
            Self::Series(mark) => format!("series {}", mark.class()),
        }
    }
}

/// One line; later lines cover earlier ones.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) style: LineStyle,
    pub(crate) points: Vec<Point>,
    /// Every so many-th point has a dot; `None` has no dot.
    pub(crate) dot_stride: Option<usize>,
    /// Vertical bars from a low to a high value, `(x, low, high)`.
    pub(crate) intervals: Vec<(f64, f64, f64)>,
    /// Moves points and bars to the right, in the chart's units, so that they do not cover those
    /// of other lines.
    pub(crate) shift: f64,
}

impl Line {
    /// A line without dots and bars.
    pub(crate) fn new(style: LineStyle, points: Vec<Point>) -> Self {
        Self { style, points, dot_stride: None, intervals: Vec::new(), shift: 0.0 }
    }

    /// With a dot at every point, for lines of few measurements.
    pub(crate) fn with_dots(self) -> Self {
        Self { dot_stride: Some(1), ..self }
    }
}

/// Lines on a pair of axes.
#[derive(Clone, Debug)]
pub(crate) struct LineChart<'a> {
    /// Unique in the page; a valid XML id.
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    /// The chart in words, for readers who cannot see it.
    pub(crate) description: &'a str,
    pub(crate) x_label: &'a str,
    pub(crate) x_axis: &'a Axis,
    pub(crate) y_axis: &'a Axis,
    pub(crate) lines: &'a [Line],
    /// A vertical line at an `x`, with its label.
    pub(crate) marker: Option<(f64, &'a str)>,
}

impl LineChart<'_> {
    /// The chart as an SVG element. Values outside the axes are cut off at the frame, values that
    /// are not finite leave a gap.
    pub(crate) fn to_svg(&self) -> String {
        let mut body = String::new();
        // Writing to a string cannot fail.
        let _ = self.draw_axes(&mut body);
        let _ = self.draw_marker(&mut body);
        let _ = self.draw_lines(&mut body);
        svg(self.id, WIDTH, HEIGHT, self.title, self.description, &body)
    }

    fn draw_axes(&self, out: &mut String) -> std::fmt::Result {
        for (value, label) in self.y_axis.ticks() {
            let y = self.y_axis.position(value, BOTTOM, TOP);
            write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y}H{RIGHT}\"/>\
                 <text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>",
                At(LEFT - 7.0),
                At(y + 4.0),
                y = At(y),
            )?;
        }
        write!(out, "<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>")?;
        for (value, label) in self.x_axis.ticks() {
            let x = self.x_axis.position(value, LEFT, RIGHT);
            write!(
                out,
                "<path class=\"axis\" d=\"M{x} {BOTTOM}v4\"/>\
                 <text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                At(BOTTOM + 18.0),
                x = At(x),
            )?;
        }
        writeln!(
            out,
            "<text class=\"tick\" x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            At(HEIGHT - 5.0),
            Escaped(self.x_label),
        )
    }

    fn draw_marker(&self, out: &mut String) -> std::fmt::Result {
        let Some((value, label)) = self.marker else { return Ok(()) };
        let x = self.x_axis.position(value, LEFT, RIGHT);
        // The label stands on the side with more room.
        let (anchor, shift) = if x > (LEFT + RIGHT) / 2.0 { ("end", 5.0) } else { ("start", -5.0) };
        writeln!(
            out,
            "<path class=\"marker\" d=\"M{x} {}V{BOTTOM}\"/>\
             <text class=\"marker-label\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            At(TOP - 16.0),
            At(x - shift),
            At(TOP - 7.0),
            Escaped(label),
            x = At(x),
        )
    }

    fn draw_lines(&self, out: &mut String) -> std::fmt::Result {
        let id = self.id;
        writeln!(
            out,
            "<clipPath id=\"{id}-frame\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\
             </clipPath><g clip-path=\"url(#{id}-frame)\">",
            At(LEFT - 4.0),
            At(TOP - 4.0),
            At(RIGHT - LEFT + 8.0),
            At(BOTTOM - TOP + 6.0),
        )?;
        for line in self.lines {
            let path = self.path(line)?;
            let class = line.style.class();
            for &(x, low, high) in &line.intervals {
                let ((x, low), (_, high)) = (self.place(line, x, low), self.place(line, x, high));
                write!(out, "<path class=\"interval {class}\" d=\"M{x} {low}V{high}\"/>")?;
            }
            if !path.is_empty() {
                writeln!(out, "<path class=\"line {class}\" d=\"{path}\"/>")?;
            }
            let dots = line.dot_stride.map(|stride| line.points.iter().step_by(stride.max(1)));
            for &(x, y) in dots.into_iter().flatten().filter(|point| is_drawable(point.1)) {
                let (x, y) = self.place(line, x, y);
                if let LineStyle::Series(mark) = line.style {
                    let (path, class) = (mark.path(), mark.class());
                    write!(
                        out,
                        "<path class=\"mark {class}\" transform=\"translate({x} {y})\" d=\"{path}\"/>"
                    )?;
                } else {
                    write!(out, "<circle class=\"dot {class}\" cx=\"{x}\" cy=\"{y}\" r=\"2.6\"/>")?;
                }
            }
        }
        writeln!(out, "</g>")
    }

    /// The line as path data; a lone point is a stroke of no length, which round caps show as a
    /// dot.
    fn path(&self, line: &Line) -> Result<String, std::fmt::Error> {
        let mut path = String::new();
        let segments = line.points.split(|point| !is_drawable(point.1));
        for segment in segments.filter(|part| !part.is_empty()) {
            for (index, &(x, y)) in segment.iter().enumerate() {
                let (x, y) = self.place(line, x, y);
                let command = match index {
                    0 => "M",
                    1 => "L",
                    _ => " ",
                };
                write!(path, "{command}{x} {y}")?;
            }
            if segment.len() == 1 {
                path.push_str("h0");
            }
        }
        Ok(path)
    }

    fn place(&self, line: &Line, x: f64, y: f64) -> (At, At) {
        // Far outside the frame everything looks the same, and coordinates stay short.
        let y = self.y_axis.position(y, BOTTOM, TOP).clamp(-HEIGHT, 2.0 * HEIGHT);
        (At(self.x_axis.position(x, LEFT, RIGHT) + line.shift), At(y))
    }
}

#[cfg(test)]
mod tests {
    use super::super::TickFormat;
    use super::*;

    fn drawn(points: Vec<Point>, has_dots: bool) -> String {
        LineChart {
            id: "loss",
            title: "Loss <total>",
            description: "falls",
            x_label: "step",
            x_axis: &Axis::new((0.0, 10.0), 5, TickFormat::Count),
            y_axis: &Axis::new((0.0, 1.0), 5, TickFormat::Number),
            lines: &[Line {
                dot_stride: has_dots.then_some(1),
                ..Line::new(LineStyle::Main, points)
            }],
            marker: Some((8.0, "pseudo-labels")),
        }
        .to_svg()
    }

    #[test]
    fn line_starts_and_ends_on_the_frame() {
        let svg = drawn(vec![(0.0, 0.0), (10.0, 1.0)], false);
        assert!(svg.contains("d=\"M50 194L426 22\""), "{svg}");
    }

    #[test]
    fn line_has_a_gap_where_a_value_is_not_finite() {
        let points =
            vec![(0.0, 0.0), (1.0, 0.5), (2.0, f64::NAN), (3.0, f64::INFINITY), (4.0, 0.5)];
        let svg = drawn(points, true);
        assert!(svg.contains("d=\"M50 194L87.6 108M200.4 108h0\""), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn series_has_its_own_marks_and_bars() {
        let line = Line {
            intervals: vec![(5.0, 0.25, 0.75)],
            shift: 2.0,
            ..Line::new(LineStyle::Series(Mark::of(1)), vec![(5.0, 0.5)]).with_dots()
        };
        let svg = LineChart {
            id: "curve",
            title: "t",
            description: "d",
            x_label: "labels",
            x_axis: &Axis::new((0.0, 10.0), 5, TickFormat::Count),
            y_axis: &Axis::new((0.0, 1.0), 5, TickFormat::Number),
            lines: &[line],
            marker: None,
        }
        .to_svg();
        assert!(svg.contains("class=\"interval series c1\" d=\"M240 151V65\""), "{svg}");
        assert!(svg.contains("class=\"mark c1\" transform=\"translate(240 108)\""));
    }

    #[test]
    fn chart_escapes_its_title_and_names_itself() {
        let svg = drawn(Vec::new(), false);
        assert!(svg.contains("<title id=\"loss-title\">Loss &lt;total&gt;</title>"));
        assert!(svg.contains("aria-labelledby=\"loss-title loss-description\""));
    }

    #[test]
    fn marker_label_stays_inside() {
        assert!(drawn(Vec::new(), false).contains("text-anchor=\"end\">pseudo-labels"));
    }
}
