//! The pages and files of this crate from the outside: a run folder in, a page out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../example_run/mod.rs"]
mod example_run;

mod browser;
mod evaluation;
mod pages;
mod run;
mod tensorboard;

use std::fs;
use std::path::Path;

use s5cl_report::{Run, render};
use tempfile::TempDir;

/// Elements that have no end.
const VOID_ELEMENTS: [&str; 5] = ["meta", "link", "br", "input", "img"];
/// Elements whose text is no markup.
const RAW_ELEMENTS: [&str; 2] = ["style", "script"];

pub(crate) fn example(n_steps: u32) -> TempDir {
    let run_dir = tempfile::tempdir().unwrap();
    example_run::write_example_run(run_dir.path(), n_steps).unwrap();
    run_dir
}

pub(crate) fn page_of(run_dir: &Path) -> String {
    let page = render(&Run::read(run_dir).unwrap()).unwrap();
    check_markup(&page);
    page
}

/// A run of little but its three files.
pub(crate) fn minimal(metrics: &str, events: &str) -> TempDir {
    let run_dir = tempfile::tempdir().unwrap();
    fs::write(run_dir.path().join("config.toml"), "").unwrap();
    fs::write(run_dir.path().join("metrics.jsonl"), events).unwrap();
    fs::write(run_dir.path().join("metrics.json"), metrics).unwrap();
    run_dir
}

pub(crate) const LEAST_METRICS: &str = r#"{"schema": 1, "method": "cross-entropy", "seed": 3, "steps": 1,
    "dataset": {"name": "rbc12", "n_classes": 12}}"#;

/// Every element is closed, in order; every attribute is quoted; every id occurs once.
#[track_caller]
pub(crate) fn check_markup(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut ids: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a lone >: {}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        // Digits of an image may spell anything.
        if !tag.contains("data:image") {
            for number in ["NaN", "inf\"", "inf ", "Infinity"] {
                assert!(!rest[..end].contains(number), "{number} in {}", &rest[..end]);
            }
        }
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed by </{name}>");
            continue;
        }
        assert!(tag.matches('"').count().is_multiple_of(2), "<{tag}>");
        ids.extend(tag.split_once(" id=\"").and_then(|(_, id)| id.split('"').next()));
        let name = tag.split([' ', '/', '\n']).next().unwrap();
        if RAW_ELEMENTS.contains(&name) {
            let end = format!("</{name}>");
            rest = rest.split_once(&end).expect("a raw element ends").1;
            continue;
        }
        if !tag.ends_with('/') && !VOID_ELEMENTS.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    let n_ids = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), n_ids, "an id occurs twice");
}
