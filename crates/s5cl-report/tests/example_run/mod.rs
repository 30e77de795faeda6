//! A run folder as a training of some minutes leaves it, made up from a seeded stream.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use s5cl_random::named_stream;

mod evaluation;
mod pages;
pub(crate) mod pictures;

pub(crate) use pages::{benchmark, paired};

const CLASSES: [&str; 9] = [
    "adipose",
    "background",
    "debris",
    "lymphocytes",
    "mucus",
    "smooth muscle",
    "normal mucosa",
    "stroma",
    "tumor",
];

/// Writes `config.toml`, `metrics.jsonl`, `metrics.json`, `split.json` and `evaluation.json` of a
/// made-up run.
pub(crate) fn write_example_run(run_dir: &Path, n_steps: u32) -> io::Result<()> {
    write_variant(run_dir, n_steps, 0)
}

/// The same of a run that is the worse the larger `seed`, to be compared with the others.
pub(crate) fn write_variant(run_dir: &Path, n_steps: u32, seed: u8) -> io::Result<()> {
    fs::create_dir_all(run_dir)?;
    fs::write(run_dir.join("config.toml"), CONFIG)?;
    fs::write(run_dir.join("metrics.jsonl"), events(n_steps, seed))?;
    fs::write(run_dir.join("metrics.json"), metrics(n_steps, seed))?;
    fs::write(run_dir.join("split.json"), SPLIT)?;
    fs::write(run_dir.join("evaluation.json"), evaluation::evaluation(&CLASSES)?)
}

const CONFIG: &str = r#"# s5cl 0.1.0
preset = "s5cl"
method = "s5cl"
seed = 0

[data]
spec = "nct-crc-he"
labels_per_class = 5
image_size = 96            # pixels
batch_labeled = 32
batch_unlabeled = 128

[views]
weak = ["flip", "rot90", { color_jitter = [0.1, 0.1, 0.1, 0.1] }]
strong = ["flip", "rot90", { hed_jitter = 0.01 }, { random_resized_crop = [0.08, 1.0] }, { affine = 0.05 }]

[loss]
temperature_labeled = 0.2
temperature_unlabeled = 0.7

[evaluation]
every = 200                # steps, on validation
select = "last"
"#;

const SPLIT: &str = r#"{"hash": "sha256:6c1f0f3a9d7b54e2a8a3b1d0c4f7e9265b8d11f3e0a97c64d2b5f8e13a7c9d04",
 "counts": {"labeled": 45, "unlabeled": 99955, "validation": 900, "test": 7180},
 "labeled": [3, 17, 99], "test": [1, 2]}
"#;

fn events(n_steps: u32, seed: u8) -> String {
    let mut noise = named_stream(seed.into(), "example");
    let worse = 0.04 * f64::from(seed);
    let mut lines = String::new();
    let switch = n_steps / 5;
    for step in 0..n_steps {
        let progress = f64::from(step) / f64::from(n_steps.max(2));
        let decay = (-4.0 * progress).exp();
        let is_pseudo = step >= switch && switch > 0;
        let mut jitter = |size: f32| f64::from(noise.normal() * size);
        let supervised_floor = 1.96 + jitter(0.02);
        let supervised = supervised_floor + 0.12 + 0.75 * decay + jitter(0.05).abs();
        let unsupervised_floor = jitter(0.03) + if is_pseudo { 3.62 } else { 4.13 };
        let above = if is_pseudo { 0.16 + 0.3 * decay } else { 0.25 + 0.9 * decay };
        let unsupervised = unsupervised_floor + above + jitter(0.04).abs();
        let classification = 0.08 + 2.0 * worse + 2.1 * decay * decay + jitter(0.12).abs();
        let total = supervised + unsupervised + classification;
        let phase = if is_pseudo { "pseudo" } else { "instance" };
        let _ = writeln!(
            lines,
            "{{\"step\":{step},\"kind\":\"train\",\"total\":{total},\"supervised\":{supervised},\
             \"unsupervised\":{unsupervised},\"classification\":{classification},\
             \"supervised_floor\":{supervised_floor},\"unsupervised_floor\":{unsupervised_floor},\
             \"learning_rate\":1e-4,\"gradient_norm\":0.5,\"images_per_second\":800.0,\
             \"phase\":\"{phase}\"{}}}",
            if is_pseudo { pseudo_labels(progress, &mut jitter) } else { String::new() }
        );
        if (step + 1) % 200 == 0 {
            let balanced = 0.885 - worse - 0.5 * decay + jitter(0.012);
            let _ = writeln!(
                lines,
                "{{\"step\":{},\"kind\":\"validation\",\"accuracy\":{},\
                 \"balanced_accuracy\":{balanced},\"macro_f1\":{},\"loss\":{}}}",
                step + 1,
                balanced + 0.022 + jitter(0.005),
                balanced - 0.025 + jitter(0.005),
                0.38 + 1.5 * decay + jitter(0.03).abs(),
            );
        }
    }
    lines
}

