//! The report of one run.

use std::fs;

use s5cl_report::{ReportError, Run, write_report};

use super::{LEAST_METRICS, check_markup, example, minimal, page_of};

/// A report is mailed around: 4,000 steps and 1,200 thumbnails must stay below this.
const MOST_BYTES: usize = 5_000_000;

#[test]
fn report_has_every_section() {
    let run_dir = example(4000);
    let path = write_report(run_dir.path()).unwrap();
    assert_eq!(path, run_dir.path().join("report.html"));
    let page = fs::read_to_string(path).unwrap();
    check_markup(&page);
    assert!(page.len() < MOST_BYTES, "{} bytes", page.len());
    for expected in [
        "<h1>S5CL on nct-crc-he</h1>",
        "seed 0 ",
        "<strong>86.8\u{202f}%</strong> <span class=\"interval\">95 % interval",
        "Color alone (kNN)",
        "Learned from 45 labeled and 99,955 unlabeled images; tested on 7,180 images.",
        "3 images occur in both",
        "id=\"confusion-title\"",
        "smooth muscle taken for stroma: 107 of 592 (18.1\u{202f}%)",
        "<th scope=\"row\">lymphocytes</th>",
        "id=\"loss-total-title\"",
        "id=\"loss-supervised-title\"",
        "id=\"loss-unsupervised-title\"",
        "id=\"loss-classification-title\"",
        "above its floor",
        "From step 800 on",
        ">pseudo-labels</text>",
        "id=\"validation-accuracy-title\"",
        "id=\"validation-loss-title\"",
        "Waiting for data",
        "32\u{202f}min 12\u{202f}s",
        "sha256:6c1f0f3a",
        "random_resized_crop",
    ] {
        assert!(page.contains(expected), "{expected} is missing");
    }
}

#[test]
fn report_refers_to_nothing_outside_itself() {
    let page = page_of(example(50).path());
    for outside in ["http:", "https:", "@import", "<script src", "fetch(", "import("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for (opening, inside) in [
        ("href=\"", &["data:,", "#mark-"][..]),
        ("src=\"", &["data:image/jpeg;base64,"]),
        (
            "url(",
            &["\"data:image/jpeg;base64,", "#loss-", "#validation-", "#coverage-", "#pseudo-"],
        ),
    ] {
        assert!(page.contains(opening), "{opening}");
        for rest in page.split(opening).skip(1) {
            assert!(inside.iter().any(|start| rest.starts_with(start)), "{opening}{}", &rest[..40]);
        }
    }
    assert!(page.contains("content=\"default-src 'none'; img-src data:;"));
}

#[test]
fn report_headings_are_in_order() {
    let page = page_of(example(50).path());
    let levels: Vec<u32> = page
        .match_indices("<h")
        .filter_map(|(index, _)| page[index + 2..].chars().next()?.to_digit(10))
        .collect();
    assert_eq!(levels[0], 1);
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1 && pair[1] > 1), "{levels:?}");
}

#[test]
fn report_replaces_an_older_one_and_leaves_nothing_beside_it() {
    let run_dir = example(10);
    let path = write_report(run_dir.path()).unwrap();
    fs::write(&path, "older").unwrap();
    write_report(run_dir.path()).unwrap();
    assert!(fs::read_to_string(&path).unwrap().ends_with("</html>\n"));
    assert_eq!(fs::read_dir(run_dir.path()).unwrap().count(), 6);
}

#[test]
fn report_escapes_what_the_user_wrote() {
    let run_dir = example(10);
    let hostile = "</script><script>alert(1)</script><!--<img src=x onerror='alert(1)'>&\\\"";
    for file in ["metrics.json", "split.json", "evaluation.json"] {
        let path = run_dir.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        let text = text
            .replace("nct-crc-he", hostile)
            .replace("stroma", hostile)
            .replace("3 images occur", hostile)
            .replace("sha256", hostile)
            .replace("color_knn", hostile)
            .replace("CRC-VAL-HE-7K", hostile)
            .replace("t-SNE", hostile)
            .replace("900 validation images", hostile)
            .replace("original", hostile)
            .replace("data_wait", hostile);
        fs::write(path, text).unwrap();
    }
    fs::write(run_dir.path().join("config.toml"), "# </pre><script>alert(1)</script>\n").unwrap();
    let page = page_of(run_dir.path());
    assert!(!page.contains("<img src=x") && !page.contains("<!--"));
    assert!(!page.contains("<script>alert") && page.matches("<script").count() == 2);
    assert!(page.contains("&lt;img src=x") && page.contains("\\u003cimg src=x"));
}

