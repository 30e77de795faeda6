//! What a run writes, opened by the programs that it is for. They are skipped, and said so, where
//! they are not installed.

use std::ffi::OsString;
use std::process::Command;

use crate::support::Place;

/// Prints what TensorBoard reads in a folder of event files: `step tag`, one line a scalar.
const READER: &str = "
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0})
events.Reload()
for tag in events.Tags()['scalars']:
    for scalar in events.Scalars(tag):
        print(scalar.step, tag)
";

fn starts(program: &OsString, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn resumed_run_has_every_step_once_in_tensorboard() {
    let python = std::env::var_os("S5CL_PYTHON").unwrap_or_else(|| "python3".into());
    if !starts(&python, &["-c", "import tensorboard"]) {
        println!("skipped: no Python with tensorboard");
        return;
    }
    let place = Place::new();
    place.train_tiny("run", 12, &[]).succeeded();
    let steps = |tag: &str| -> Vec<u64> {
        let output = Command::new(&python).args(["-c", READER]).arg(place.path("run")).output();
        let lines = String::from_utf8(output.unwrap().stdout).unwrap();
        let of_tag = |line: &str| Some(line.strip_suffix(tag)?.trim_end().parse().unwrap());
        lines.lines().filter_map(of_tag).collect()
    };
    let all: Vec<u64> = (0..12).collect();
    let check = |resumed_at: &str| {
        assert_eq!(steps(" loss/total"), all, "resumed at {resumed_at}");
        assert_eq!(steps(" validation/accuracy"), [4, 9, 11], "resumed at {resumed_at}");
        assert_eq!(steps(" test/accuracy"), [11], "resumed at {resumed_at}");
    };
    check("nothing");
    // As a kill after the last validation leaves it, and one before the first checkpoint.
    for (lost, resumed_at) in [(&["12"][..], "8"), (&["12", "08", "04"], "0")] {
        std::fs::remove_file(place.path("run/metrics.json")).unwrap();
        for steps in lost {
            let checkpoint = place.path("run/checkpoints").join(format!("step-000000{steps}"));
            std::fs::remove_dir_all(checkpoint).unwrap();
        }
        place.run(&["train", "--quiet", "--resume", "run"]).succeeded();
        check(resumed_at);
    }
}

#[test]
fn report_of_a_run_opens_in_a_browser_without_a_word_on_its_console() {
    let named = std::env::var_os("S5CL_CHROMIUM");
    let usual = ["chromium", "chromium-browser", "google-chrome"].map(OsString::from);
    let mut browsers = named.into_iter().chain(usual);
    let Some(browser) = browsers.find(|browser| starts(browser, &["--version"])) else {
        println!("skipped: no Chromium");
        return;
    };
    let place = Place::new();
    place.train_tiny("run", 10, &[]).succeeded();
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .args(["--no-first-run", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", place.path("profile").display()))
        .arg(format!("file://{}", place.path("run/report.html").display()))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let console: Vec<&str> = log.lines().filter(|line| line.contains(":CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");
    let page = String::from_utf8_lossy(&output.stdout);
    for part in ["Confusion matrix", "Map of the embeddings", "Nearest images", "Views", "Pseudo"] {
        assert!(page.contains(part), "{part} is not on the page");
    }
}
