//! Shares of a whole over time, stacked.

use std::fmt::Write;

use super::{At, Axis, Escaped, Mark, TickFormat, svg};

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = HEIGHT - 42.0;

/// Areas of the colors of their groups, the first one at the bottom. Each sample has an `x` and
/// one count a group; samples without any count are left out.
pub(crate) fn area_chart(
    id: &str,
    title: &str,
    description: &str,
    x_axis: &Axis,
    names: &[String],
    samples: &[(f64, Vec<u64>)],
) -> String {
    let stacks: Vec<(f64, Vec<f64>)> =
        samples.iter().filter_map(|(x, counts)| Some((*x, stack(counts, names.len())?))).collect();
    let mut body = String::new();
    let at =
        |x: f64, y: f64| (At(x_axis.position(x, LEFT, RIGHT)), At(BOTTOM - y * (BOTTOM - TOP)));
    for (group, name) in names.iter().enumerate() {
        let upper = stacks.iter().map(|(x, stack)| at(*x, stack[group + 1]));
        let lower = stacks.iter().rev().map(|(x, stack)| at(*x, stack[group]));
        let mut path = String::new();
        for (index, (x, y)) in upper.chain(lower).enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(path, "{}{x} {y}", if index == 0 { "M" } else { "L" });
        }
        if !path.is_empty() {
            let _ = writeln!(
                body,
                "<path class=\"area {}\" d=\"{path}z\"><title>{}</title></path>",
                Mark::of(group).class(),
                Escaped(name)
            );
        }
    }
    let _ = draw_axes(&mut body, x_axis);
    svg(id, WIDTH, HEIGHT, title, description, &body)
}

/// The shares summed up from below: from 0 to 1, one more than there are groups.
fn stack(counts: &[u64], n_groups: usize) -> Option<Vec<f64>> {
    let total: u64 = counts.iter().take(n_groups).sum();
    let mut sum = 0;
    let mut stack = vec![0.0];
    for group in 0..n_groups {
        sum += counts.get(group).copied().unwrap_or(0);
        stack.push(sum as f64 / total as f64);
    }
    (total > 0).then_some(stack)
}

fn draw_axes(out: &mut String, x_axis: &Axis) -> std::fmt::Result {
    let y_axis = Axis::new((0.0, 1.0), 5, TickFormat::Percent);
    for (value, label) in y_axis.ticks() {
        write!(
            out,
            "<text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>",
            At(LEFT - 7.0),
            At(y_axis.position(value, BOTTOM, TOP) + 4.0),
        )?;
    }
    write!(out, "<path class=\"axis\" d=\"M{LEFT} {BOTTOM}H{RIGHT}\"/>")?;
    for (value, label) in x_axis.ticks() {
        write!(
            out,
            "<path class=\"axis\" d=\"M{x} {BOTTOM}v4\"/>\
             <text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            At(BOTTOM + 18.0),
            x = At(x_axis.position(value, LEFT, RIGHT)),
        )?;
    }
    writeln!(
        out,
        "<text class=\"tick\" x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">step</text>",
        At(HEIGHT - 5.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_fill_the_frame_together() {
        let axis = Axis::new((0.0, 10.0), 5, TickFormat::Count);
        let names = ["a".to_owned(), "b".to_owned()];
        let samples = [(0.0, vec![1, 3]), (5.0, vec![0, 0]), (10.0, vec![2, 2])];
        let svg = area_chart("a", "t", "d", &axis, &names, &samples);
        assert!(svg.contains("class=\"area c0\" d=\"M50 147.5L426 101L426 194L50 194z\""), "{svg}");
        assert!(svg.contains("class=\"area c1\" d=\"M50 8L426 8L426 101L50 147.5z\""), "{svg}");
        assert!(!area_chart("a", "t", "d", &axis, &names, &[]).contains("area"));
    }
}
