//! Several values a row, as marks on a line from zero to one.

use std::fmt::Write;

use super::{At, Axis, Escaped, Mark, TickFormat, shortened, svg};
use crate::format::percent;

const WIDTH: f64 = 440.0;
const LEFT: f64 = 144.0;
const RIGHT: f64 = WIDTH - 14.0;
const MOST_LETTERS: usize = 18;
const ROW_HEIGHT: f64 = 26.0;
const AXIS_HEIGHT: f64 = 26.0;

/// Rows with one mark a group, each with the names of the groups.
pub(crate) fn dot_rows(
    id: &str,
    title: &str,
    groups: &[String],
    rows: &[(String, Vec<Option<f64>>)],
) -> String {
    let axis = Axis::new((0.0, 1.0), 5, TickFormat::Percent);
    let bottom = ROW_HEIGHT * rows.len() as f64;
    let mut body = String::new();
    let mut description = String::new();
    // Writing to a string cannot fail.
    for (value, label) in axis.ticks() {
        let _ = write!(
            body,
            "<path class=\"grid\" d=\"M{x} 0V{}\"/>\
             <text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            At(bottom),
            At(bottom + 18.0),
            x = At(axis.position(value, LEFT, RIGHT)),
        );
    }
    for (index, (name, values)) in rows.iter().enumerate() {
        let y = ROW_HEIGHT * (index as f64 + 0.5);
        let _ = writeln!(
            body,
            "<path class=\"grid\" d=\"M{LEFT} {}H{RIGHT}\"/>\
             <text class=\"bar-label\" x=\"0\" y=\"{}\">{}</text>",
            At(y),
            At(y + 4.5),
            Escaped(&shortened(name, MOST_LETTERS))
        );
        let _ = write!(description, "{}{name}:", if index > 0 { "; " } else { "" });
        for (group, (value, group_name)) in values.iter().zip(groups).enumerate() {
            let _ = write!(description, " {group_name} {}", percent(*value));
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let mark = Mark::of(group);
            let _ = writeln!(
                body,
                "<path class=\"mark {}\" transform=\"translate({} {})\" d=\"{}\">\
                 <title>{}: {}</title></path>",
                mark.class(),
                At(axis.position(value.clamp(0.0, 1.0), LEFT, RIGHT)),
                At(y),
                mark.path(),
                Escaped(group_name),
                percent(Some(value))
            );
        }
    }
    svg(id, WIDTH, bottom + AXIS_HEIGHT, title, &description, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_at_their_values() {
        let groups = ["<a>".to_owned(), "b".to_owned()];
        let svg = dot_rows("d", "t", &groups, &[("x".to_owned(), vec![Some(0.5), None])]);
        assert!(svg.contains("class=\"mark c0\" transform=\"translate(285 13)\""), "{svg}");
        assert!(svg.contains("<title>&lt;a&gt;: 50.0\u{202f}%</title>"));
        assert_eq!(svg.matches("class=\"mark").count(), 1);
    }
}
