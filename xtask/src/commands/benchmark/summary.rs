//! Runs of many seeds as one table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::table::Table;

/// One finished run of a cell of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) method: String,
    pub(crate) labels_per_class: u32,
    pub(crate) seed: u32,
    pub(crate) learning_rate: f64,
    pub(crate) balanced_accuracy: f64,
    pub(crate) accuracy: f64,
    pub(crate) macro_f1: f64,
    pub(crate) color_knn: f64,
    pub(crate) seconds: f64,
}

/// Mean and spread over the seeds, one row a method and label count.
pub(crate) fn summary(cells: &[Cell]) -> Table {
    let mut groups: BTreeMap<(u32, &str), Vec<&Cell>> = BTreeMap::new();
    let mut color: BTreeMap<u32, BTreeMap<u32, f64>> = BTreeMap::new();
    for cell in cells {
        groups.entry((cell.labels_per_class, &cell.method)).or_default().push(cell);
        color.entry(cell.labels_per_class).or_default().insert(cell.seed, cell.color_knn);
    }
    let mut table = Table::new(&[
        "method",
        "labels per class",
        "learning rate",
        "balanced accuracy",
        "macro F1",
        "seeds",
        "seconds a run",
    ]);
    for (labels, by_seed) in &color {
        let scores: Vec<f64> = by_seed.values().copied().collect();
        table.row(vec![
            "color kNN".into(),
            labels.to_string(),
            String::new(),
            mean_and_spread(&scores),
            String::new(),
            scores.len().to_string(),
        ]);
        for ((_, method), cells) in groups.iter().filter(|((group, _), _)| group == labels) {
            let of = |value: fn(&Cell) -> f64| {
                cells.iter().map(|cell| value(cell)).collect::<Vec<f64>>()
            };
            let seconds = of(|cell| cell.seconds).iter().sum::<f64>() / cells.len() as f64;
            table.row(vec![
                (*method).to_owned(),
                labels.to_string(),
                cells[0].learning_rate.to_string(),
                mean_and_spread(&of(|cell| cell.balanced_accuracy)),
                mean_and_spread(&of(|cell| cell.macro_f1)),
                cells.len().to_string(),
                format!("{seconds:.0}"),
            ]);
        }
    }
    table
}

/// Mean and sample standard deviation.
fn mean_and_spread(values: &[f64]) -> String {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance =
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    format!("{mean:.3} ± {:.3}", variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::mean_and_spread;

    #[test]
    fn spread_is_the_sample_deviation() {
        assert_eq!(mean_and_spread(&[0.4, 0.6]), "0.500 ± 0.141");
        assert_eq!(mean_and_spread(&[0.4]), "0.400 ± 0.000");
    }
}
