//! The pages in a real browser: nothing fails, everything is drawn, nothing sticks out.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use s5cl_report::{Run, render, render_benchmark, render_comparison};
use serde_json::Value;

use super::{example, example_run};

/// Opens a page in frames as wide as a phone and a desk, and writes what it sees.
const PROBE: &str = include_str!("probe.html");
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const PHONE_WIDTH: u64 = 390;

/// A browser that starts; `None`, said so, without one.
fn browser() -> Option<OsString> {
    let named = std::env::var_os("S5CL_CHROMIUM");
    let found = named.into_iter().chain(NAMES.map(OsString::from)).find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        println!("skipped: no Chromium");
    }
    found
}

/// What the probe saw of a page.
fn probed(browser: &OsString, page: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let probe = folder.path().join("probe.html");
    let page = example_run::pictures::base64(page.as_bytes());
    fs::write(&probe, PROBE.replace("PAGE", &page)).unwrap();
    let (dom, console) = opened(browser, folder.path(), &probe);
    let result = dom.split_once("<pre id=\"result\">").unwrap().1.split_once("</pre>").unwrap().0;
    let result = result.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let mut seen: Value = serde_json::from_str(&result).unwrap_or_else(|_| panic!("{result}"));
    seen["console"] = console.into();
    seen
}

/// The document after its scripts ran, and what the browser wrote to its console.
fn opened(browser: &OsString, folder: &Path, probe: &Path) -> (String, Vec<String>) {
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .args(["--no-first-run", "--window-size=1400,1000", "--virtual-time-budget=20000"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", probe.display()))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let console = log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    (String::from_utf8_lossy(&output.stdout).into_owned(), console)
}

/// Without errors, with so many charts, and none of it wider than the window.
#[track_caller]
fn check(seen: &Value, n_charts: u64) {
    assert_eq!(seen["failed"], Value::Null, "{seen}");
    assert_eq!(seen["console"].as_array().map(Vec::len), Some(0), "{seen}");
    assert_eq!(seen["phone"]["width"], PHONE_WIDTH);
    for width in ["phone", "desk"] {
        let seen = &seen[width];
        assert_eq!(seen["charts"], n_charts, "{width}: {seen}");
        for none in ["empty", "outside", "problems"] {
            assert_eq!(seen[none].as_array().map(Vec::len), Some(0), "{width}: {seen}");
        }
        for zero in ["overflow", "imageless", "broken"] {
            assert_eq!(seen[zero], 0, "{width}: {seen}");
        }
    }
}

#[test]
fn report_in_a_browser_is_drawn_and_its_map_answers() {
    let Some(browser) = browser() else { return };
    let run_dir = example(600);
    let page = render(&Run::read(run_dir.path()).unwrap()).unwrap();
    let seen = probed(&browser, &page);
    check(&seen, 17);
    // Queries, neighbors and mistakes.
    assert_eq!(seen["phone"]["thumbs"], 4 + 32 + 12, "{seen}");
    let map = &seen["map"];
    assert_eq!(map["before"], serde_json::json!([true, 1200]), "{map}");
    assert_eq!(map["pointed"][0], false);
    assert_eq!(map["pointed"][2], 96);
    let pointed = map["pointed"][1].as_str().unwrap();
    assert!(pointed.contains("Prediction") && pointed.contains("tile-"), "{pointed}");
    assert!(map["moved"] != map["pointed"][1] && map["moved"] != "", "{map}");
    assert_eq!(
        (&map["filtered"], &map["none"], &map["all"]),
        (&900.into(), &0.into(), &1200.into())
    );
    assert_eq!(
        map["overlays"]["part"],
        serde_json::json!(["test 800", "labeled 100", "unlabeled 300"])
    );
    assert_eq!(map["overlays"]["prediction"].as_array().map(Vec::len), Some(9));
    assert_eq!(map["overlays"]["pseudo"].as_array().map(Vec::len), Some(10));
}

#[test]
fn comparison_and_benchmark_in_a_browser_are_drawn() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = |seed: u8| {
        let run_dir = folder.path().join(seed.to_string());
        example_run::write_variant(&run_dir, 600, seed).unwrap();
        Run::read(&run_dir).unwrap()
    };
    let page = render_comparison(&[run(0), run(1), run(2)], &example_run::paired(3)).unwrap();
    check(&probed(&browser, &page), 3);
    check(&probed(&browser, &render_benchmark(&example_run::benchmark()).unwrap()), 1);
}

#[test]
fn page_that_fails_in_a_browser_is_noticed() {
    let Some(browser) = browser() else { return };
    let page = "<!DOCTYPE html><html><head></head><body><div style=\"width: 500px\">wide</div>\
                <svg class=\"chart\"></svg><script>console.error(\"a\"); missing();</script>";
    let seen = probed(&browser, page);
    let phone = &seen["phone"];
    assert!(phone["overflow"].as_u64() > Some(0), "{seen}");
    assert_eq!(phone["empty"].as_array().map(Vec::len), Some(1));
    assert_eq!(phone["problems"].as_array().map(Vec::len), Some(2));
    assert!(seen["console"][0].as_str().is_some_and(|line| line.contains("missing")), "{seen}");
}
