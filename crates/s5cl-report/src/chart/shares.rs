//! Rows that are divided into shares.

use std::fmt::Write;

use super::{At, Escaped, shortened, svg};
use crate::format::percent;

const WIDTH: f64 = 440.0;
const LABEL_WIDTH: f64 = 66.0;
const MOST_LETTERS: usize = 9;
const ROW_HEIGHT: f64 = 34.0;
const BAR_HEIGHT: f64 = 22.0;
/// From this width on, a part has room for its name.
const ROOM_FOR_NAME: f64 = 20.0;
/// Shades of the first and the last part.
const SHADES: (f64, f64) = (0.16, 1.0);
/// From this shade on, text is light, for its contrast.
const STRONG_SHADE: f64 = 0.6;

/// Rows of full length, each divided by its counts; the parts have the same shade in all rows,
/// light for the first of `names`, dark for the last.
pub(crate) fn shares(
    id: &str,
    title: &str,
    names: &[String],
    rows: &[(String, Vec<u64>)],
) -> String {
    let mut body = String::new();
    let mut description = String::new();
    let room = WIDTH - LABEL_WIDTH;
    for (index, (label, counts)) in rows.iter().enumerate() {
        let top = ROW_HEIGHT * index as f64;
        let total = counts.iter().sum::<u64>().max(1) as f64;
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            "<text class=\"bar-label\" x=\"0\" y=\"{}\">{}</text>",
            At(top + 20.5),
            Escaped(&shortened(label, MOST_LETTERS))
        );
        let _ = write!(description, "{}{label}:", if index > 0 { "; " } else { "" });
        let mut x = LABEL_WIDTH;
        for (part, (&n, name)) in counts.iter().zip(names).enumerate().filter(|p| *p.1.0 > 0) {
            let share = n as f64 / total;
            let (width, place) = (share * room, part as f64 / (names.len() - 1).max(1) as f64);
            let shade = SHADES.0 + (SHADES.1 - SHADES.0) * place;
            let _ = write!(
                body,
                "<g><title>{name}: {}</title><rect class=\"hit\" x=\"{}\" y=\"{}\" width=\"{}\" \
                 height=\"{BAR_HEIGHT}\" fill-opacity=\"{shade:.2}\"/>",
                percent(Some(share)),
                At(x),
                At(top + 5.0),
                At((width - 1.0).max(0.5)),
                name = Escaped(name),
            );
            if width >= ROOM_FOR_NAME {
                let strong = if shade >= STRONG_SHADE { " strong" } else { "" };
                let _ = write!(
                    body,
                    "<text class=\"count{strong}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                    At(x + width / 2.0),
                    At(top + 20.5),
                    Escaped(name),
                );
            }
            let _ = writeln!(body, "</g>");
            let _ = write!(description, " {name} {}", percent(Some(share)));
            x += width;
        }
    }
    svg(id, WIDTH, ROW_HEIGHT * rows.len() as f64, title, &description, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fill_the_row_in_order() {
        let names = ["0", "1", "2+"].map(str::to_owned);
        let svg = shares("s", "t", &names, &[("90 %".to_owned(), vec![0, 3, 1])]);
        assert!(svg.contains("x=\"66\" y=\"5\" width=\"279.5\""), "{svg}");
        assert!(svg.contains("x=\"346.5\" y=\"5\" width=\"92.5\""), "{svg}");
        assert!(svg.contains("90 %: 1 75.0\u{202f}% 2+ 25.0\u{202f}%"));
        assert!(!shares("s", "t", &names, &[("a".to_owned(), vec![0, 0, 0])]).contains("NaN"));
    }
}
