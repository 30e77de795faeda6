//! What a model said of images, as a table: `predictions.csv`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use s5cl_eval::{ClassificationResult, Probabilities, accuracy_intervals};

use crate::csv_file::{CsvFile, write_csv};
use crate::failure::BadInput;

/// Chance with which the intervals over test images hold the truth.
pub(super) const INTERVAL_LEVEL: f64 = 0.95;

const PATH: &str = "path";
const GROUP: &str = "group";
const LABEL: &str = "label";
const PREDICTION: &str = "prediction";
const CONFIDENCE: &str = "confidence";

/// Images with the class that they have and the one that a model sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct JudgedImages {
    /// The classes by index.
    pub(crate) class_names: Vec<String>,
    /// What names each image.
    pub(crate) ids: Vec<String>,
    /// Patient, slide or smear of each, where that is known.
    pub(crate) groups: Vec<Option<String>>,
    /// The class of each.
    pub(crate) labels: Vec<u32>,
    /// f32 `[n, n_classes]`, as the file has them.
    pub(crate) probabilities: Vec<f32>,
}

/// A table of probabilities, one row an image; what stands in the columns before them differs.
pub(crate) fn write_table<'a>(
    out: &Path,
    first_columns: &[&str],
    class_names: &[String],
    rows: impl Iterator<Item = (Vec<String>, &'a [f32])>,
) -> Result<()> {
    let header = first_columns.iter().copied().chain(class_names.iter().map(String::as_str));
    let rows = rows.map(|(mut cells, probabilities)| {
        cells.extend(probabilities.iter().map(f32::to_string));
        cells
    });
    write_csv(out, header, rows)
}

impl JudgedImages {
    /// The probabilities, once they are known to be some.
    pub(crate) fn probabilities(&self) -> Result<Probabilities> {
        Ok(Probabilities::new(self.probabilities.clone(), self.class_names.len())?)
    }

    /// All figures, with 95 % intervals. Images of one group are not taken for independent.
    pub(crate) fn result(&self) -> Result<ClassificationResult> {
        let probabilities = self.probabilities()?;
        let result = ClassificationResult::new(&self.labels, &probabilities, &self.class_names)?;
        let intervals = accuracy_intervals(
            &self.labels,
            &probabilities.predictions(),
            self.class_names.len(),
            self.group_numbers().as_deref(),
            INTERVAL_LEVEL,
        )?;
        Ok(result.with_intervals(&intervals))
    }

