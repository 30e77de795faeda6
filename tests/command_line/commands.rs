//! Every command on good input.

use serde_json::Value;

use crate::support::{Place, read_json};

#[test]
fn train_writes_the_whole_run_folder() {
    let place = Place::new();
    let ran = place.train_tiny("run", 10, &["--json"]).succeeded();
    for name in [
        "config.toml",
        "split.json",
        "metrics.jsonl",
        "model.safetensors",
        "metrics.json",
        "report.html",
    ] {
        assert!(place.path("run").join(name).is_file(), "{name}");
    }
    assert!(place.path("run/checkpoints/step-00000010").is_dir());
    let metrics = ran.json();
    assert_eq!(metrics, read_json(&place.path("run/metrics.json")));
    assert_eq!(metrics["schema"], 1);
    assert_eq!(metrics["steps"], 10);
    assert_eq!(metrics["dataset"]["n_labeled"], 45);
    for key in ["accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "loss"] {
        assert!(metrics["test"][key].is_f64(), "{key}");
    }
    assert!(metrics["baselines"]["color_knn"].is_f64());
    assert!(
        ran.out.contains("color kNN") && ran.out.contains("chance") && ran.out.contains("recall")
    );
    let opened = std::fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert_eq!(opened.matches("test-opened").count(), 1);
}

