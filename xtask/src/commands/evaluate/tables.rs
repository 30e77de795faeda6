//! What a user asks for beside the figures, in tables of their own.

use std::path::Path;

use anyhow::Result;
use s5cl_eval::{ClassTree, CostMatrix};

use super::Args;
use crate::csv_file::CsvFile;
use crate::evaluation::JudgedImages;
use crate::failure::BadInput;
use crate::run_folder::RunFolder;

/// Parents of classes, costs of mistakes, and the predictions of another model.
pub(super) struct Tables {
    parents: Option<CsvFile>,
    costs: Option<CsvFile>,
    pub(super) against: Option<JudgedImages>,
}

impl Tables {
    /// Reads them, before anything takes long.
    pub(super) fn read(args: &Args) -> Result<Self> {
        let read = |path: &Option<_>| path.as_deref().map(CsvFile::read).transpose();
        let against = |path: &Path| {
            let table = predictions_of(path)?;
            JudgedImages::read(&table, args.labels.as_deref())
        };
        Ok(Self {
            parents: read(&args.parents)?,
            costs: read(&args.costs)?,
            against: args.against.as_deref().map(against).transpose()?,
        })
    }

    /// The columns `class` and `parent`, one row a class.
    pub(super) fn class_tree(&self, class_names: &[String]) -> Result<Option<ClassTree>> {
        let Some(table) = &self.parents else { return Ok(None) };
        let (class, parent) = (table.required("class")?, table.required("parent")?);
        let mut names: Vec<String> = Vec::new();
        let mut parents = Vec::new();
        for class_name in class_names {
            let name = &table.rows[table.row_of(class, "class", class_name)?][parent];
            if name.is_empty() {
                return Err(table.wrong(&format!("the class {class_name:?} has no parent")).into());
            }
            let known = names.iter().position(|known| known == name);
            parents.push(known.unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            }));
        }
        Ok(Some(ClassTree::new(&parents, &names)?))
    }

    /// One row a true class, whose name is in the first column; one column a predicted class.
    pub(super) fn costs(&self, class_names: &[String]) -> Result<Option<CostMatrix>> {
        let Some(table) = &self.costs else { return Ok(None) };
        let columns = class_names.iter().map(|name| table.required(name));
        let columns: Vec<usize> = columns.collect::<Result<_>>()?;
        let mut costs = Vec::new();
        for label in class_names {
            let row = table.row_of(0, "class", label)?;
            let of_row = columns.iter().map(|&column| table.number(row, column));
            costs.push(of_row.collect::<Result<Vec<f64>>>()?);
        }
        Ok(Some(CostMatrix::new(costs)?))
    }
}

/// The table itself, or that of a run folder.
fn predictions_of(path: &Path) -> Result<std::path::PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let table = RunFolder::open(path)?.predictions();
    if table.is_file() {
        return Ok(table);
    }
    let message = format!("{} does not exist: the run has not finished", table.display());
    Err(BadInput::new(message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_and_costs_follow_the_order_of_the_classes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("table.csv");
        let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let tables = |text: &str| -> Result<Tables> {
            std::fs::write(&path, text)?;
            let read = || CsvFile::read(&path).map(Some);
            Ok(Tables { parents: read()?, costs: read()?, against: None })
        };
        let tree = tables("class,parent\nc,x\nb,y\na,y\n")?.class_tree(&names)?.unwrap();
        assert_eq!(tree.names(), ["y", "x"]);
        assert_eq!(tree.fold_labels(&[0, 1, 2])?, [0, 0, 1]);
        let error = |text: &str| tables(text).unwrap().class_tree(&names).unwrap_err().to_string();
        assert!(error("class,parent\na,x\nb,y\n").contains("no row of the class \"c\""));
        assert!(error("class,parent\na,x\nb,\nc,y\n").contains("\"b\" has no parent"));
        assert!(error("class,parent\na,x\na,y\nb,y\nc,y\n").contains("\"a\" is there twice"));

        let costs = tables("true,b,a\nb,0,2\na,1,0\n")?.costs(&names[..2])?.unwrap();
        assert_eq!(costs.rows(), [vec![0.0, 1.0], vec![2.0, 0.0]]);
        let error = |text: &str| tables(text).unwrap().costs(&names[..2]).unwrap_err().to_string();
        assert!(error("true,b\nb,0\na,1\n").contains("no column `a`"));
        assert!(error("true,b,a\nb,0,two\na,1,0\n").contains("\"two\" is no number"));
        Ok(())
    }
}
