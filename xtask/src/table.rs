//! Tables for people: on the screen as aligned text, in documents as Markdown.

use std::fmt::Write;

/// Rows of cells under a header; the first column is text, the others are numbers.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With its header.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Adds a row; missing cells stay empty.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The header, and rows that are as long.
    pub(crate) fn cells(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut rows = self.rows.clone();
        rows.iter_mut().for_each(|row| row.resize(n_columns, String::new()));
        let header = rows.remove(0);
        (header, rows)
    }

    /// Aligned text: the first column to the left, the others to the right.
    pub(crate) fn text(&self) -> String {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..n_columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                let _ = match column {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// A Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        for (idx, row) in self.rows.iter().enumerate() {
            let mut row = row.clone();
            row.resize(n_columns, String::new());
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if idx == 0 {
                let rule: Vec<&str> = row
                    .iter()
                    .enumerate()
                    .map(|(i, _)| if i == 0 { "---" } else { "---:" })
                    .collect();
                let _ = writeln!(text, "| {} |", rule.join(" | "));
            }
        }
        text
    }
}

/// A fraction with three digits.
pub(crate) fn fraction(value: f64) -> String {
    format!("{value:.3}")
}

/// A fraction with its interval, as in `0.812 [0.790, 0.833]`.
pub(crate) fn with_interval(value: f64, interval: Option<[f64; 2]>) -> String {
    match interval {
        Some([low, high]) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        None => fraction(value),
    }
}

/// A p-value, which is never zero.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { fraction(p) }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn table_aligns_numbers_to_the_right() {
        let mut table = Table::new(&["class", "recall"]);
        table.row(vec!["tumor".into(), "0.5".into()]);
        assert_eq!(table.text(), "class  recall\ntumor     0.5\n");
        table.row(vec!["stroma".into()]);
        let markdown = "| class | recall |\n| --- | ---: |\n| tumor | 0.5 |\n| stroma |  |\n";
        assert_eq!(table.markdown(), markdown);
    }
}