#[test]
fn train_gives_the_same_bits_for_any_number_of_workers() {
    let place = Place::new();
    let mut weights = Vec::new();
    for workers in ["0", "1", "3"] {
        let run = format!("workers{workers}");
        place.train_tiny(&run, 8, &["--workers", workers, "--prefetch", workers]).succeeded();
        weights.push(std::fs::read(place.path(&run).join("model.safetensors")).unwrap());
    }
    let threads = place
        .command(&["train", "--quiet", "--out", "threads", "--steps", "8"])
        .args(crate::support::TINY)
        .env("RAYON_NUM_THREADS", "1")
        .output();
    assert!(threads.unwrap().status.success());
    weights.push(std::fs::read(place.path("threads/model.safetensors")).unwrap());
    assert!(weights.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn train_on_its_own_config_repeats_the_run() {
    let place = Place::new();
    place.train_tiny("first", 6, &["--method", "supcon", "--seed", "4"]).succeeded();
    place
        .run(&["train", "--quiet", "--config", "first/config.toml", "--out", "second"])
        .succeeded();
    let weights = |run: &str| std::fs::read(place.path(run).join("model.safetensors")).unwrap();
    assert_eq!(weights("first"), weights("second"));
}

#[test]
fn train_methods_and_losses_all_run() {
    let place = Place::new();
    let cases: [(&str, &[&str]); 5] = [
        ("cross-entropy", &["--method", "cross-entropy"]),
        ("supcon", &["--method", "supcon"]),
        ("triplet", &["--set", "loss.supervised=triplet"]),
        ("best", &["--set", "evaluation.select=best", "--set", "training.ema_decay=0.9"]),
        (
            "all-labels",
            &[
                "--labels-per-class",
                "0",
                "--set",
                "data.sampler=reference",
                "--set",
                "loss.reduction=pml-avg-nonzero",
            ],
        ),
    ];
    for (run, more) in cases {
        place.train_tiny(run, 8, more).succeeded();
        assert!(place.path(run).join("report.html").is_file(), "{run}");
    }
    let terms = |run: &str| -> Value {
        let text = std::fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
        serde_json::from_str(text.lines().next().unwrap()).unwrap()
    };
    assert!(terms("cross-entropy").get("supervised").is_none());
    assert!(
        terms("supcon").get("unsupervised").is_none() && terms("supcon")["supervised"].is_f64()
    );
}

#[test]
fn class_folder_trains_evaluates_predicts_and_embeds() {
    let place = Place::new();
    place.write_classes("tiles");
    let train =
        ["train", "--out", "run", "--data", "tiles", "--labels-per-class", "2", "--steps", "4"];
    let small = ["--set", "data.batch_labeled=6", "--set", "data.batch_unlabeled=4"];
    let ran = place.run(&[&train[..], &small[..]].concat()).succeeded();
    assert!(ran.err.contains("images of different size"), "{}", ran.err);

    let evaluated = place.run(&["evaluate", "--run", "run", "--json"]).succeeded().json();
    assert_eq!(
        evaluated["test"]["accuracy"],
        read_json(&place.path("run/metrics.json"))["test"]["accuracy"]
    );
    let other = place
        .run(&["evaluate", "--run", "run", "--data", "tiles", "--split", "all", "--json"])
        .succeeded();
    assert_eq!(other.json()["test"]["confusion"].as_array().unwrap().len(), 3);

    place.run(&["predict", "--run", "run", "--images", "tiles", "--out", "labels.csv"]).succeeded();
    let csv = std::fs::read_to_string(place.path("labels.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["path", "label", "confidence", "class0", "class1", "class2"]);
    assert_eq!(rows.len(), 22);
    for row in &rows[1..] {
        let sum: f64 = row[3..].iter().map(|p| p.parse::<f64>().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{row:?}");
    }

    place.run(&["embed", "--run", "run", "--images", "tiles", "--out", "e.npy"]).succeeded();
    let npy = std::fs::read(place.path("e.npy")).unwrap();
    assert!(String::from_utf8_lossy(&npy).contains("'shape': (21, 64)"));
    assert_eq!(std::fs::read_to_string(place.path("e.paths.txt")).unwrap().lines().count(), 21);
    place
        .run(&["embed", "--run", "run", "--images", "tiles/class0/0.png", "--out", "e.safetensors"])
        .succeeded();
    assert!(place.path("e.safetensors").is_file());
}

#[test]
fn damaged_image_is_left_out_only_when_asked_to() {
    let place = Place::new();
    place.write_classes("tiles");
    std::fs::write(place.path("tiles/class1/0.png"), b"not an image").unwrap();
    let train = [
        "train",
        "--out",
        "run",
        "--data",
        "tiles",
        "--labels-per-class",
        "2",
        "--steps",
        "2",
        "--set",
        "data.batch_labeled=6",
    ];
    place.run(&train).refused(2, &["class1/0.png"]);
    assert!(!place.path("run").exists());
    let ran = place.run(&[&train[..], &["--skip-bad-images"]].concat()).succeeded();
    assert!(ran.err.contains("1 of 21 images cannot be read"), "{}", ran.err);
    place.run(&["evaluate", "--run", "run"]).succeeded();
}

#[test]
fn data_export_writes_a_dataset_that_trains() {
    let place = Place::new();
    let spec = "synthetic:tissue?size=20&images=180";
    let told = place.run(&["data", "export", spec, "carried", "--size", "16"]).succeeded().out;
    let files: Vec<_> = std::fs::read_dir(place.path("carried")).unwrap().flatten().collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let data = file.path().display().to_string();
    assert!(told.contains(".npz: ") && told.contains("of test"), "{told}");
    let run = ["train", "--quiet", "--out", "run", "--steps", "2", "--data", &data, "--json"];
    let small = ["--set", "data.batch_labeled=8", "--set", "data.batch_unlabeled=8"];
    let metrics = place.run(&[&run[..], &small].concat()).succeeded().json();
    assert_eq!(metrics["dataset"]["n_classes"], 9);
}

#[test]
fn data_export_refuses_images_of_different_size() {
    let place = Place::new();
    place.write_classes("tiles");
    let ran = place.run(&["data", "export", "tiles", "out"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(ran.err.contains("--size"), "{}", ran.err);
    place.run(&["data", "export", "tiles", "out", "--size", "16"]).succeeded();
}

#[test]
fn data_inspect_writes_a_contact_sheet() {
    let place = Place::new();
    let ran = place
        .run(&[
            "data",
            "inspect",
            "synthetic:tissue?images=90",
            "--baselines",
            "--out",
            "sheet.png",
        ])
        .succeeded();
    for part in
        ["lymphocytes", "mean and spread of color", "8 x 8 pixels", "tiles of 32 px a second"]
    {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(image::open(place.path("sheet.png")).unwrap().height() > 9 * 128);
}

#[test]
fn log_has_the_spans_of_a_step() {
    let place = Place::new();
    place.train_tiny("run", 2, &["--log", "log.jsonl"]).succeeded();
    let log = std::fs::read_to_string(place.path("log.jsonl")).unwrap();
    for part in ["data_wait", "views", "forward", "loss", "backward", "update"] {
        assert!(log.contains(&format!("\"name\":\"{part}\"")), "{part}");
    }
}
