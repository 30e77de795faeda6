//! The regression gate of the benchmark: what is broken fails it, what is not passes.

use s5cl_random::named_stream;
use serde_json::Value;

use crate::support::{Place, Ran, npy, read_json, write_npz};

const SIDE: usize = 12;
const CLASSES: usize = 3;

/// Labels in turn.
fn labels(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % CLASSES) as u8).collect()
}

/// An archive of images that their color tells apart; their labels are right but for those of the
/// training images, which may be in any order.
fn write_images(place: &Place, name: &str, shuffled: bool) {
    let mut members = Vec::new();
    for (part, n) in [("train", 90), ("val", 30), ("test", 60)] {
        let mut random = named_stream(0, part);
        let mut pixels = Vec::new();
        let mut part_labels = labels(n);
        for &label in &part_labels {
            for _ in 0..SIDE * SIDE {
                for channel in 0..3 {
                    let light = if channel == usize::from(label) { 110 } else { 90 };
                    pixels.push(light + (60.0 * random.uniform()) as u8);
                }
            }
        }
        if shuffled && part == "train" {
            random.shuffle(&mut part_labels);
        }
        members.push((
            format!("{part}_images.npy"),
            npy(&format!("({n}, {SIDE}, {SIDE}, 3)"), &pixels),
        ));
        members.push((format!("{part}_labels.npy"), npy(&format!("({n}, 1)"), &part_labels)));
    }
    let members: Vec<(&str, Vec<u8>)> =
        members.iter().map(|(member, bytes)| (member.as_str(), bytes.clone())).collect();
    write_npz(place, name, &members);
}

/// A benchmark of seconds.
fn benchmark(place: &Place, out: &str, more: &[&str]) -> Ran {
    let arguments = [
        "benchmark",
        "label-efficiency",
        "--methods",
        "cross-entropy",
        "--labels",
        "20",
        "--seeds",
        "2",
        "--set",
        "data.batch_labeled=16",
        "--set",
        "data.batch_unlabeled=8",
        "--set",
        "training.steps=30",
        "--set",
        "evaluation.every=0",
        "--out",
        out,
    ];
    place.run(&[&arguments[..], more].concat())
}

#[test]
fn gate_passes_what_is_unbroken_and_sees_shuffled_labels_and_a_rate_of_nothing() {
    let place = Place::new();
    write_images(&place, "images.npz", false);
    let right = ["--data", "images.npz", "--learning-rates", "1e-2"];
    benchmark(&place, "first", &[&right[..], &["--write-baseline", "b.json"]].concat()).succeeded();
    let check = ["--check", "b.json"];

    let ran = benchmark(&place, "second", &[&right[..], &check].concat()).succeeded();
    assert!(ran.err.contains("are as in the baseline b.json"), "{}", ran.err);

    // A rate of 0 is refused; one that moves no weight of f32 is the same.
    let still = ["--data", "images.npz", "--learning-rates", "1e-30"];
    let figure = "cross-entropy, 20 labels a class: balanced accuracy";
    let parts = ["not as in the baseline b.json", figure, "below its low end by 0."];
    benchmark(&place, "still", &[&still[..], &check].concat()).refused(1, &parts);
    let none = ["--data", "images.npz", "--learning-rates", "0"];
    benchmark(&place, "none", &none).refused(2, &["learning_rate must be above 0"]);

    // The baseline is of these images, these steps and these settings.
    let more = [&right[..], &["--set", "loss.margin=0.5"], &check].concat();
    benchmark(&place, "more", &more).refused(2, &["b.json", "of something else", "its set is"]);
    let others = ["--data", "synthetic:tissue", "--learning-rates", "1e-2"];
    let others = [&others[..], &check].concat();
    benchmark(&place, "others", &others).refused(2, &["of something else", "its data is"]);
    assert!(!place.path("more").exists() && !place.path("others").exists());

    write_images(&place, "images.npz", true);
    benchmark(&place, "shuffled", &[&right[..], &check].concat()).refused(1, &parts);
}

