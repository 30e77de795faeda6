//! A confusion matrix as a grid of shaded counts.

use std::fmt::Write;

use super::{At, Escaped, shortened, svg};
use crate::format::{count, percent};

/// Above this many classes the cells are too small for their counts; the tooltip has them.
const MOST_CLASSES_WITH_COUNTS: usize = 20;
/// Shade of a cell with next to nothing in it: visible, unlike none.
const LEAST_SHADE: f64 = 0.1;
/// From this shade on, text is light, for its contrast.
const STRONG_SHADE: f64 = 0.72;
/// From this side on, a cell has room for larger counts, which a phone needs.
const ROOMY_CELL: f64 = 48.0;
/// Letters of a class's name that are shown.
const MOST_LETTERS: usize = 20;
/// Mean width of a letter at the size that labels have on a phone.
const LETTER_WIDTH: f64 = 7.5;

/// Sizes that follow from the number of classes and the length of their names.
struct Layout {
    cell: f64,
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    columns_are_slanted: bool,
}

impl Layout {
    fn new(names: &[String]) -> Self {
        let n = names.len() as f64;
        let cell = (600.0 / n).clamp(14.0, 54.0);
        let n_letters = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let longest = n_letters as f64 * LETTER_WIDTH;
        let columns_are_slanted = longest > cell - 4.0;
        // Room for "predicted" in the corner.
        let left = longest.max(78.0) + 12.0;
        // Slanted by 45 degrees, a label takes 0.71 of its length in both directions.
        let slanted = 0.71 * longest + 14.0;
        let top = if columns_are_slanted { slanted.max(44.0) } else { 44.0 };
        let overhang = if columns_are_slanted { (slanted - cell / 2.0).max(2.0) } else { 2.0 };
        Self {
            cell,
            left,
            top,
            width: left + n * cell + overhang,
            height: top + n * cell + 2.0,
            columns_are_slanted,
        }
    }
}

/// The matrix `counts[true][predicted]` as an SVG element; each row is shaded by its own sum,
/// hits in one color and mistakes in another. Zeros stay empty.
pub(crate) fn heat_map(
    id: &str,
    title: &str,
    description: &str,
    names: &[String],
    counts: &[Vec<u64>],
) -> String {
    let shown: Vec<String> = names.iter().map(|name| shortened(name, MOST_LETTERS)).collect();
    let layout = Layout::new(&shown);
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = draw_labels(&mut body, &layout, &shown);
    for (label, row) in counts.iter().enumerate() {
        let support: u64 = row.iter().sum();
        for (prediction, &n) in row.iter().enumerate() {
            let what = CellText {
                label: &names[label],
                prediction: &names[prediction],
                n,
                support,
                is_hit: label == prediction,
            };
            let _ = draw_cell(&mut body, &layout, (label, prediction), counts.len(), &what);
        }
    }
    svg(id, layout.width, layout.height, title, description, &body)
}

/// Width at which the text of such a chart has its natural size, in CSS pixels.
pub(crate) fn natural_width(names: &[String]) -> f64 {
    let shown: Vec<String> = names.iter().map(|name| shortened(name, MOST_LETTERS)).collect();
    Layout::new(&shown).width.round()
}

struct CellText<'a> {
    label: &'a str,
    prediction: &'a str,
    n: u64,
    support: u64,
    is_hit: bool,
}

fn draw_labels(out: &mut String, layout: &Layout, names: &[String]) -> std::fmt::Result {
    let Layout { cell, left, top, .. } = *layout;
    let edge = At(left - 10.0);
    write!(
        out,
        "<text class=\"tick\" x=\"{edge}\" y=\"{}\" text-anchor=\"end\">predicted \u{2192}</text>\
         <text class=\"tick\" x=\"{edge}\" y=\"{}\" text-anchor=\"end\">true \u{2193}</text>",
        At(top - 24.0),
        At(top - 8.0),
    )?;
    for (index, name) in names.iter().enumerate() {
        let center = cell * (index as f64 + 0.5);
        let (x, y) = (left + center, top - 9.0);
        let (x, y, name) = (At(x), At(y), Escaped(name));
        let turn = if layout.columns_are_slanted {
            format!("transform=\"rotate(-45 {x} {y})\"")
        } else {
            "text-anchor=\"middle\"".to_owned()
        };
        writeln!(
            out,
            "<text class=\"class-name\" x=\"{edge}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
             <text class=\"class-name\" x=\"{x}\" y=\"{y}\" {turn}>{name}</text>",
            At(top + center + 4.0),
        )?;
    }
    Ok(())
}

fn draw_cell(
    out: &mut String,
    layout: &Layout,
    (row, column): (usize, usize),
    n_classes: usize,
    text: &CellText<'_>,
) -> std::fmt::Result {
    let Layout { cell, left, top, .. } = *layout;
    let (x, y) = (left + cell * column as f64, top + cell * row as f64);
    let (x_at, y_at, side) = (At(x + 1.0), At(y + 1.0), At(cell - 2.0));
    write!(
        out,
        "<rect class=\"cell\" x=\"{x_at}\" y=\"{y_at}\" width=\"{side}\" height=\"{side}\" rx=\"2\"/>"
    )?;
    if text.n == 0 {
        return Ok(());
    }
    let share = text.n as f64 / text.support as f64;
    let shade = LEAST_SHADE + (1.0 - LEAST_SHADE) * share;
    let (kind, verb) = if text.is_hit { ("hit", "found as") } else { ("miss", "taken for") };
    write!(
        out,
        "<g><title>{} {verb} {}: {} of {} ({})</title><rect class=\"{kind}\" x=\"{x_at}\" \
         y=\"{y_at}\" width=\"{side}\" height=\"{side}\" rx=\"2\" fill-opacity=\"{shade:.3}\"/>",
        Escaped(text.label),
        Escaped(text.prediction),
        count(text.n),
        count(text.support),
        percent(Some(share)),
    )?;
    if n_classes <= MOST_CLASSES_WITH_COUNTS {
        let strong = if shade >= STRONG_SHADE { " strong" } else { "" };
        let tight = if cell < ROOMY_CELL { " tight" } else { "" };
        write!(
            out,
            "<text class=\"count{strong}{tight}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            At(x + cell / 2.0),
            At(y + cell / 2.0 + 4.5),
            short_count(text.n),
        )?;
    }
    writeln!(out, "</g>")
}

/// At most four letters: `9999`, `12k`, `3M`.
fn short_count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{}k", n / 1000),
        _ => format!("{}M", n / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|class_idx| format!("class <{class_idx}>")).collect()
    }

    #[test]
    fn heat_map_is_shaded_by_row() {
        let svg = heat_map("id", "t", "d", &names(2), &[vec![3, 1], vec![0, 0]]);
        assert!(svg.contains("class=\"hit\"") && svg.contains("class=\"miss\""));
        assert!(svg.contains("fill-opacity=\"0.775\"") && svg.contains("fill-opacity=\"0.325\""));
        assert!(svg.contains("class &lt;0&gt; taken for class &lt;1&gt;: 1 of 4 (25.0\u{202f}%)"));
        assert_eq!(svg.matches("class=\"cell\"").count(), 4);
        assert_eq!(svg.matches("<g>").count(), 2);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn heat_map_of_many_classes_has_no_counts_and_long_names_are_cut() {
        let counts = vec![vec![1; 21]; 21];
        assert!(!heat_map("id", "t", "d", &names(21), &counts).contains("class=\"count"));
        assert_eq!(
            shortened("a very long name of a class", MOST_LETTERS),
            "a very long name of\u{2026}"
        );
        assert_eq!(short_count(12_345), "12k");
    }
}