    /// Writes `path,group,label,prediction,confidence` and a column a class.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        let predictions = self.probabilities()?.predictions();
        let name = |class_idx: u32| self.class_names[class_idx as usize].clone();
        let rows = self.probabilities.chunks(self.class_names.len()).enumerate();
        let rows = rows.map(|(i, row)| {
            let group = self.groups[i].clone().unwrap_or_default();
            let confidence = row[predictions[i] as usize].to_string();
            let (label, prediction) = (name(self.labels[i]), name(predictions[i]));
            (vec![self.ids[i].clone(), group, label, prediction, confidence], row)
        });
        write_table(out, &[PATH, GROUP, LABEL, PREDICTION, CONFIDENCE], &self.class_names, rows)
    }

    /// Reads such a table, or one of `path,label,confidence` and probabilities as `predict`
    /// writes it: there `label` is what the model said, and the true ones come from a second
    /// table with the columns `path`, `label` and, if known, `group`.
    pub(crate) fn read(table: &Path, truth: Option<&Path>) -> Result<Self> {
        let predictions = CsvFile::read(table)?;
        let has_labels = predictions.column(PREDICTION).is_some();
        let truth = match truth {
            Some(truth) => CsvFile::read(truth)?,
            None if has_labels => CsvFile::read(table)?,
            None => {
                let message = format!(
                    "{} has no column `{PREDICTION}`, so its labels are those of the model: give \
                     the true ones with --labels FILE.csv (columns {PATH},{LABEL})",
                    table.display()
                );
                return Err(BadInput::new(message).into());
            }
        };
        let classes = class_columns(&predictions)?;
        let class_names = classes.clone().map(|column| predictions.header[column].to_owned());
        let class_names: Vec<String> = class_names.collect();
        let path = predictions.required(PATH)?;
        let ids: Vec<String> = predictions.rows.iter().map(|row| row[path].to_owned()).collect();
        let truth = Truth::new(&truth)?;
        truth.refuse_others(&ids, &predictions)?;
        let mut judged = Self { class_names, ids: ids.clone(), ..Self::default() };
        for (row, id) in ids.iter().enumerate() {
            let (label, group) = truth.of(id)?;
            judged.groups.push(group.map(str::to_owned));
            judged.labels.push(judged.class_idx(label, &predictions)?);
            for column in classes.clone() {
                judged.probabilities.push(predictions.number(row, column)?);
            }
        }
        // Told now, with the name of the file.
        judged.probabilities().with_context(|| {
            format!("{}, rows counted from 0 below its header", predictions.name)
        })?;
        Ok(judged)
    }

    /// The groups by number, as statistics take them; `None` where no image has one.
    pub(crate) fn group_numbers(&self) -> Option<Vec<u32>> {
        number_groups(self.groups.iter().map(Option::as_deref))
    }

    fn class_idx(&self, label: &str, table: &CsvFile) -> Result<u32> {
        let class_idx = self.class_names.iter().position(|name| name == label);
        let unknown = || {
            let classes = self.class_names.join(", ");
            table.wrong(&format!("it has no column for the class {label:?}, only for {classes}"))
        };
        Ok(class_idx.ok_or_else(unknown)? as u32)
    }
}

/// The columns of probabilities: those behind what else stands first. A class may be called as one
/// of those columns is.
fn class_columns(table: &CsvFile) -> Result<Range<usize>> {
    let known = [PATH, GROUP, LABEL, PREDICTION, CONFIDENCE];
    let mut first = 0;
    for (column, name) in table.header.iter().enumerate() {
        let is_new = table.column(name) == Some(column);
        if !known.contains(&name) || !is_new {
            break;
        }
        first = column + 1;
        if name == CONFIDENCE {
            break;
        }
    }
    let classes = first..table.header.len();
    if classes.is_empty() {
        return Err(table.wrong("it has no column of probabilities").into());
    }
    let name = |column: usize| &table.header[column];
    if let Some(double) = classes.clone().find(|&c| (first..c).any(|other| name(other) == name(c)))
    {
        return Err(table.wrong(&format!("it has two columns {:?}", name(double))).into());
    }
    Ok(classes)
}

/// Groups by number, in order of appearance; an image without one is a group of its own. `None`
/// where no image has one.
pub(crate) fn number_groups<'a>(
    names: impl Iterator<Item = Option<&'a str>> + Clone,
) -> Option<Vec<u32>> {
    names.clone().any(|name| name.is_some()).then(|| {
        let mut numbers = BTreeMap::new();
        let mut fresh = 0_u32..;
        let mut number = |name: Option<&'a str>| match name {
            Some(name) => *numbers.entry(name).or_insert_with(|| fresh.next().unwrap_or(u32::MAX)),
            None => fresh.next().unwrap_or(u32::MAX),
        };
        names.map(&mut number).collect()
    })
}

/// The true classes by image.
struct Truth<'a> {
    table: &'a CsvFile,
    rows: BTreeMap<&'a str, (&'a str, Option<&'a str>)>,
}

impl<'a> Truth<'a> {
    fn new(table: &'a CsvFile) -> Result<Self> {
        let (path, label) = (table.required(PATH)?, table.required(LABEL)?);
        let group = table.column(GROUP);
        let mut rows = BTreeMap::new();
        for record in &table.rows {
            let group = group.map(|group| &record[group]).filter(|group| !group.is_empty());
            if rows.insert(&record[path], (&record[label], group)).is_some() {
                return Err(table.wrong(&format!("{:?} is there twice", &record[path])).into());
            }
        }
        Ok(Self { table, rows })
    }

