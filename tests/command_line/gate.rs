//! The regression gate of the benchmark: what is broken fails it, what is not passes.

use s5cl_random::named_stream;

use crate::support::{Place, Ran, npy, write_npz};

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
    write_images(&place, "right.npz", false);
    write_images(&place, "shuffled.npz", true);
    let right = ["--data", "right.npz", "--learning-rates", "1e-2"];
    benchmark(&place, "first", &[&right[..], &["--write-baseline", "b.json"]].concat()).succeeded();
    let check = ["--check", "b.json"];

    let ran = benchmark(&place, "second", &[&right[..], &check].concat()).succeeded();
    assert!(ran.err.contains("are as in the baseline b.json"), "{}", ran.err);

    let shuffled = ["--data", "shuffled.npz", "--learning-rates", "1e-2"];
    let figure = "cross-entropy, 20 labels a class: balanced accuracy";
    let parts = ["not as in the baseline b.json", figure, "below its low end by 0."];
    benchmark(&place, "shuffled", &[&shuffled[..], &check].concat()).refused(1, &parts);

    // A rate of 0 is refused; one that moves no weight of f32 is the same.
    let still = ["--data", "right.npz", "--learning-rates", "1e-30"];
    benchmark(&place, "still", &[&still[..], &check].concat()).refused(1, &parts);
    let none = ["--data", "right.npz", "--learning-rates", "0"];
    benchmark(&place, "none", &none).refused(2, &["learning_rate must be above 0"]);
}

#[test]
fn baseline_of_another_suite_schema_or_with_other_rows_is_refused() {
    let place = Place::new();
    let kernels = ["benchmark", "kernels", "--only", "supcon-320", "--runs", "1"];
    place.run(&[&kernels[..], &["--write-baseline", "b.json"]].concat()).succeeded();
    let text = std::fs::read_to_string(place.path("b.json")).unwrap();
    assert!(text.contains("cargo xtask benchmark kernels --only supcon-320"), "{text}");
    // Ten times slower than it is would still be good.
    let slow = text.replace("\"tolerance\": 0.5", "\"tolerance\": 0.9");
    std::fs::write(place.path("slow.json"), slow).unwrap();
    place.run(&[&kernels[..], &["--check", "slow.json"]].concat()).succeeded();

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
}