#[test]
fn report_names_the_file_that_is_absent() {
    for file in ["config.toml", "metrics.jsonl", "metrics.json"] {
        let run_dir = example(10);
        let path = run_dir.path().join(file);
        fs::remove_file(&path).unwrap();
        let error = write_report(run_dir.path()).unwrap_err();
        assert!(matches!(&error, ReportError::Read { path: named, .. } if *named == path));
        let message = error.to_string();
        assert!(message.contains(file) && !message.contains('\n'), "{message}");
        assert!(!run_dir.path().join("report.html").exists());
    }
    let run_dir = example(10);
    fs::remove_file(run_dir.path().join("split.json")).unwrap();
    assert!(page_of(run_dir.path()).contains("99,955"));
}

#[test]
fn report_names_the_file_that_is_malformed() {
    for (file, text) in [
        ("config.toml", "a = = 1\n"),
        ("metrics.jsonl", "{\"step\": 1\n{\"step\":1,\"kind\":\"train\"}\n"),
        ("metrics.json", "{\"schema\": 1, \"method\": 7}"),
        ("metrics.json", "[]"),
        ("split.json", "{\"counts\": []}"),
    ] {
        let run_dir = example(10);
        fs::write(run_dir.path().join(file), text).unwrap();
        let message = write_report(run_dir.path()).unwrap_err().to_string();
        assert!(message.contains(file) && !message.contains('\n'), "{message}");
    }
}

#[test]
fn report_refuses_another_schema() {
    let run_dir = minimal("{\"schema\": 2}", "");
    let error = Run::read(run_dir.path()).unwrap_err();
    assert!(matches!(error, ReportError::Schema { found: 2, expected: 1, .. }), "{error}");
}

#[test]
fn report_refuses_a_confusion_matrix_that_does_not_fit() {
    for test in [
        r#"{"confusion": [[1, 2], [3]]}"#,
        r#"{"confusion": [[1, 2], [3, 4]], "per_class": [{"name": "a"}]}"#,
    ] {
        let metrics = LEAST_METRICS.replacen("\"seed\"", &format!("\"test\": {test}, \"seed\""), 1);
        let error = Run::read(minimal(&metrics, "").path()).unwrap_err();
        assert!(matches!(error, ReportError::Inconsistent { .. }), "{error}");
    }
}

#[test]
fn report_tolerates_a_cut_last_line_and_says_so() {
    let run_dir = example(10);
    let path = run_dir.path().join("metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 40]).unwrap();
    assert!(page_of(run_dir.path()).contains("The last line of metrics.jsonl is cut"));
}

#[test]
fn report_of_a_method_without_unlabeled_terms_leaves_them_out() {
    let events: String = (0..30)
        .map(|step| {
            let loss = 2.0 / f64::from(step + 1);
            format!(
                "{{\"step\":{step},\"kind\":\"train\",\"total\":{loss},\"classification\":{loss}}}\n"
            )
        })
        .collect();
    let page = page_of(minimal(LEAST_METRICS, &events).path());
    assert!(page.contains("loss-classification"));
    assert!(
        !page.contains("loss-total")
            && !page.contains("loss-supervised")
            && !page.contains("loss-unsupervised")
    );
    assert!(!page.contains("above its floor") && !page.contains("pseudo-labels"));
}

#[test]
fn report_of_one_step_shows_it_as_a_dot() {
    let events = "{\"step\":0,\"kind\":\"train\",\"total\":2.5,\"classification\":2.5}\n";
    let page = page_of(minimal(LEAST_METRICS, events).path());
    assert!(page.contains("ends at 2.500") && page.contains("h0\"") && page.contains("<circle"));
    assert_eq!(page_of(example(1).path()).matches("<figure").count(), 13);
}

#[test]
fn report_without_events_says_so() {
    let page = page_of(minimal(LEAST_METRICS, "").path());
    for expected in
        ["No training step was logged", "not validated", "no result by class", "not tested"]
    {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn report_survives_losses_that_are_not_finite() {
    let events = "{\"step\":0,\"kind\":\"train\",\"total\":2.5,\"supervised\":1e308}\n\
         {\"step\":1,\"kind\":\"train\",\"total\":null,\"supervised\":-1e308}\n\
         {\"step\":2,\"kind\":\"train\",\"total\":1.5}\n\
         {\"step\":3,\"kind\":\"validation\",\"accuracy\":null,\"loss\":null}\n";
    let metrics = LEAST_METRICS.replacen(
        "\"seed\"",
        "\"test\": {\"accuracy\": null}, \"baselines\": {\"chance\": null}, \
         \"timing\": {\"loss\": null}, \"train\": {\"seconds\": null}, \"seed\"",
        1,
    );
    let page = page_of(minimal(&metrics, events).path());
    assert!(page.contains("never finite") && page.contains("ends at"));
}

#[test]
fn report_counts_validation_labels_that_picked_the_weights() {
    let run_dir = example(10);
    fs::write(run_dir.path().join("config.toml"), "[evaluation]\nselect = \"best\"\n").unwrap();
    let page = page_of(run_dir.path());
    assert!(page.contains("weights picked by 900 labeled validation images"));
    assert!(page.contains("the validation labels count as labels of this run"));
}
