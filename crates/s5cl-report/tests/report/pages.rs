//! The pages of several runs.

use std::fs;
use std::path::Path;

use s5cl_report::{
    BenchmarkPage, ReportError, Run, render_benchmark, render_comparison, write_benchmark,
    write_comparison,
};

use super::{LEAST_METRICS, check_markup, example, example_run, minimal};

/// Text that would be markup if it were not escaped.
const HOSTILE: &str = "<script>alert('1')</script>\"&";

fn run_with(run_dir: &Path, from: &str, to: &str) -> Run {
    let path = run_dir.join("metrics.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(&path, text.replace(from, to)).unwrap();
    fs::remove_file(run_dir.join("evaluation.json")).unwrap();
    Run::read(run_dir).unwrap()
}

#[test]
fn comparison_shows_runs_side_by_side() {
    let (first, second) = (example(400), example(300));
    let runs = [
        Run::read(first.path()).unwrap(),
        run_with(second.path(), "\"method\": \"s5cl\"", "\"method\": \"cross-entropy\""),
    ];
    let out = first.path().join("comparison.html");
    write_comparison(&runs, &example_run::paired(2), &out).unwrap();
    let page = fs::read_to_string(&out).unwrap();
    check_markup(&page);
    for expected in [
        "<h1>2 runs on nct-crc-he</h1>",
        "S5CL, 45 labels, seed 0",
        "Cross entropy, 45 labels, seed 0",
        "85.4 to 88.1\u{202f}%",
        "S5CL, 45 labels, seed 0 less Cross entropy, 45 labels, seed 0",
        "+4.1",
        "+1.2 to +6.9",
        "0.012",
        "id=\"validation-accuracy-title\"",
        "id=\"classification-title\"",
        "id=\"recall-title\"",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert_eq!(page.matches("class=\"line series c1\"").count(), 2);
    // The p-value below 0.001 is text.
    assert!(page.contains("&lt; 0.001"));
}

#[test]
fn comparison_tells_equal_runs_apart() {
    let run = Run::read(example(10).path()).unwrap();
    let page = render_comparison(&[run.clone(), run], &[]).unwrap();
    assert!(page.contains("seed 0 (1)") && page.contains("seed 0 (2)"));
}

#[test]
fn comparison_refuses_what_does_not_belong_together() {
    let (first, second) = (example(10), example(10));
    let run = Run::read(first.path()).unwrap();
    let other = run_with(second.path(), "\"stroma\"", "\"bone\"");
    let refused = |runs: &[Run], n_paired, expected: &str| {
        let error = render_comparison(runs, &example_run::paired(n_paired)).unwrap_err();
        assert!(matches!(error, ReportError::Unfit { .. }) && error.is_input());
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(&[], 0, "no run was given");
    refused(&[run.clone(), other], 0, "\"bone\" in place of \"stroma\"");
    let few = Run::read(minimal(LEAST_METRICS, "").path()).unwrap();
    refused(&[run.clone(), few], 0, "run 2 was not tested on the classes of run 1");
    refused(&[run], 2, "runs 0 and 1 of 1");
}

#[test]
fn comparison_of_runs_without_results_is_a_page() {
    let run = Run::read(minimal(LEAST_METRICS, "").path()).unwrap();
    let page = render_comparison(&[run], &[]).unwrap();
    check_markup(&page);
    assert!(!page.contains("Recall of the classes"));
}

#[test]
fn benchmark_shows_curve_and_tables() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("benchmark.html");
    write_benchmark(&example_run::benchmark(), &out).unwrap();
    let page = fs::read_to_string(&out).unwrap();
    check_markup(&page);
    for expected in [
        "<h1>Label efficiency on nct-crc-he</h1>",
        "id=\"curve-title\"",
        ">labeled images per class</text>",
        "S5CL with 5 labels per class: 68.0\u{202f}%",
        "Color alone (kNN) 51.3\u{202f}%",
        "<th scope=\"row\">SupCon</th>",
        "cargo xtask benchmark label-efficiency",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert_eq!(page.matches("class=\"interval series").count(), 9);
    assert_eq!(page.matches("class=\"mark c").count(), 9);
}

#[test]
fn benchmark_escapes_its_texts_and_refuses_uneven_rows() {
    let mut page = example_run::benchmark();
    page.title = HOSTILE.to_owned();
    page.tables[0].rows[0][0] = HOSTILE.to_owned();
    page.facts[0].1 = HOSTILE.to_owned();
    if let Some(curve) = &mut page.curve {
        curve.lines[0].name = HOSTILE.to_owned();
        curve.lines[1].points[0].value = f64::NAN;
        curve.levels[0].name = HOSTILE.to_owned();
    }
    let text = render_benchmark(&page).unwrap();
    check_markup(&text);
    assert!(!text.contains("<script>alert"));
    page.tables[0].rows[1].pop();
    let error = render_benchmark(&page).unwrap_err().to_string();
    assert!(error.contains("has 5 columns but a row of 4 cells"), "{error}");
    check_markup(&render_benchmark(&BenchmarkPage::default()).unwrap());
}
