//! Which classes are recognized, and what the others are taken for.

use serde::Serialize;

use crate::chart::{heat_map, natural_width};
use crate::format::{NO_VALUE, count, decimal, percent, percent_range};
use crate::run::{Class, Interval, Run, Test};

/// How far the matrix may shrink until its counts are too small to read.
const LEAST_SCALE: f64 = 0.6;
/// How many of the most frequent mistakes are put into words.
const N_MISTAKES: usize = 5;

#[derive(Serialize)]
pub(super) struct Classes {
    matrix_svg: Option<String>,
    /// CSS pixels; between the two the matrix scales with the page, below it scrolls.
    matrix_width: f64,
    matrix_least_width: f64,
    mistakes: Vec<Mistake>,
    rows: Vec<Row>,
    /// Which columns any class has a value for.
    has_intervals: bool,
    has_rankings: bool,
}

/// A class taken for another, in words.
#[derive(Serialize)]
struct Mistake {
    what: String,
    how_often: String,
}

/// One class in the table.
#[derive(Serialize)]
struct Row {
    name: String,
    support: String,
    recall: String,
    recall_interval: String,
    precision: String,
    f1: String,
    /// Length of the bar behind F1, in percent of the cell.
    f1_percent: u32,
    auroc: String,
    average_precision: String,
}

impl Classes {
    pub(super) fn new(run: &Run) -> Self {
        let test = &run.metrics.test;
        let names = run.class_names();
        let mistakes = mistakes(test, &names);
        Self {
            matrix_svg: (!test.confusion.is_empty()).then(|| matrix(test, &names, &mistakes)),
            matrix_width: natural_width(&names),
            matrix_least_width: (natural_width(&names) * LEAST_SCALE).round(),
            mistakes,
            rows: test.per_class.iter().map(Row::new).collect(),
            has_intervals: test.per_class.iter().any(|class| class.recall_interval.is_some()),
            has_rankings: test
                .per_class
                .iter()
                .any(|class| class.auroc.or(class.average_precision).is_some()),
        }
    }
}

impl Row {
    fn new(class: &Class) -> Self {
        let f1 = class.f1.filter(|f1| f1.is_finite()).unwrap_or(0.0);
        Self {
            name: if class.name.is_empty() { NO_VALUE.to_owned() } else { class.name.clone() },
            support: count(class.support),
            recall: percent(class.recall),
            recall_interval: percent_range(class.recall_interval.and_then(Interval::ends)),
            precision: percent(class.precision),
            f1: decimal(class.f1, 3),
            f1_percent: (100.0 * f1.clamp(0.0, 1.0)).round() as u32,
            auroc: decimal(class.auroc, 3),
            average_precision: decimal(class.average_precision, 3),
        }
    }
}

fn matrix(test: &Test, names: &[String], mistakes: &[Mistake]) -> String {
    let n_images: u64 = test.confusion.iter().flatten().sum();
    let mut description = format!(
        "{} test images of {} classes; rows are true classes, columns predicted ones.",
        count(n_images),
        names.len()
    );
    if !mistakes.is_empty() {
        let words: Vec<String> = mistakes
            .iter()
            .map(|mistake| format!("{}, {}", mistake.what, mistake.how_often))
            .collect();
        description += &format!(" Most frequent mistakes: {}.", words.join("; "));
    }
    heat_map("confusion", "Confusion matrix", &description, names, &test.confusion)
}

/// The largest counts off the diagonal, in words.
fn mistakes(test: &Test, names: &[String]) -> Vec<Mistake> {
    let mut cells: Vec<(u64, usize, usize)> = Vec::new();
    for (label, row) in test.confusion.iter().enumerate() {
        let off_diagonal = row.iter().enumerate().filter(|&(prediction, _)| prediction != label);
        cells.extend(off_diagonal.map(|(prediction, &n)| (n, label, prediction)));
    }
    // The sort is stable: equal counts stay in the order of the matrix.
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.0));
    let words = |&(n, label, prediction): &(u64, usize, usize)| {
        let support: u64 = test.confusion[label].iter().sum();
        Mistake {
            what: format!("{} taken for {}", names[label], names[prediction]),
            how_often: format!("{} of {}", count(n), count(support)),
        }
    };
    cells.iter().filter(|cell| cell.0 > 0).take(N_MISTAKES).map(words).collect()
}
