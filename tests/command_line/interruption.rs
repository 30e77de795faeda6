//! A run that is stopped at any moment goes on to the same bits.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use s5cl_random::named_stream;

use crate::support::{Place, TINY, events};

const STEPS: &str = "24";
const KILLS: u32 = 20;

fn start(place: &Place, run: &str) -> Child {
    let mut command = place.command(&["train", "--quiet", "--out", run, "--steps", STEPS]);
    command.args(TINY).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn resume(place: &Place, run: &str) -> Child {
    let mut command = place.command(&["train", "--quiet", "--resume", run]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Finishes a run, from the start if it was killed before it had a folder.
fn finish(place: &Place, run: &str) {
    let mut child = if place.path(run).exists() { resume(place, run) } else { start(place, run) };
    assert!(child.wait().unwrap().success(), "{run}");
}

fn weights(place: &Place, run: &str) -> Vec<u8> {
    std::fs::read(place.path(run).join("model.safetensors")).unwrap()
}

fn train_events(place: &Place, run: &str) -> Vec<serde_json::Value> {
    let mut events = events(&place.path(run));
    events.retain(|event| event["kind"] == "train" || event["kind"] == "validation");
    events
}

#[track_caller]
fn assert_same(place: &Place, run: &str, reference: &str) {
    assert_eq!(weights(place, run), weights(place, reference), "weights of {run}");
    assert_eq!(train_events(place, run), train_events(place, reference), "events of {run}");
}

/// Waits until a file or folder whose name has all parts is there.
fn wait_for(folder: &Path, parts: [&str; 2], child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if parts.iter().all(|part| name.contains(part)) {
                return true;
            }
        }
    }
    false
}

#[test]
fn run_killed_at_random_moments_resumes_to_the_same_bits() {
    let place = Place::new();
    let began = Instant::now();
    assert!(start(&place, "reference").wait().unwrap().success());
    let whole = began.elapsed().as_secs_f32();
    let mut random = named_stream(0, "kills");
    for kill in 0..KILLS {
        let run = format!("killed{kill}");
        let mut child = start(&place, &run);
        sleep(Duration::from_secs_f32(random.uniform_in(0.0, whole)));
        child.kill().unwrap();
        child.wait().unwrap();
        finish(&place, &run);
        assert_same(&place, &run, "reference");
    }
}

#[test]
fn run_killed_twice_inside_a_write_resumes_to_the_same_bits() {
    let place = Place::new();
    assert!(start(&place, "reference").wait().unwrap().success());
    let mut child = start(&place, "run");
    let checkpoints = place.path("run/checkpoints");
    assert!(wait_for(&checkpoints, [".step-", ".part"], &mut child), "no write was seen");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = resume(&place, "run");
    wait_for(&checkpoints, [".step-", ".part"], &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    finish(&place, "run");
    assert_same(&place, "run", "reference");
}

#[test]
fn run_killed_before_its_first_checkpoint_resumes_to_the_same_bits() {
    let place = Place::new();
    assert!(start(&place, "reference").wait().unwrap().success());
    let mut child = start(&place, "run");
    assert!(wait_for(&place.path("run"), ["metrics", ".jsonl"], &mut child));
    child.kill().unwrap();
    child.wait().unwrap();
    finish(&place, "run");
    assert_same(&place, "run", "reference");
}

#[test]
fn interrupt_saves_says_how_to_go_on_and_exits_with_130() {
    let place = Place::new();
    assert!(start(&place, "reference").wait().unwrap().success());
    let mut command = place.command(&["train", "--quiet", "--out", "run", "--steps", STEPS]);
    let mut child =
        command.args(TINY).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_for(&place.path("run/checkpoints"), ["step-", "000"], &mut child));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("train --resume run"), "{message}");
    finish(&place, "run");
    assert_same(&place, "run", "reference");
}

#[test]
fn finished_run_is_not_run_again() {
    let place = Place::new();
    place.train_tiny("run", 4, &[]).succeeded();
    let before = std::fs::read(place.path("run/metrics.jsonl")).unwrap();
    let ran = place.run(&["train", "--resume", "run"]).succeeded();
    assert!(ran.err.contains("finished"));
    assert_eq!(before, std::fs::read(place.path("run/metrics.jsonl")).unwrap());
}
