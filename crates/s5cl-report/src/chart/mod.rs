//! Inline SVG, drawn without a script; colors and sizes of text come from the page's style.

use std::fmt::{self, Display};

mod area_chart;
mod axis;
mod bars;
mod dot_rows;
mod heat_map;
mod line_chart;
mod map;
mod mark;
mod reliability;
mod shares;

pub(crate) use area_chart::area_chart;
pub(crate) use axis::{Axis, TickFormat};
pub(crate) use bars::{Bar, bars};
pub(crate) use dot_rows::dot_rows;
pub(crate) use heat_map::{heat_map, natural_width};
pub(crate) use line_chart::{Line, LineChart, LineStyle};
pub(crate) use map::{MapPoint, map};
pub(crate) use mark::{Mark, mark_definitions};
pub(crate) use reliability::reliability;
pub(crate) use shares::shares;

/// A coordinate in the chart's own units, written with one decimal at most.
struct At(f64);

impl Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Adding zero turns -0 into 0.
        write!(f, "{}", (self.0 * 10.0).round() / 10.0 + 0.0)
    }
}

/// Text that cannot be taken for markup.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => write!(f, "{letter}")?,
            }
        }
        Ok(())
    }
}

/// At most so many letters, the last one an ellipsis if there are more.
fn shortened(text: &str, n_letters: usize) -> String {
    if text.chars().count() <= n_letters {
        return text.to_owned();
    }
    text.chars().take(n_letters.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// The frame around a chart's content: its size, its name and what it shows, for readers who
/// cannot see it.
fn svg(id: &str, width: f64, height: f64, title: &str, description: &str, body: &str) -> String {
    let (title, description) = (Escaped(title), Escaped(description));
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-description\">\
         <title id=\"{id}-title\">{title}</title>\
         <desc id=\"{id}-description\">{description}</desc>\n{body}</svg>",
        width = At(width),
        height = At(height),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_have_one_decimal_at_most() {
        assert_eq!(At(12.0).to_string(), "12");
        assert_eq!(At(12.34).to_string(), "12.3");
        assert_eq!(At(-0.01).to_string(), "0");
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(Escaped("<a b=\"c\">&'").to_string(), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
    }
}
