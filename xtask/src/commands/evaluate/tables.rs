//! Tables that a user writes beside the predictions: parents of classes, costs of mistakes.

use std::path::Path;

use anyhow::Result;
use csv::{Reader, StringRecord};
use s5cl_eval::{ClassTree, CostMatrix};

use crate::failure::BadInput;

/// The columns `class` and `parent`, one row a class.
pub(super) fn class_tree(path: &Path, class_names: &[String]) -> Result<ClassTree> {
    let (header, rows) = read(path)?;
    let column = |name: &str| {
        let column = header.iter().position(|cell| cell == name);
        column.ok_or_else(|| wrong(path, &format!("it has no column `{name}`")))
    };
    let (class, parent) = (column("class")?, column("parent")?);
    let mut names: Vec<String> = Vec::new();
    let mut parents = Vec::new();
    for name in class_names {
        let row = rows.iter().find(|row| row[class] == **name);
        let row =
            row.ok_or_else(|| wrong(path, &format!("it has no row of the class {name:?}")))?;
        let known = names.iter().position(|known| *known == row[parent]);
        parents.push(known.unwrap_or_else(|| {
            names.push(row[parent].to_owned());
            names.len() - 1
        }));
    }
    Ok(ClassTree::new(&parents, &names)?)
}

/// One row a true class, whose name is in the first column; one column a predicted class.
pub(super) fn costs(path: &Path, class_names: &[String]) -> Result<CostMatrix> {
    let (header, rows) = read(path)?;
    let mut costs = Vec::new();
    for label in class_names {
        let row = rows.iter().find(|row| row[0] == **label);
        let row =
            row.ok_or_else(|| wrong(path, &format!("it has no row of the class {label:?}")))?;
        let cost = |prediction: &String| -> Result<f64> {
            let column = header.iter().position(|cell| cell == prediction);
            let absent = || wrong(path, &format!("it has no column of the class {prediction:?}"));
            let cell = &row[column.ok_or_else(absent)?];
            let no_number = || {
                wrong(path, &format!("row {label:?}, column {prediction:?}: {cell:?} is no number"))
            };
            // The parser's error says no more than that.
            Ok(cell.trim().parse().ok().ok_or_else(no_number)?)
        };
        costs.push(class_names.iter().map(cost).collect::<Result<Vec<f64>>>()?);
    }
    Ok(CostMatrix::new(costs)?)
}

fn read(path: &Path) -> Result<(StringRecord, Vec<StringRecord>)> {
    let wrong = |error: csv::Error| wrong(path, &error.to_string());
    let mut reader = Reader::from_path(path).map_err(wrong)?;
    let header = reader.headers().map_err(wrong)?.clone();
    let rows = reader.records().collect::<Result<_, _>>().map_err(wrong)?;
    Ok((header, rows))
}

fn wrong(path: &Path, what: &str) -> BadInput {
    BadInput::new(format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_and_costs_follow_the_order_of_the_classes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("table.csv");
        let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        std::fs::write(&path, "class,parent\nc,x\nb,y\na,y\n")?;
        let tree = class_tree(&path, &names)?;
        assert_eq!(tree.names(), ["y", "x"]);
        assert_eq!(tree.fold_labels(&[0, 1, 2])?, [0, 0, 1]);

        std::fs::write(&path, "true,b,a\nb,0,2\na,1,0\n")?;
        assert_eq!(costs(&path, &names[..2])?.rows(), [vec![0.0, 1.0], vec![2.0, 0.0]]);
        assert!(
            costs(&path, &names).unwrap_err().to_string().contains("column of the class \"c\"")
        );
        std::fs::write(&path, "true,b,a\nb,0,two\na,1,0\n")?;
        assert!(costs(&path, &names[..2]).unwrap_err().to_string().contains("is no number"));
        Ok(())
    }
}