    fn of(&self, id: &str) -> Result<(&'a str, Option<&'a str>)> {
        let missing = || self.table.wrong(&format!("it has no label of {id:?}"));
        Ok(*self.rows.get(id).ok_or_else(missing)?)
    }

    /// Labels without a prediction mean that something was left out.
    fn refuse_others(&self, ids: &[String], predictions: &CsvFile) -> Result<()> {
        if ids.len() != self.rows.len() {
            let message = format!(
                "{} has {} images, {} has {}: predictions and labels must be of the same images",
                predictions.name,
                ids.len(),
                self.table.name,
                self.rows.len()
            );
            return Err(BadInput::new(message).into());
        }
        let distinct: BTreeSet<&String> = ids.iter().collect();
        if distinct.len() != ids.len() {
            return Err(predictions.wrong("an image is there twice").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged() -> JudgedImages {
        JudgedImages {
            class_names: vec!["a".into(), "b, \"c\"".into()],
            ids: vec!["x/1.png".into(), "x/2.png".into(), "x/3.png".into()],
            groups: vec![Some("p".into()), None, Some("p".into())],
            labels: vec![0, 1, 1],
            probabilities: vec![0.75, 0.25, 0.4, 0.6, 0.875, 0.125],
        }
    }

    #[test]
    fn table_reads_back_as_it_was_written() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("predictions.csv");
        judged().write(&path)?;
        assert_eq!(JudgedImages::read(&path, None)?, judged());
        Ok(())
    }

    #[test]
    fn tables_of_predict_take_their_labels_from_another() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (table, truth) = (folder.path().join("p.csv"), folder.path().join("l.csv"));
        std::fs::write(&table, "path,label,confidence,a,b\n1,a,0.9,0.9,0.1\n2,b,0.6,0.4,0.6\n")?;
        std::fs::write(&truth, "label,path\nb,2\nb,1\n")?;
        let judged = JudgedImages::read(&table, Some(&truth))?;
        assert_eq!((&judged.labels, judged.group_numbers()), (&vec![1, 1], None));
        let refused = |truth: Option<&Path>| JudgedImages::read(&table, truth).unwrap_err();
        assert!(refused(None).to_string().contains("--labels"));
        std::fs::write(&truth, "label,path\nb,2\n")?;
        assert!(refused(Some(&truth)).to_string().contains("has 2 images"));
        std::fs::write(&truth, "label,path\nb,2\nz,1\n")?;
        assert!(refused(Some(&truth)).to_string().contains("no column for the class \"z\""));
        std::fs::write(&truth, "label,path\nb,2\na,3\n")?;
        assert!(refused(Some(&truth)).to_string().contains("no label of \"1\""));
        Ok(())
    }

    #[test]
    fn classes_may_be_called_as_columns_are() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("predictions.csv");
        let names = ["group".to_owned(), "label".to_owned()];
        let named = JudgedImages { class_names: names.to_vec(), ..judged() };
        named.write(&path)?;
        assert_eq!(JudgedImages::read(&path, None)?, named);
        std::fs::write(&path, "path,label,prediction,confidence,a,a\n1,a,a,1,1,0\n")?;
        let error = JudgedImages::read(&path, None).unwrap_err();
        assert!(error.to_string().contains("two columns \"a\""), "{error}");
        Ok(())
    }

    #[test]
    fn images_without_a_group_are_groups_of_their_own() {
        assert_eq!(number_groups([None, None].into_iter()), None);
        let groups = number_groups([Some("s"), None, Some("t"), Some("s"), None].into_iter());
        assert_eq!(groups, Some(vec![0, 1, 2, 0, 3]));
    }
}
