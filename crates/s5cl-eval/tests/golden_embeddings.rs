//! Measures of embeddings against scikit-learn and pytorch-metric-learning; the values come from
//! `tests/golden/embeddings.py` of the workspace.

use s5cl_eval::{
    Distance, Features, KMeansConfig, LeftOut, LogisticRegression, Pca, RetrievalAtK,
    RetrievalResult, Stopping, TsneConfig, k_means, nearest_class_mean_predict, retrieval,
    retrieval_at_k, silhouette, t_sne, uniformity,
};
use serde::Deserialize;

/// Both minimizers end within their tolerances of the minimum.
const COEFFICIENTS: f64 = 1e-5;
/// Rows are scaled to unit length in f32.
const UNIT_ROWS: f64 = 1e-6;
/// Single measures of pytorch-metric-learning are means in f32.
const MEANS: f64 = 1e-6;
/// Centers of clusters are f32.
const INERTIA: f64 = 1e-5;
/// Squares and square roots of f64.
const COMPONENTS: f64 = 1e-9;
/// Coordinates are f32.
const COORDINATES: f64 = 1e-6;

#[derive(Deserialize)]
struct Golden {
    features: Vec<Vec<f32>>,
    labels: Vec<u32>,
    groups: Vec<u32>,
    query: Vec<Vec<f32>>,
    query_labels: Vec<u32>,
    logistic: Vec<Logistic>,
    logistic_two_classes: Logistic,
    silhouette: Silhouette,
    nearest_class_mean: Vec<u32>,
    k_means: Clusters,
    pca: Components,
    pca_of_few: Components,
    t_sne: Map,
    retrieval: Retrieval,
}

#[derive(Deserialize)]
struct Logistic {
    c: f64,
    coefficients: Vec<Vec<f64>>,
    intercepts: Vec<f64>,
}

#[derive(Deserialize)]
struct Silhouette {
    cosine: f64,
    euclidean: f64,
}

#[derive(Deserialize)]
struct Clusters {
    n_clusters: usize,
    inertia: f64,
}

#[derive(Deserialize)]
struct Components {
    components: Vec<Vec<f64>>,
    explained_variance: Vec<f64>,
    explained_variance_ratio: Vec<f64>,
    coordinates: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Map {
    perplexity: f64,
    kl_divergence: f64,
}

#[derive(Deserialize)]
struct Retrieval {
    k: usize,
    gallery: Measures,
    own: Measures,
    own_group: Measures,
}

#[derive(Deserialize)]
struct Measures {
    n_queries: usize,
    n_left_out: usize,
    precision_at_1: f64,
    precision_at_k: f64,
    recall_at_k: f64,
    hit_rate_at_k: f64,
    r_precision: f64,
    mean_average_precision_at_r: f64,
    mean_average_precision: f64,
    mean_reciprocal_rank: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/embeddings.json")).expect("the golden file")
}

fn table(rows: &[Vec<f32>]) -> Features {
    Features::new(rows.concat(), rows[0].len()).expect("whole rows")
}

fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() < tolerance, "{what}: {found} is not {expected}");
}

fn fit(features: &Features, labels: &[u32], l2: f64) -> LogisticRegression {
    let stopping = Stopping { max_iterations: 10_000, gradient_tolerance: 1e-9 };
    let n_classes = labels.iter().max().map_or(0, |last| *last as usize + 1);
    let model =
        LogisticRegression::fit(features, labels, n_classes, l2, stopping).expect("good input");
    assert!(model.has_converged(), "{}", model.gradient_norm());
    model
}

#[test]
fn logistic_regression_has_scikit_learns_coefficients() {
    let golden = golden();
    let features = table(&golden.features);
    for case in &golden.logistic {
        let model = fit(&features, &golden.labels, 1.0 / (case.c * features.n() as f64));
        for (class_idx, expected) in case.coefficients.iter().enumerate() {
            let (weights, intercept) = model.coefficients(class_idx as u32).unwrap();
            for (found, expected) in weights.iter().zip(expected) {
                assert_close(*found, *expected, COEFFICIENTS, &format!("C {}", case.c));
            }
            assert_close(intercept, case.intercepts[class_idx], COEFFICIENTS, "intercept");
        }
    }
}

#[test]
fn logistic_regression_of_two_classes_has_half_of_scikit_learns_coefficients() {
    let golden = golden();
    let (rows, labels): (Vec<Vec<f32>>, Vec<u32>) =
        golden.features.into_iter().zip(golden.labels).filter(|(_, label)| *label < 2).unzip();
    let case = golden.logistic_two_classes;
    let model = fit(&table(&rows), &labels, 2.0 / (case.c * rows.len() as f64));
    let (weights, intercept) = model.coefficients(1).unwrap();
    for (found, expected) in weights.iter().zip(&case.coefficients[0]) {
        assert_close(2.0 * found, *expected, COEFFICIENTS, "coefficient");
    }
    assert_close(2.0 * intercept, case.intercepts[0], COEFFICIENTS, "intercept");
}

#[test]
fn silhouette_is_scikit_learns() {
    let golden = golden();
    let features = table(&golden.features);
    for (distance, expected) in [
        (Distance::Cosine, golden.silhouette.cosine),
        (Distance::Euclidean, golden.silhouette.euclidean),
    ] {
        let found = silhouette(&features, &golden.labels, distance).unwrap();
        assert_close(found, expected, UNIT_ROWS, "silhouette");
    }
}