/// The fields of a step that accepts more and better pseudo-labels as it goes on, and fewer and
/// fewer of one class.
fn pseudo_labels(progress: f64, jitter: &mut dyn FnMut(f32) -> f64) -> String {
    let mut share = |value: f64| (value + jitter(0.03)).clamp(0.0, 1.0);
    let (accepted, confidence) = (share(0.2 + 0.6 * progress), share(0.7 + 0.22 * progress));
    let accuracy = share(0.78 + 0.12 * progress);
    let classes: Vec<u32> = (0..CLASSES.len())
        .map(|class_idx| {
            let fading = if class_idx == 7 { 1.0 - 0.9 * progress } else { 1.0 };
            (128.0 * accepted * fading * (0.08 + jitter(0.01).abs())) as u32
        })
        .collect();
    format!(
        ",\"pseudo_accepted\":{accepted},\"pseudo_confidence\":{confidence},\
         \"pseudo_accuracy\":{accuracy},\"pseudo_classes\":{classes:?}"
    )
}

fn metrics(n_steps: u32, seed: u8) -> String {
    const SUPPORT: [u32; 9] = [1338, 847, 339, 634, 1035, 592, 741, 421, 1233];
    const RECALL: [f64; 9] = [0.972, 0.998, 0.811, 0.964, 0.925, 0.752, 0.873, 0.584, 0.931];
    let mut counts = [[0_u32; 9]; 9];
    for label in 0..9 {
        let hits = (f64::from(SUPPORT[label]) * RECALL[label].powi(1 + i32::from(seed))) as u32;
        let mut left = SUPPORT[label] - hits;
        counts[label][label] = hits;
        // Most mistakes go to two classes, as in tissue: stroma and muscle, mucosa and tumor.
        let likely =
            [[4, 1], [0, 4], [7, 5], [8, 2], [0, 2], [7, 2], [8, 3], [5, 2], [6, 3]][label];
        for (share, other) in [0.55, 0.6].into_iter().zip(likely) {
            let n = (f64::from(left) * share) as u32;
            counts[label][other] += n;
            left -= n;
        }
        counts[label][likely[0]] += left;
    }
    let per_class = (0..9).map(|class_idx| {
        let predicted: u32 = counts.iter().map(|row| row[class_idx]).sum();
        let hits = f64::from(counts[class_idx][class_idx]);
        let (recall, precision) = (hits / f64::from(SUPPORT[class_idx]), hits / f64::from(predicted));
        format!(
            "{{\"name\":\"{}\",\"recall\":{recall},\"precision\":{precision},\"f1\":{},\"support\":{},\
             \"auroc\":{},\"average_precision\":{},\"recall_interval\":[{},{}]}}",
            CLASSES[class_idx],
            2.0 * recall * precision / (recall + precision),
            SUPPORT[class_idx],
            1.0 - 0.2 * (1.0 - recall),
            1.0 - 0.7 * (1.0 - recall),
            recall - 0.6 / f64::from(SUPPORT[class_idx]).sqrt(),
            1.0 - (1.0 - recall) * 0.8,
        )
    });
    let per_class = per_class.collect::<Vec<_>>().join(",\n  ");
    format!(
        r#"{{"schema": 1, "method": "s5cl", "preset": "s5cl", "seed": {seed}, "device": "cpu", "steps": {n_steps},
 "dataset": {{"name": "nct-crc-he", "n_classes": 9, "n_labeled": 45, "n_unlabeled": 99955, "n_validation": 900, "n_test": 7180}},
 "test": {{"accuracy": 0.8963, "balanced_accuracy": 0.8677, "macro_f1": 0.8533, "weighted_f1": 0.8951, "loss": 0.412,
  "micro_f1": 0.8963, "kappa": 0.8801, "quadratic_kappa": null, "mcc": 0.8807, "top_k": {{"3": 0.9712}},
  "auroc": 0.9788, "average_precision": 0.9103, "brier": 0.158, "ece": 0.0512,
  "intervals": {{"accuracy": [0.8846, 0.9071], "balanced_accuracy": [0.8541, 0.8809], "macro_f1": [0.8391, 0.8672]}},
  "per_class": [{per_class}],
  "confusion": {counts:?}}},
 "train": {{"seconds": 1932.4, "images_per_second": 812.3, "peak_memory_mib": 2310, "final_loss": 6.412}},
 "baselines": {{"chance": 0.1111, "color_knn": 0.5134, "thumbnail_knn": 0.4187}},
 "timing": {{"data_wait": 0.02, "views": 0.01, "forward": 0.37, "loss": 0.05, "backward": 0.51, "update": 0.04}},
 "warnings": ["3 images occur in both the labeled and the test images (same pixels)."],
 "run": "runs/s5cl-nct-crc-he-0-20260101-120000"}}"#
    )
}
