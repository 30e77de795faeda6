//! Cells over seeds: one row a method and number of labels.

use std::collections::BTreeMap;

use anyhow::Result;
use s5cl_eval::{Interval, PairedDifference, SeedSummary};
use serde::Serialize;

use super::cells::Cell;
use super::metric::Metric;
use super::preset::Preset;
use super::settings::{Budget, Settings};
use crate::commands::benchmark::figure::{Figure, Kind};
use crate::commands::benchmark::statistics::{
    difference_text, interval_text, over_seeds, paired, spread_text,
};
use crate::table::{Table, fraction};

/// What the color baseline is called among the methods.
const COLOR: &str = "color kNN";
/// How the name of the column of differences ends.
pub(super) const MINUS: &str = " minus it";

/// The seeds of one method and number of labels together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) method: String,
    pub(crate) budget: Budget,
    pub(crate) n_labeled: u64,
    /// On average.
    pub(crate) labels_per_class: f64,
    pub(crate) learning_rate: Option<f64>,
    /// The figure that the benchmark is about.
    pub(crate) result: SeedSummary,
    pub(crate) macro_f1: Option<SeedSummary>,
    /// How far the subject of the benchmark is above this row, seed by seed.
    pub(crate) subject_minus_this: Option<PairedDifference>,
    /// What the paper found.
    pub(crate) published: Option<f64>,
    pub(crate) seconds: Option<f64>,
}

/// One row a method and budget, with that of color first, in the order of the settings.
pub(crate) fn rows(
    settings: &Settings,
    cells: &[Cell],
    preset: Option<&Preset>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &budget in &settings.budgets {
        let of_method = |method: &str| -> Vec<&Cell> {
            let mut found: Vec<&Cell> = cells
                .iter()
                .filter(|cell| cell.budget == budget && cell.method == method)
                .collect();
            found.sort_by_key(|cell| cell.seed);
            found
        };
        let subject_name = settings.subject();
        // A seed has one split, and so one color baseline, whatever the method.
        let by_seed: BTreeMap<u32, &Cell> =
            cells.iter().filter(|c| c.budget == budget).map(|cell| (cell.seed, cell)).collect();
        let Some(first) = by_seed.values().next() else { continue };
        let color: Vec<f64> = by_seed.values().map(|cell| cell.color_knn).collect();
        rows.push(Row {
            method: color_name(settings.metric),
            budget,
            n_labeled: first.n_labeled,
            labels_per_class: per_class(first),
            learning_rate: None,
            result: over_seeds(&color)?,
            macro_f1: None,
            subject_minus_this: None,
            published: None,
            seconds: None,
        });
        let subject = of_method(subject_name);
        for method in &settings.methods {
            let cells = of_method(method);
            let Some(first) = cells.first() else { continue };
            let figures: Vec<f64> = cells.iter().map(|cell| cell.metric(settings.metric)).collect();
            let pairs = cells.iter().filter_map(|cell| {
                let same = subject.iter().find(|subject| subject.seed == cell.seed)?;
                Some((same.metric(settings.metric), cell.metric(settings.metric)))
            });
            let (of_subject, of_this): (Vec<f64>, Vec<f64>) = pairs.unzip();
            let mean = |value: fn(&Cell) -> f64| {
                cells.iter().map(|cell| value(cell)).sum::<f64>() / cells.len() as f64
            };
            let f1: Vec<f64> = cells.iter().map(|cell| cell.macro_f1).collect();
            let published = match budget {
                Budget::Fraction(fraction) => {
                    preset.and_then(|preset| preset.published(method, fraction))
                }
                Budget::PerClass(_) => None,
            };
            rows.push(Row {
                method: method.clone(),
                budget,
                n_labeled: first.n_labeled,
                labels_per_class: per_class(first),
                learning_rate: Some(first.learning_rate),
                result: over_seeds(&figures)?,
                macro_f1: Some(over_seeds(&f1)?),
                subject_minus_this: (method != subject_name && !of_this.is_empty())
                    .then(|| paired(&of_subject, &of_this))
                    .transpose()?,
                published,
                seconds: Some(mean(|cell| cell.seconds)),
            });
        }
    }
    Ok(rows)
}

fn per_class(cell: &Cell) -> f64 {
    cell.n_labeled as f64 / cell.n_classes.max(1) as f64
}

/// Color is judged by balanced accuracy alone.
fn color_name(metric: Metric) -> String {
    match metric {
        Metric::BalancedAccuracy => COLOR.to_owned(),
        _ => format!("{COLOR} ({})", Metric::BalancedAccuracy.name()),
    }
}

