//! `benchmark label-efficiency`: its table, its plan, and how it goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Place, TINY, events, read_json};

/// Two methods, two rates, two seeds.
const BENCHMARK: [&str; 10] = [
    "benchmark",
    "label-efficiency",
    "--methods",
    "cross-entropy,s5cl",
    "--seeds",
    "2",
    "--learning-rates",
    "1e-3,1e-2",
    "--set",
    "training.steps=3",
];

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&BENCHMARK[..], &TINY, more].concat()
}

/// The rows without what depends on the clock.
fn rows(results: &Value) -> Vec<Value> {
    let mut rows = results["rows"].as_array().unwrap().clone();
    for row in &mut rows {
        row.as_object_mut().unwrap().remove("seconds");
    }
    rows
}

#[test]
fn benchmark_fills_its_table_and_shows_it_again() {
    let place = Place::new();
    let run = arguments(&["--out", "table", "--json"]);
    let ran = place.run(&run).succeeded();
    let results = ran.json();
    assert_eq!(results["rows"].as_array().unwrap().len(), 4);
    assert_eq!(results, read_json(&place.path("table/results.json")));
    let markdown = std::fs::read_to_string(place.path("table/results.md")).unwrap();
    assert!(markdown.contains("| cross-entropy | 5 labels a class |"), "{markdown}");
    assert!(markdown.contains("s5cl minus it") && markdown.contains("color kNN"), "{markdown}");
    let page = std::fs::read_to_string(place.path("table/report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("cross-entropy"));
    assert!(page.contains("<h1>Label efficiency on synthetic-tissue</h1>"));
    assert!(page.contains("chance 11.1\u{202f}%") && page.contains("Runs and differences"));
    let summary = results["summary"].as_array().unwrap();
    let difference = summary.iter().find_map(|row| row["subject_minus_this"].as_object()).unwrap();
    assert!(difference["interval"].is_array() && difference["p_value"].is_number());
    let row = |method: &str, seed: u64| {
        let rows = results["rows"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["method"] == method && row["seed"] == seed).unwrap()
    };
    for seed in 0..2 {
        // Methods are compared on the same images.
        assert_eq!(row("s5cl", seed)["split"], row("cross-entropy", seed)["split"]);
        let run = format!(
            "cross-entropy-5-seed{seed}-rate{}",
            row("cross-entropy", seed)["learning_rate"]
        );
        let split = read_json(&place.path("table").join(run).join("split.json"));
        assert_eq!(row("s5cl", seed)["split"], split["hash"]);
    }
    assert_ne!(row("s5cl", 0)["split"], row("s5cl", 1)["split"]);

    let again = place.run(&run).succeeded();
    assert!(again.err.contains("table is finished"), "{}", again.err);
    assert_eq!(again.json(), results);
    let other = arguments(&["--out", "table", "--set", "loss.margin=0.5"]);
    place.run(&other).refused(2, &["table/results.json", "other settings", "--out"]);
}

#[test]
fn benchmark_that_was_killed_goes_on_where_it_was() {
    let place = Place::new();
    let run = arguments(&["--out", "killed", "--json"]);
    let mut child =
        place.command(&run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let first = place.path("killed/cross-entropy-5-seed0-rate0.001/model.safetensors");
    let started = Instant::now();
    while !first.is_file() && started.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.is_file() && !place.path("killed/results.json").exists());
    let saved = first.with_file_name("checkpoints/step-00000003/state.safetensors");
    let when = || std::fs::metadata(&saved).unwrap().modified().unwrap();
    let written = when();

    let killed = place.run(&run).succeeded().json();
    let whole = place.run(&arguments(&["--out", "whole", "--json"])).succeeded().json();
    assert_eq!(rows(&killed), rows(&whole));
    // The run that was there was not trained again.
    assert_eq!(when(), written);
}

/// How often each kind of event is in a run's `metrics.jsonl`.
fn kinds(run: &Path) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for event in events(run) {
        *kinds.entry(event["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    kinds
}

fn event_files(run: &Path) -> usize {
    let names = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains("tfevents")).count()
}

#[test]
fn benchmark_can_get_more_seeds_and_leaves_what_is_finished_alone() {
    let place = Place::new();
    let rates = ["--learning-rates", "1e-3,1e-2", "--set", "training.steps=3"];
    let benchmark = |more: &[&str]| {
        let start = ["benchmark", "label-efficiency", "--out", "table", "--json"];
        place.run(&[&start[..], &rates, &TINY, more].concat())
    };
    let one = benchmark(&["--methods", "cross-entropy", "--seeds", "1"]).succeeded().json();
    let first = one["rows"][0].clone();
    let run = place.path(&format!("table/cross-entropy-5-seed0-rate{}", first["learning_rate"]));
    let metrics = read_json(&run.join("metrics.json"));
    // What was trained while the rate was chosen is not trained again.
    let total: f64 =
        metrics["timing"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
    assert!((total - 1.0).abs() < 1e-6, "{metrics}");
    let (before, n_files) = (kinds(&run), event_files(&run));
    assert_eq!((before["train"], before["test"], n_files), (3, 1, 1));

    // As if it had been killed between the figures and the report.
    std::fs::remove_file(run.join("report.html")).unwrap();
    let methods = ["--methods", "cross-entropy,supcon"];
    let two = benchmark(&[&methods[..], &["--seeds", "2"]].concat()).succeeded();
    assert!(two.err.contains("table goes on with more cells"), "{}", two.err);
    let two = two.json();
    assert_eq!((two["rows"].as_array().unwrap().len(), &two["rows"][0]), (4, &first));
    assert!(run.join("report.html").is_file());
    assert_eq!((kinds(&run), event_files(&run)), (before, n_files));
    benchmark(&[&methods[..], &["--seeds", "1"]].concat()).refused(2, &["not asked for", "--out"]);

    // A damaged file is no failure of the program.
    let mut metrics = metrics;
    metrics["test"].as_object_mut().unwrap().remove("macro_f1");
    std::fs::write(run.join("metrics.json"), metrics.to_string()).unwrap();
    std::fs::remove_file(place.path("table/results.json")).unwrap();
    let damaged = benchmark(&["--methods", "cross-entropy", "--seeds", "1"]);
    damaged.refused(2, &["metrics.json has no test.macro_f1"]);
}

#[test]
fn benchmark_goes_on_past_a_cell_that_diverges() {
    let place = Place::new();
    let run = ["--methods", "cross-entropy,s5cl", "--seeds", "1", "--out", "table", "--json"];
    let rates = ["--learning-rates", "1e-2", "--set", "training.steps=3"];
    // A temperature so low that the contrastive loss, and no other, is beyond f32.
    let cold = [
        "--set",
        "loss.temperature_labeled=1e-45",
        "--set",
        "loss.temperature_unlabeled=2e-45",
        "--set",
        "loss.temperature_pseudo=2e-45",
    ];
    let benchmark = ["benchmark", "label-efficiency"];
    let ran = place.run(&[&benchmark[..], &run, &rates, &cold, &TINY].concat()).succeeded();
    let results = ran.json();
    assert_eq!(results["rows"].as_array().unwrap().len(), 1);
    assert_eq!(results["diverged"][0]["method"], "s5cl");
    let page = std::fs::read_to_string(place.path("table/report.html")).unwrap();
    assert!(page.contains("s5cl, 5 labels a class, seed 0 diverged with learning rate 0.01"));
}

#[test]
fn budgets_that_no_split_can_give_are_refused_before_the_first_run() {
    let place = Place::new();
    let run = arguments(&["--labels", "5,5000", "--out", "table"]);
    place.run(&run).refused(2, &["5000"]);
    assert!(!place.path("table").exists());
}

#[test]
fn plan_counts_images_steps_and_hours_and_writes_nothing() {
    let place = Place::new();
    let plan = arguments(&["--out", "table", "--plan", "--json"]);
    let ran = place.run(&plan).succeeded();
    assert!(ran.out.contains("hours (estimated)"), "{}", ran.out);
    let rows = ran.json()["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["runs"], &rows[0]["steps"]), (&3.into(), &3.into()));
    assert_eq!(rows[0]["n_labeled"], 45);
    assert!(rows[0]["hours"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0);
}

#[test]
fn presets_plan_without_their_images_and_say_where_to_get_them() {
    let place = Place::new();
    // A small image makes the timed step short.
    let preset = ["benchmark", "label-efficiency", "--preset", "nct-crc-he"];
    let small = ["--set", "data.image_size=32"];
    let ran = place.run(&[&preset[..], &small, &["--plan", "--json"]].concat()).succeeded();
    assert!(ran.out.contains("0.05 % of the labels"), "{}", ran.out);
    assert!(ran.err.contains("warning: the published figures") && ran.err.contains("ImageNet"));
    assert!(ran.json()["warnings"][0].as_str().unwrap().contains("ImageNet"));
    let rows = ran.json()["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 18);
    assert_eq!((&rows[0]["n_test"], &rows[0]["steps"]), (&7180.into(), &3906.into()));
    place.run(&preset).refused(2, &["datasets/nct-crc-he", "zenodo.org/records/1214456", "--data"]);
    let other = ["benchmark", "label-efficiency", "--preset", "cifar", "--plan"];
    place.run(&other).refused(2, &["cifar", "nct-crc-he, munich-aml"]);
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0);
}

#[test]
fn fractions_of_the_labels_are_cells_too() {
    let place = Place::new();
    let run = ["--fractions", "0.1,1", "--seeds", "1", "--methods", "cross-entropy"];
    let one = ["--learning-rates", "1e-2", "--set", "training.steps=2", "--out", "table", "--json"];
    let benchmark = ["benchmark", "label-efficiency"];
    let ran = place.run(&[&benchmark[..], &run, &one, &TINY].concat()).succeeded();
    let rows = ran.json()["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["budget"]["fraction"], 0.1);
    let n_labeled = |row: &Value| row["n_labeled"].as_u64().unwrap();
    assert!(n_labeled(&rows[0]) * 9 <= n_labeled(&rows[1]) && rows[1]["n_unlabeled"] == 0);
    for bad in ["1.5", "0"] {
        let fractions = format!("0.1,{bad}");
        let bad_share = ["--fractions", &fractions, "--plan"];
        let parts = [&format!("--fractions {bad}:")[..], "above 0 and at most 1"];
        place.run(&[&benchmark[..], &bad_share].concat()).refused(2, &parts);
    }
    let twice = ["--labels", "5,5"];
    place.run(&[&benchmark[..], &twice].concat()).refused(2, &["given twice"]);
}
