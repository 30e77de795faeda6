//! `benchmark kernels`: what it measures without Python, and which Pythons it refuses.

use std::process::Command;

use crate::support::Place;

const QUICK: [&str; 6] = ["benchmark", "kernels", "--only", "supcon-320", "--runs", "1"];

#[test]
fn kernels_measure_ours_and_plain_candle_without_python() {
    let place = Place::new();
    let ran = place.run(&[&QUICK[..], &["--json"]].concat()).succeeded();
    assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
    let json = ran.json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["suite"], "kernels");
    assert_eq!(json["runs"], 1);
    assert!(json["machine"].is_string() && json["versions"]["candle"].is_string());
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["work"], "supcon-320");
    let (ours, plain) = (&rows[0]["times"]["ours"], &rows[0]["times"]["plain_candle"]);
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert!(number(&ours["min"]) > 0.0 && number(&ours["min"]) <= number(&ours["max"]));
    // The same two numbers go into both, so that only the last digit can differ.
    let quotient = number(&plain["median"]) / number(&ours["median"]);
    assert!((number(&plain["ratio"]) / quotient - 1.0).abs() < 1e-9);
    assert!(rows[0]["peer"].is_null() && rows[0]["ratio"].is_null());
    if cfg!(target_os = "linux") {
        assert!(number(&rows[0]["peak_memory_mib"]["ours"]) > 0.0);
    }
}

#[test]
fn kernels_table_has_a_line_a_row() {
    let ran = Place::new().run(&QUICK).succeeded();
    let lines: Vec<&str> = ran.out.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2, "{}", ran.out);
    assert!(lines[0].contains("ours ms") && lines[0].contains("plain candle ms"));
    assert!(lines[1].starts_with("supcon-320 "));
}

#[test]
fn suites_take_quick_alone() {
    let place = Place::new();
    let ran = place.run(&["benchmark", "data", "--quick", "--json"]).succeeded();
    let rows = ran.json()["rows"].as_array().unwrap().clone();
    assert_eq!((rows.len(), &rows[0]["work"]), (1, &"views-s5cl-32".into()));
    let cells = ["benchmark", "label-efficiency", "--quick"];
    let ran = place.run(&[&cells[..], &["--plan", "--json"]].concat()).succeeded();
    let rows = ran.json()["rows"].as_array().unwrap().clone();
    let methods: Vec<&str> = rows.iter().filter_map(|row| row["method"].as_str()).collect();
    assert_eq!(methods, ["cross-entropy", "s5cl"]);
    for (suite, flag) in [("kernels", "--only"), ("train-speed", "--runs")] {
        let ran = place.run(&["benchmark", suite, "--quick", flag, "3"]);
        assert!(ran.code == Some(2) && ran.err.contains("cannot be used with"), "{}", ran.err);
    }
    let ran = place.run(&[&cells[..], &["--labels", "5"]].concat());
    assert!(ran.code == Some(2) && ran.err.contains("cannot be used with"), "{}", ran.err);
}

#[test]
fn kernels_refuse_a_pattern_that_no_row_has() {
    let ran = Place::new().run(&["benchmark", "kernels", "--only", "transformer"]);
    ran.refused(2, &["transformer", "supcon-320, "]);
}

#[test]
fn kernels_refuse_a_python_that_is_none() {
    let place = Place::new();
    let absent = [&QUICK[..], &["--vs-pytorch", "no-such-python"]].concat();
    place.run(&absent).refused(2, &["--vs-pytorch", "no-such-python"]);
    if cfg!(unix) {
        let other = [&QUICK[..], &["--vs-pytorch", "true"]].concat();
        place.run(&other).refused(2, &["true does not run the peers"]);
    }
}

#[cfg(unix)]
#[test]
fn kernels_say_what_a_python_lacks_and_how_to_get_it() {
    use std::os::unix::fs::PermissionsExt;

    if !Command::new("python3").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        println!("skipped: there is no python3");
        return;
    }
    let place = Place::new();
    let bare = place.path("bare-python");
    // Without the folders of installed packages, whatever is in them.
    std::fs::write(&bare, "#!/bin/sh\nexec python3 -I -S \"$@\"\n").unwrap();
    std::fs::set_permissions(&bare, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = place.run(&[&QUICK[..], &["--vs-pytorch", bare.to_str().unwrap()]].concat());
    let install = "-m pip install torch torchvision timm pytorch-metric-learning";
    ran.refused(2, &["has no torch, torchvision, timm, pytorch-metric-learning;", install]);
}

/// The processor beside itself: what is measured on a GPU, but for the GPU.
#[test]
fn benchmark_gpu_compares_before_it_measures() {
    let place = Place::new();
    let arguments = ["benchmark", "gpu", "--device", "cpu", "--only", "checks,s5cl-loss"];
    let more = ["--runs", "1", "--json", "--out", "gpu.json"];
    let report = place.run(&[&arguments[..], &more].concat()).succeeded().json();
    assert_eq!(report, crate::support::read_json(&place.path("gpu.json")));
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() > 10, "{checks:?}");
    assert!(checks.iter().all(|check| check["error"] == 0.0), "{checks:?}");
    assert_eq!(report["rows"][0]["work"], "s5cl-loss");
    assert!(report["rows"][0]["ours"].as_f64().unwrap() > 0.0);

    let ran = place.run(&["benchmark", "gpu", "--device", "cpu", "--only", "nothing"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    let ran = place.run(&["benchmark", "gpu", "--device", "cpu", "--vs-pytorch", "no-python"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
}