/// Writes a baseline with figures of a kind changed, and makes sure that any was.
fn change(place: &Place, to: &str, kind: &str, key: &str, value: f64) {
    let mut baseline = read_json(&place.path("b.json"));
    let figures = baseline["figures"].as_array_mut().unwrap();
    let mut changed = 0;
    for figure in figures.iter_mut().filter(|figure| figure["kind"] == kind) {
        assert!(figure[key].is_number() && figure[key] != value, "{figure}");
        figure[key] = value.into();
        changed += 1;
    }
    assert!(changed > 0, "{baseline}");
    std::fs::write(place.path(to), baseline.to_string()).unwrap();
}

#[test]
fn baseline_of_another_suite_schema_or_with_other_rows_is_refused() {
    let place = Place::new();
    let kernels = ["benchmark", "kernels", "--only", "supcon-320", "--runs", "1"];
    place.run(&[&kernels[..], &["--write-baseline", "b.json"]].concat()).succeeded();
    let text = std::fs::read_to_string(place.path("b.json")).unwrap();
    assert!(text.contains("cargo xtask benchmark kernels --only supcon-320"), "{text}");
    // Whatever the machine does meanwhile: no ratio is below nothing, and none is so high.
    change(&place, "any.json", "ratio", "tolerance", 1.0);
    place.run(&[&kernels[..], &["--check", "any.json"]].concat()).succeeded();
    change(&place, "fast.json", "ratio", "ratio", 1e12);
    let ran = place.run(&[&kernels[..], &["--check", "fast.json"]].concat());
    ran.refused(1, &["supcon-320 over plain candle", "fell by 100 %, more than 70 %"]);

    let check = |suite: &str, file: &str| place.run(&["benchmark", suite, "--check", file]);
    check("data", "b.json").refused(2, &["b.json", "of the suite kernels, this is data"]);
    check("train-speed", "absent.json").refused(2, &["absent.json"]);
    let other = text.replace("\"schema\": 1", "\"schema\": 9");
    std::fs::write(place.path("other.json"), other).unwrap();
    check("kernels", "other.json").refused(2, &["other.json", "schema 9", "knows 1"]);
    let rows = text.replace("supcon-320 over", "supcon-321 over");
    std::fs::write(place.path("rows.json"), rows).unwrap();
    let ran = place.run(&[&kernels[..], &["--check", "rows.json"]].concat());
    ran.refused(2, &["rows.json", "not measured here: supcon-321 over plain candle"]);
    // The row of that name does other work by now.
    let mut work: Value = serde_json::from_str(&text).unwrap();
    work["measured"]["supcon-320"]["dim"] = 128.into();
    std::fs::write(place.path("work.json"), work.to_string()).unwrap();
    let ran = place.run(&[&kernels[..], &["--check", "work.json"]].concat());
    ran.refused(2, &["work.json", "its supcon-320.dim is 128, here it is 64"]);
    let mut empty: Value = serde_json::from_str(&text).unwrap();
    empty["figures"] = Value::Array(Vec::new());
    std::fs::write(place.path("empty.json"), empty.to_string()).unwrap();
    check("kernels", "empty.json").refused(2, &["empty.json", "no figures"]);
}

#[test]
fn places_that_nothing_can_be_written_to_are_refused_first() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    let nowhere = ["benchmark", "kernels", "--write-baseline", "nodir/b.json"];
    place.run(&nowhere).refused(2, &["--write-baseline nodir/b.json", "no folder nodir"]);
    let nowhere = ["benchmark", "--quick", "--out", "nodir/x"];
    place.run(&nowhere).refused(2, &["--out nodir/x", "no folder nodir"]);
    for out in ["file", "file/below"] {
        let ran = place.run(&["benchmark", "label-efficiency", "--out", out]);
        ran.refused(2, &["--out", "file is no folder"]);
    }
}
