//! A run that is stopped at any moment goes on to the same bits.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use s5cl_random::named_stream;

use crate::support::{Place, TINY, events};

const STEPS: &str = "24";
const KILLS: usize = 20;

fn start(place: &Place, run: &str) -> Child {
    start_with(place, run, &[])
}

fn start_with(place: &Place, run: &str, more: &[&str]) -> Child {
    let mut command = place.command(&["train", "--quiet", "--out", run, "--steps", STEPS]);
    command.args(TINY).args(more).stdout(Stdio::null()).stderr(Stdio::null());
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

/// Watches a run until something has happened; false if it ended before.
fn watch(child: &mut Child, happened: impl Fn() -> bool) -> bool {
    while child.try_wait().unwrap().is_none() {
        if happened() {
            return true;
        }
    }
    false
}

/// Kills a run once something has happened; false if it ended before.
fn kill_when(mut child: Child, happened: impl Fn() -> bool) -> bool {
    watch(&mut child, happened);
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

fn steps_taken(place: &Place, run: &str) -> usize {
    let events = std::fs::read_to_string(place.path(run).join("metrics.jsonl"));
    events.unwrap_or_default().matches("\"train\"").count()
}

/// Names in the folder of the checkpoints.
fn checkpoints(place: &Place, run: &str) -> Vec<String> {
    let entries = std::fs::read_dir(place.path(run).join("checkpoints")).into_iter().flatten();
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn is_writing(place: &Place, run: &str) -> bool {
    checkpoints(place, run).iter().any(|name| name.ends_with(".part"))
}

#[test]
fn run_killed_at_random_moments_resumes_to_the_same_bits() {
    let place = Place::new();
    assert!(start(&place, "reference").wait().unwrap().success());
    let mut random = named_stream(0, "kills");
    let mut kills = 0;
    for attempt in 0..3 * KILLS {
        // Before the run folder, before the first step, or after any step but the last.
        let run = format!("killed{attempt}");
        let steps = random.below(STEPS.parse().unwrap());
        let child = start(&place, &run);
        kills += usize::from(kill_when(child, || steps == 0 || steps_taken(&place, &run) >= steps));
        finish(&place, &run);
        assert_same(&place, &run, "reference");
        std::fs::remove_dir_all(place.path(&run)).unwrap();
        if kills == KILLS {
            return;
        }
    }
    panic!("only {kills} of {KILLS} kills met a running process");
}

#[test]
fn run_killed_inside_a_write_resumes_to_the_same_bits() {
    let place = Place::new();
    assert!(start(&place, "reference").wait().unwrap().success());
    // The write may be over by the time the signal arrives: then it is tried again.
    let was_cut = (0..20).any(|attempt| {
        let run = format!("cut{attempt}");
        kill_when(start(&place, &run), || is_writing(&place, &run));
        let was_cut = is_writing(&place, &run);
        finish(&place, &run);
        assert_same(&place, &run, "reference");
        assert!(!is_writing(&place, &run), "what was cut off is left behind");
        was_cut
    });
    assert!(was_cut, "no kill met a write");
}

#[test]
fn run_killed_before_its_first_checkpoint_resumes_to_the_same_bits() {
    let place = Place::new();
    assert!(start(&place, "reference").wait().unwrap().success());
    assert!(kill_when(start(&place, "run"), || steps_taken(&place, "run") > 0));
    assert!(!checkpoints(&place, "run").iter().any(|name| name.starts_with("step-")));
    finish(&place, "run");
    assert_same(&place, "run", "reference");
}

/// Frozen stages, rates of each stage's own, and features that are computed once.
#[test]
fn run_that_trains_a_part_of_the_encoder_resumes_to_the_same_bits() {
    let place = Place::new();
    let part = ["--set", "encoder.train=last:2", "--set", "encoder.learning_rate_decay=0.7"];
    let probe = ["--preset", "linear-probe", "--set", "encoder.name=resnet-slim"];
    for (name, more) in [("part", part), ("probe", probe)] {
        let (reference, run) = (format!("{name}-whole"), format!("{name}-killed"));
        assert!(start_with(&place, &reference, &more).wait().unwrap().success());
        let child = start_with(&place, &run, &more);
        let was_killed = kill_when(child, || checkpoints(&place, &run).len() > 1);
        assert!(was_killed, "{name} ended before it could be killed");
        let has_features = place.path(&run).join("features.safetensors").is_file();
        assert_eq!(has_features, name == "probe");
        assert!(resume(&place, &run).wait().unwrap().success(), "{name}");
        assert_same(&place, &run, &reference);
        assert!(!place.path(&run).join("features.safetensors").exists());
    }
}

#[test]
fn interrupt_saves_says_how_to_go_on_and_exits_with_130() {
    let place = Place::new();
    assert!(start(&place, "reference").wait().unwrap().success());
    let mut command = place.command(&["train", "--quiet", "--out", "run", "--steps", STEPS]);
    let mut child =
        command.args(TINY).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(watch(&mut child, || steps_taken(&place, "run") > 5));
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
