//! Points in the plane, each with the mark of its group.

use std::fmt::Write;

use super::{At, Mark, mark_definitions, svg};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 520.0;
const MARGIN: f64 = 10.0;
/// Up to this many points the marks have their full size; above, they shrink.
const MOST_LARGE_POINTS: f64 = 300.0;
/// The least size of a mark, of its full size.
const LEAST_SCALE: f64 = 0.6;

/// One point; its coordinates are finite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapPoint {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// `None` is drawn as a small gray dot.
    pub(crate) group: Option<usize>,
    /// Whether the point has an outline and covers others.
    pub(crate) is_outlined: bool,
}

/// The points as an SVG element, each a `use` element in their order; one unit is as long in
/// both directions.
pub(crate) fn map(id: &str, title: &str, description: &str, points: &[MapPoint]) -> String {
    let scale = (MOST_LARGE_POINTS / points.len().max(1) as f64).sqrt().clamp(LEAST_SCALE, 1.0);
    let mut body = mark_definitions((100.0 * scale).round() / 100.0);
    let (x, y) = (extent(points, |point| point.x), extent(points, |point| point.y));
    let unit = ((WIDTH - 2.0 * MARGIN) / (x.1 - x.0)).min((HEIGHT - 2.0 * MARGIN) / (y.1 - y.0));
    let middle = ((x.0 + x.1) / 2.0, (y.0 + y.1) / 2.0);
    for point in points {
        let (x, y) = (
            WIDTH / 2.0 + (point.x - middle.0) * unit,
            // Upwards, as in other plots.
            HEIGHT / 2.0 - (point.y - middle.1) * unit,
        );
        let mark = Mark::of(point.group.unwrap_or(0));
        let class = point.group.map_or_else(|| "none".to_owned(), |_| mark.class());
        let outlined = if point.is_outlined { " outlined" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            "<use href=\"#{}\" class=\"{class}{outlined}\" x=\"{}\" y=\"{}\"/>",
            mark.symbol(),
            At(x),
            At(y)
        );
    }
    svg(id, WIDTH, HEIGHT, title, description, &body)
}

/// The least and the largest coordinate; of one value, a range around it.
fn extent(points: &[MapPoint], of: fn(&MapPoint) -> f64) -> (f64, f64) {
    let (low, high) = points
        .iter()
        .map(of)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low < high {
        (low, high)
    } else if low == high {
        (low - 1.0, high + 1.0)
    } else {
        (0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: f64, y: f64, group: Option<usize>) -> MapPoint {
        MapPoint { x, y, group, is_outlined: false }
    }

    #[test]
    fn map_keeps_proportions_and_stays_inside() {
        let svg = map("m", "t", "d", &[point(0.0, 0.0, Some(1)), point(10.0, 1.0, None)]);
        assert!(svg.contains("href=\"#mark-1\" class=\"c1\" x=\"10\" y=\"291\""), "{svg}");
        assert!(svg.contains("class=\"none\" x=\"630\" y=\"229\""), "{svg}");
    }

    #[test]
    fn map_of_one_point_or_none_is_finite() {
        assert!(map("m", "t", "d", &[point(3.0, 3.0, Some(0))]).contains("x=\"320\" y=\"260\""));
        assert!(!map("m", "t", "d", &[]).contains("<use"));
    }
}