#[test]
fn nearest_class_mean_is_scikit_learns() {
    let golden = golden();
    let (train, query) = (table(&golden.features), table(&golden.query));
    let found =
        nearest_class_mean_predict(&train, &golden.labels, 4, &query, Distance::Euclidean).unwrap();
    assert_eq!(found, golden.nearest_class_mean);
}

#[test]
fn k_means_is_as_tight_as_scikit_learns() {
    let golden = golden();
    let config = KMeansConfig {
        n_clusters: golden.k_means.n_clusters,
        n_restarts: 2000,
        max_iterations: 300,
        seed: 0,
    };
    let found = k_means(&table(&golden.features), config).unwrap();
    let expected = golden.k_means.inertia;
    assert_close(found.inertia / expected, 1.0, INERTIA, "inertia");
}

#[test]
fn pca_is_scikit_learns() {
    let golden = golden();
    for (rows, expected) in
        [(&golden.features[..], &golden.pca), (&golden.features[..4], &golden.pca_of_few)]
    {
        let features = table(rows);
        let pca = Pca::fit(&features, expected.components.len()).unwrap();
        for (found, expected) in pca.components().iter().zip(expected.components.concat()) {
            assert_close(*found, expected, COMPONENTS, "component");
        }
        for (found, expected) in pca.explained_variance().iter().zip(&expected.explained_variance) {
            assert_close(*found, *expected, COMPONENTS, "variance");
        }
        let ratios = pca.explained_variance_ratio();
        for (found, expected) in ratios.iter().zip(&expected.explained_variance_ratio) {
            assert_close(*found, *expected, COMPONENTS, "ratio");
        }
        let coordinates = pca.transform(&features).unwrap();
        for (found, expected) in coordinates.as_slice().iter().zip(expected.coordinates.concat()) {
            assert_close(f64::from(*found), expected, COORDINATES, "coordinate");
        }
    }
}

#[test]
fn t_sne_ends_as_low_as_scikit_learns() {
    /// Where a descent ends depends on roundings; one that is right is not far above.
    const ABOVE: f64 = 1.1;
    let golden = golden();
    let features = table(&golden.features);
    let config = TsneConfig {
        perplexity: golden.t_sne.perplexity,
        ..TsneConfig::scikit_learn(features.n(), 0)
    };
    let found = t_sne(&features, config).unwrap().kl_divergence;
    let expected = golden.t_sne.kl_divergence;
    assert!(found < ABOVE * expected, "{found} against {expected}");
    assert!(found > 0.8 * expected, "{found} against {expected}");
}

#[test]
fn retrieval_is_pytorch_metric_learnings() {
    let golden = golden();
    let (features, query) = (table(&golden.features), table(&golden.query));
    let of = |left_out| (&features, &golden.labels[..], left_out);
    let groups = LeftOut::OwnGroup { query: &golden.groups, gallery: &golden.groups };
    for (name, (query, query_labels, left_out), expected) in [
        (
            "gallery",
            (&query, &golden.query_labels[..], LeftOut::Nothing),
            &golden.retrieval.gallery,
        ),
        ("own", of(LeftOut::Own), &golden.retrieval.own),
        ("own group", of(groups), &golden.retrieval.own_group),
    ] {
        let k = golden.retrieval.k;
        let found = retrieval(query, query_labels, &features, &golden.labels, k, left_out).unwrap();
        assert_ranking(&found, expected, name);
        let fused =
            retrieval_at_k(query, query_labels, &features, &golden.labels, k, left_out).unwrap();
        assert_at_k(&found.at_k, expected, name);
        assert_at_k(&fused, expected, name);
    }
}

fn assert_ranking(found: &RetrievalResult, expected: &Measures, name: &str) {
    for (found, expected) in [
        (found.r_precision, expected.r_precision),
        (found.map_at_r, expected.mean_average_precision_at_r),
        (found.map, expected.mean_average_precision),
        (found.mrr, expected.mean_reciprocal_rank),
    ] {
        assert_close(found, expected, MEANS, name);
    }
}

fn assert_at_k(found: &RetrievalAtK, expected: &Measures, name: &str) {
    assert_eq!(
        (found.n_queries, found.n_left_out),
        (expected.n_queries, expected.n_left_out),
        "{name}"
    );
    for (found, expected) in [
        (found.precision_at_1, expected.precision_at_1),
        (found.precision_at_k, expected.precision_at_k),
        (found.recall_at_k, expected.recall_at_k),
        (found.hit_rate_at_k, expected.hit_rate_at_k),
    ] {
        assert_close(found, expected, MEANS, name);
    }
}

#[test]
fn measures_are_the_same_on_any_number_of_threads() {
    let golden = golden();
    let (features, labels) = (table(&golden.features), &golden.labels);
    let with_threads = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| {
            let ranked = retrieval(&features, labels, &features, labels, 3, LeftOut::Own).unwrap();
            let between = silhouette(&features, labels, Distance::Euclidean).unwrap();
            (ranked, between, uniformity(&features).unwrap())
        })
    };
    assert_eq!(with_threads(1), with_threads(3));
}
