//! What the report shows of `evaluation.json`.

use std::fs;
use std::path::Path;

use s5cl_report::{ReportError, Run};
use serde_json::{Value, json};

use super::{LEAST_METRICS, example, minimal, page_of};

/// What makes `evaluation.json` contradict itself.
type Change = fn(&mut Value);

/// Changes `evaluation.json` of a run.
fn edit(run_dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = run_dir.join("evaluation.json");
    let mut value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
}

#[test]
fn evaluation_fills_its_sections() {
    let page = page_of(example(50).path());
    for expected in [
        "95 % interval 85.4 to 88.1\u{202f}%",
        "8\u{d7}8 pixels (kNN)",
        "Top-3 accuracy</dt><dd>97.1\u{202f}%",
        "Matthews correlation",
        "Balanced accuracy, 2 parent classes",
        "Mean cost of an image",
        "<th scope=\"col\">AUROC</th>",
        "id=\"reliability-title\"",
        "id=\"reliability-calibrated-title\"",
        "Confidence at temperature 1.70",
        "fitted on 900 validation images",
        "error 5.3\u{202f}% on the surest 80\u{202f}%",
        "id=\"conformal-title\"",
        "1,200 images by t-SNE",
        "id=\"atlas-data\"",
        "id=\"probes-title\"",
        "11.3 of 64",
        "Precision@10",
        "Without the query's group",
        "6 of 8 right",
        "aria-label=\"another class: smooth muscle\"",
        "taken for normal mucosa</span>",
        "<li>strong</li>",
        "id=\"pseudo-health-title\"",
        "id=\"pseudo-classes-title\"",
        "class=\"area c8\"",
    ] {
        // The template engine writes an apostrophe as a reference.
        let expected = expected.replace('\'', "&#x27;");
        assert!(
            page.contains(&expected) || page.contains(&expected.replace("&#x27;", "'")),
            "{expected}"
        );
    }
    assert_eq!(page.matches("<use ").count(), 1200);
    assert_eq!(page.matches("<li class=\"right\"").count(), 25);
    assert_eq!(page.matches("<li class=\"wrong\"").count(), 7);
    // One sheet for all thumbnails, and one of views.
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 2);
}

#[test]
fn report_without_an_evaluation_has_no_trace_of_it() {
    let run_dir = example(50);
    fs::remove_file(run_dir.path().join("evaluation.json")).unwrap();
    let page = page_of(run_dir.path());
    for absent in [">Confidence<", ">Embeddings<", "id=\"views\"", "<script", "data:image", "<use "]
    {
        assert!(!page.contains(absent), "{absent}");
    }
    assert!(page.contains("id=\"confusion-title\""));
}

#[test]
fn evaluation_may_lack_any_section() {
    let run_dir = example(10);
    let text = fs::read_to_string(run_dir.path().join("evaluation.json")).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    for key in whole.as_object().unwrap().keys().filter(|key| *key != "schema") {
        let mut without = whole.clone();
        without.as_object_mut().unwrap().remove(key);
        fs::write(run_dir.path().join("evaluation.json"), without.to_string()).unwrap();
        page_of(run_dir.path());
        let lone = json!({"schema": 1, key: whole[key]});
        fs::write(run_dir.path().join("evaluation.json"), lone.to_string()).unwrap();
        page_of(run_dir.path());
    }
    let run_dir = minimal(LEAST_METRICS, "");
    fs::write(run_dir.path().join("evaluation.json"), "{\"schema\": 1}").unwrap();
    assert!(!page_of(run_dir.path()).contains(">Embeddings<"));
}

#[test]
fn evaluation_of_another_schema_is_refused() {
    let run_dir = example(10);
    fs::write(run_dir.path().join("evaluation.json"), "{\"schema\": 7}").unwrap();
    let error = Run::read(run_dir.path()).unwrap_err();
    assert!(matches!(error, ReportError::Schema { found: 7, expected: 1, .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("evaluation.json") && !message.contains('\n'), "{message}");
    assert!(error.is_input());
}

#[test]
fn evaluation_that_contradicts_itself_is_refused() {
    let changes: [(&str, Change); 7] = [
        ("not the classes", |v| v["class_names"][0] = json!("other")),
        ("atlas.y has 1199", |v| {
            v["atlas"]["y"].as_array_mut().unwrap().pop();
        }),
        ("atlas.label names class 9 of 9", |v| v["atlas"]["label"][3] = json!(9)),
        ("atlas.part has 3", |v| v["atlas"]["part"][3] = json!(3)),
        ("mistakes names thumbnail 1200 of 1200", |v| v["mistakes"][0]["thumbnail"] = json!(1200)),
        ("thumbnails holds no image", |v| v["thumbnails"]["base64"] = json!("\");x")),
        ("views.mime is \"text/html\"", |v| v["views"]["mime"] = json!("text/html")),
    ];
    for (expected, change) in changes {
        let run_dir = example(10);
        edit(run_dir.path(), change);
        let message = Run::read(run_dir.path()).unwrap_err().to_string();
        assert!(message.contains(expected) && !message.contains('\n'), "{message}");
    }
}

#[test]
fn evaluation_with_numbers_that_are_not_finite_is_shown_without_them() {
    let run_dir = example(10);
    edit(run_dir.path(), |value| {
        value["atlas"]["x"][5] = Value::Null;
        value["coverage"]["aurc"] = Value::Null;
        value["coverage"]["points"][40]["error"] = Value::Null;
        value["representation"]["knn"] = Value::Null;
        value["retrieval"]["map"] = Value::Null;
        value["calibration"]["temperature"] = Value::Null;
        value["conformal"][0]["mean_size"] = Value::Null;
    });
    assert_eq!(page_of(run_dir.path()).matches("<use ").count(), 1199);
}
