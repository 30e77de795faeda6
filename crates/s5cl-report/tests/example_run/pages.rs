//! What a comparison and a benchmark show, made up.

use s5cl_report::{
    BenchmarkPage, BenchmarkTable, Curve, CurveLevel, CurveLine, CurvePoint, PairedResult,
};

/// The first run against each other one.
pub(crate) fn paired(n_runs: usize) -> Vec<PairedResult> {
    let pair = |b| PairedResult {
        a: 0,
        b,
        difference: 0.041,
        low: 0.012,
        high: 0.069,
        p_value: 0.0004,
        mcnemar_p: 0.0121,
    };
    (1..n_runs).map(pair).collect()
}

/// Three methods with three label budgets.
pub(crate) fn benchmark() -> BenchmarkPage {
    let methods = [
        ("Cross entropy", [0.52, 0.66, 0.79]),
        ("SupCon", [0.55, 0.70, 0.80]),
        ("S5CL", [0.68, 0.77, 0.83]),
    ];
    let line = |(name, values): &(&str, [f64; 3])| CurveLine {
        name: (*name).to_owned(),
        points: [5.0, 20.0, 100.0]
            .into_iter()
            .zip(values)
            .map(|(labels_per_class, &value)| CurvePoint {
                labels_per_class,
                value,
                interval: Some((value - 0.5 / labels_per_class.sqrt() * 0.2, value + 0.02)),
            })
            .collect(),
    };
    let texts = |row: &[&str]| row.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    BenchmarkPage {
        title: "Label efficiency on nct-crc-he".to_owned(),
        subtitle: "3 methods, 3 label budgets, 5 seeds".to_owned(),
        warnings: Vec::new(),
        facts: vec![
            (
                "Command".to_owned(),
                "cargo xtask benchmark label-efficiency --data nct-crc-he".to_owned(),
            ),
            (
                "Split".to_owned(),
                "sha256:6c1f0f3a9d7b54e2a8a3b1d0c4f7e9265b8d11f3e0a97c64d2b5f8e13a7c9d04"
                    .to_owned(),
            ),
        ],
        curve: Some(Curve {
            title: "Balanced accuracy by labels per class".to_owned(),
            note: "mean over 5 seeds with its 95 % interval".to_owned(),
            lines: methods.iter().map(line).collect(),
            levels: vec![CurveLevel { name: "Color alone (kNN)".to_owned(), value: 0.513 }],
        }),
        tables: vec![BenchmarkTable {
            title: "Results".to_owned(),
            note: "Balanced accuracy in percent; p against S5CL, paired by seed.".to_owned(),
            header: texts(&["Method", "5 labels", "20 labels", "100 labels", "p"]),
            rows: vec![
                texts(&[
                    "Cross entropy",
                    "52.0 (47.5 to 54.0)",
                    "66.0 (63.8 to 68.0)",
                    "79.0 (78.0 to 81.0)",
                    "0.002",
                ]),
                texts(&[
                    "SupCon",
                    "55.0 (50.5 to 57.0)",
                    "70.0 (67.8 to 72.0)",
                    "80.0 (79.0 to 82.0)",
                    "0.011",
                ]),
                texts(&[
                    "S5CL",
                    "68.0 (63.5 to 70.0)",
                    "77.0 (74.8 to 79.0)",
                    "83.0 (82.0 to 85.0)",
                    "\u{2013}",
                ]),
            ],
        }],
    }
}
