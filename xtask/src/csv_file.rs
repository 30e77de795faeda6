//! Tables as CSV files: with a header, quoted as RFC 4180 has it.

use std::path::Path;

use anyhow::Result;
use csv::{Reader, StringRecord, Writer};
use s5cl_trainer::write_atomic;

use crate::failure::BadInput;

/// A file that was read, all of it. It has at least one row.
pub(crate) struct CsvFile {
    /// As errors name it.
    pub(crate) name: String,
    /// The names of the columns.
    pub(crate) header: StringRecord,
    /// As many cells each as the header.
    pub(crate) rows: Vec<StringRecord>,
}

impl CsvFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let wrong = |error: csv::Error| BadInput::new(format!("cannot read {name}: {error}"));
        let mut reader = Reader::from_path(path).map_err(wrong)?;
        let header = reader.headers().map_err(wrong)?.clone();
        let rows: Vec<StringRecord> = reader.records().collect::<Result<_, _>>().map_err(wrong)?;
        if rows.is_empty() {
            return Err(BadInput::new(format!("{name} has no row under its header")).into());
        }
        Ok(Self { name, header, rows })
    }

    /// An error in this file.
    pub(crate) fn wrong(&self, what: &str) -> BadInput {
        BadInput::new(format!("{}: {what}", self.name))
    }

    /// Where a column is, if it is there.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Where a column is.
    pub(crate) fn required(&self, name: &str) -> Result<usize> {
        Ok(self.column(name).ok_or_else(|| self.wrong(&format!("it has no column `{name}`")))?)
    }

    /// The cell as a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, row: usize, column: usize) -> Result<T> {
        let cell = &self.rows[row][column];
        let wrong = || {
            let (line, name) = (row + 2, &self.header[column]);
            self.wrong(&format!("line {line}, column {name:?}: {cell:?} is no number"))
        };
        // The parser's error says no more than that.
        Ok(cell.trim().parse().ok().ok_or_else(wrong)?)
    }

    /// The only row with this text in a column; `what` names the text.
    pub(crate) fn row_of(&self, column: usize, what: &str, text: &str) -> Result<usize> {
        let mut found = (0..self.rows.len()).filter(|&row| &self.rows[row][column] == text);
        match (found.next(), found.next()) {
            (Some(row), None) => Ok(row),
            (None, _) => Err(self.wrong(&format!("it has no row of the {what} {text:?}")).into()),
            _ => Err(self.wrong(&format!("the {what} {text:?} is there twice")).into()),
        }
    }
}

/// Writes a file of a header and rows.
pub(crate) fn write_csv<R, C>(
    out: &Path,
    header: impl IntoIterator<Item = impl AsRef<[u8]>>,
    rows: impl Iterator<Item = R>,
) -> Result<()>
where
    R: IntoIterator<Item = C>,
    C: AsRef<[u8]>,
{
    let mut csv = Writer::from_writer(Vec::new());
    csv.write_record(header)?;
    for row in rows {
        csv.write_record(row)?;
    }
    Ok(write_atomic(out, &csv.into_inner()?)?)
}
