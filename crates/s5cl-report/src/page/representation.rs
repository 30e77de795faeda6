//! What the embeddings can do without the classifier.

use serde::Serialize;

use super::Fact;
use crate::chart::{Bar, bars};
use crate::evaluation::{Representation as Measured, Retrieval};
use crate::format::{count, decimal, percent};
use crate::run::Run;

/// Where a measure of retrieval comes from.
type Measure = fn(&Retrieval) -> Option<f64>;

#[derive(Serialize)]
pub(super) struct Representation {
    /// Classifiers on frozen embeddings beside the model's own.
    probes_svg: Option<String>,
    facts: Vec<Fact>,
    retrieval: Vec<RetrievalRow>,
    n_queries: Option<String>,
    has_groups: bool,
}

/// One measure of retrieval, with all images and without the query's group.
#[derive(Serialize)]
struct RetrievalRow {
    name: String,
    value: String,
    without_own_group: String,
}

impl Representation {
    /// `None` where nothing of it was measured.
    pub(super) fn new(run: &Run) -> Option<Self> {
        let evaluation = run.evaluation.as_ref()?;
        let (measured, retrieval) = (&evaluation.representation, &evaluation.retrieval);
        if measured.is_none() && retrieval.is_none() {
            return None;
        }
        let retrieval = retrieval.as_ref();
        Some(Self {
            probes_svg: measured.as_ref().map(|measured| probes(run, measured)),
            facts: measured.as_ref().map(facts).unwrap_or_default(),
            retrieval: retrieval.map(rows).unwrap_or_default(),
            n_queries: retrieval.and_then(|retrieval| retrieval.n_queries).map(count),
            has_groups: retrieval.is_some_and(|retrieval| retrieval.without_own_group.is_some()),
        })
    }
}

fn probes(run: &Run, measured: &Measured) -> String {
    let bar = |label: &str, value, is_main| Bar {
        label: label.to_owned(),
        value,
        is_main,
        interval: None,
    };
    let rows = [
        bar("This model", run.metrics.test.balanced_accuracy, true),
        bar("Linear probe", measured.linear_probe, false),
        bar("Nearest neighbors", measured.knn, false),
        bar("Nearest class mean", measured.nearest_class_mean, false),
    ];
    bars("probes", "Balanced accuracy of classifiers on the embeddings", &rows, 1.0)
}

fn facts(measured: &Measured) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(rank) = measured.effective_rank {
        let of = measured.dim.map(|dim| format!(" of {}", count(dim))).unwrap_or_default();
        facts.push(Fact::new("Effective rank", format!("{}{of}", decimal(Some(rank), 1))));
    }
    let values = [
        ("Alignment (0 is best)", measured.alignment),
        ("Uniformity (lower is more even)", measured.uniformity),
        ("Silhouette", measured.silhouette),
        ("NMI of k-means", measured.nmi),
        ("AMI of k-means", measured.ami),
    ];
    let values =
        values.into_iter().filter_map(|(name, v)| Some(Fact::new(name, decimal(Some(v?), 3))));
    facts.extend(values);
    facts
}

fn rows(retrieval: &Retrieval) -> Vec<RetrievalRow> {
    let k = retrieval.k.map_or_else(|| "k".to_owned(), count);
    let measures: [(String, Measure); 7] = [
        ("Precision@1".to_owned(), |r| r.precision_at_1),
        (format!("Precision@{k}"), |r| r.precision_at_k),
        (format!("Recall@{k}"), |r| r.recall_at_k),
        ("R-precision".to_owned(), |r| r.r_precision),
        ("MAP@R".to_owned(), |r| r.map_at_r),
        ("Mean average precision".to_owned(), |r| r.map),
        ("Mean reciprocal rank".to_owned(), |r| r.mrr),
    ];
    let without = retrieval.without_own_group.as_deref();
    let row = |(name, of): (String, Measure)| RetrievalRow {
        name,
        value: percent(of(retrieval)),
        without_own_group: percent(without.and_then(of)),
    };
    measures.into_iter().map(row).collect()
}