/// The rows for people.
pub(crate) fn table(settings: &Settings, rows: &[Row]) -> Table {
    let has_interval = rows.iter().any(|row| row.result.interval.is_some());
    let has_published = rows.iter().any(|row| row.published.is_some());
    let has_baselines = rows.iter().any(|row| row.subject_minus_this.is_some());
    let over = format!("{}{MINUS}", settings.subject());
    let mut header = vec!["method", "labels", "learning rate", settings.metric.name()];
    header.extend(has_interval.then_some("95 %"));
    header.extend(has_baselines.then_some(over.as_str()));
    header.extend(has_published.then_some("published"));
    header.extend(["macro F1", "seeds", "seconds a run"]);
    let mut table = Table::new(&header);
    for row in rows {
        let mut cells = vec![
            row.method.clone(),
            row.budget.to_string(),
            row.learning_rate.map_or_else(String::new, |rate| rate.to_string()),
            spread_text(&row.result),
        ];
        cells.extend(has_interval.then(|| interval_text(row.result.interval)));
        let difference = row.subject_minus_this.as_ref().map_or_else(String::new, difference_text);
        cells.extend(has_baselines.then_some(difference));
        cells.extend(has_published.then(|| row.published.map_or_else(String::new, fraction)));
        cells.push(row.macro_f1.as_ref().map_or_else(String::new, spread_text));
        cells.push(row.result.n.to_string());
        cells.push(row.seconds.map_or_else(String::new, |seconds| format!("{seconds:.0}")));
        table.row(cells);
    }
    table
}

/// What a baseline can hold: every method's result, and how far the subject is above the others;
/// no number where a cell is without a result.
pub(crate) fn figures(settings: &Settings, rows: &[Row]) -> Vec<Figure> {
    let (metric, subject) = (settings.metric.name(), settings.subject());
    let n_seeds = settings.seeds as usize;
    let mut figures = Vec::new();
    let mut add = |name: String, found: Option<(f64, Option<Interval>)>| {
        let (value, interval) = found.unwrap_or((f64::NAN, None));
        figures.push(Figure { name, kind: Kind::Accuracy { n_seeds, interval }, value });
    };
    for &budget in &settings.budgets {
        for method in &settings.methods {
            let row = rows.iter().find(|row| row.budget == budget && row.method == *method);
            let result = row.map(|row| &row.result).filter(|result| result.n == n_seeds);
            let result = result.map(|result| (result.mean, result.interval));
            add(format!("{method}, {budget}: {metric}"), result);
            if method != subject {
                let difference = row.and_then(|row| row.subject_minus_this.as_ref());
                let difference = difference.filter(|difference| difference.n == n_seeds);
                let difference = difference.map(|found| (found.mean, found.interval));
                add(format!("{subject} over {method}, {budget}: {metric}"), difference);
            }
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::super::cells::Cell;
    use super::super::metric::Metric;
    use super::super::settings::{Budget, Settings};
    use super::{figures, rows, table};

    fn settings() -> Settings {
        Settings {
            version: String::new(),
            benchmark: None,
            preset: None,
            data: None,
            methods: vec!["s5cl".into(), "supcon".into()],
            budgets: vec![Budget::PerClass(5)],
            seeds: 2,
            learning_rates: vec![0.01],
            metric: Metric::Accuracy,
            set: Vec::new(),
        }
    }

    fn cell(method: &str, seed: u32, accuracy: f64) -> Cell {
        Cell {
            method: method.into(),
            budget: Budget::PerClass(5),
            seed,
            learning_rate: 0.01,
            dataset: "tissue".into(),
            split: format!("split{seed}"),
            n_classes: 9,
            n_labeled: 45,
            n_unlabeled: 100,
            n_test: 60,
            balanced_accuracy: 0.0,
            accuracy,
            macro_f1: 0.5,
            color_knn: 0.25,
            seconds: 3.0,
        }
    }

    fn cells() -> [Cell; 4] {
        // The order of the seeds differs between the methods.
        [
            cell("s5cl", 0, 0.75),
            cell("s5cl", 1, 0.5),
            cell("supcon", 1, 0.5),
            cell("supcon", 0, 0.25),
        ]
    }

    #[test]
    fn rows_pair_the_seeds_of_subject_and_baseline() {
        let settings = settings();
        let rows = rows(&settings, &cells(), None).unwrap();
        let methods: Vec<&str> = rows.iter().map(|row| row.method.as_str()).collect();
        assert_eq!(methods, ["color kNN (balanced accuracy)", "s5cl", "supcon"]);
        assert_eq!(rows[0].result.mean, 0.25);
        assert_eq!(rows[1].result.mean, 0.625);
        assert_eq!(rows[2].subject_minus_this.map(|paired| paired.mean), Some(0.25));
        assert!(rows[1].subject_minus_this.is_none());
        let text = table(&settings, &rows).text();
        assert!(text.contains("s5cl minus it") && text.contains("+0.250"), "{text}");
    }

    #[test]
    fn figures_are_results_and_differences() {
        let settings = settings();
        let figures = figures(&settings, &rows(&settings, &cells(), None).unwrap());
        let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "s5cl, 5 labels a class: accuracy",
                "supcon, 5 labels a class: accuracy",
                "s5cl over supcon, 5 labels a class: accuracy",
            ]
        );
        assert_eq!(figures[2].value, 0.25);
    }

    #[test]
    fn rows_and_figures_tell_of_a_seed_that_is_missing() {
        let settings = settings();
        let [_, one, other, _] = cells();
        let rows = rows(&settings, &[one, other], None).unwrap();
        assert_eq!(
            rows[2].subject_minus_this.map(|paired| (paired.n, paired.mean)),
            Some((1, 0.0))
        );
        assert!(figures(&settings, &rows).iter().all(|figure| figure.value.is_nan()));
        // Without any result of its subject, a benchmark still shows the others.
        let alone = super::rows(&settings, &[cell("supcon", 0, 0.5)], None).unwrap();
        assert_eq!(alone.len(), 2);
        assert!(alone[1].subject_minus_this.is_none());
    }
}
