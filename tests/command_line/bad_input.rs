//! Every kind of bad input: its exit code, one clear line, nothing half-written.

use crate::support::{Place, TINY, npy, write_npz};

/// Runs `train` with these arguments and expects a refusal and no run folder.
#[track_caller]
fn train_is_refused(place: &Place, arguments: &[&str], parts: &[&str]) {
    let train = ["train", "--quiet", "--out", "run", "--steps", "2"];
    place.run(&[&train[..], arguments].concat()).refused(2, parts);
    let left: Vec<_> =
        std::fs::read_dir(place.path("")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("run")), "{left:?}");
}

fn images(n: usize) -> Vec<u8> {
    npy(&format!("({n}, 8, 8, 3)"), &vec![100; n * 8 * 8 * 3])
}

#[test]
fn paths_and_folders_without_images_are_refused() {
    let place = Place::new();
    train_is_refused(&place, &["--data", "absent"], &["absent"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    train_is_refused(&place, &["--data", "empty"], &["empty"]);
    place.write_image("single/only/1.png", 16, 0, 0);
    train_is_refused(&place, &["--data", "single"], &["only one class", "only"]);
    train_is_refused(
        &place,
        &["--data", "synthetic:tissue?colour=red"],
        &["colour", "size, images"],
    );
}

#[test]
fn too_few_labels_name_the_class_and_its_count() {
    let place = Place::new();
    place.write_classes("tiles");
    train_is_refused(
        &place,
        &["--data", "tiles", "--labels-per-class", "6"],
        &["class0", "has 5", "6"],
    );
    train_is_refused(&place, &["--label-fraction", "1.5"], &["1.5"]);
}

#[test]
fn truncated_image_is_named() {
    let place = Place::new();
    place.write_classes("tiles");
    let path = place.path("tiles/class2/1.jpg");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    train_is_refused(&place, &["--data", "tiles", "--labels-per-class", "2"], &["class2/1.jpg"]);
}

#[test]
fn npz_members_are_checked() {
    let place = Place::new();
    let labels =
        |n: usize| npy(&format!("({n}, 1)"), &(0..n).map(|i| (i % 2) as u8).collect::<Vec<_>>());
    write_npz(&place, "missing.npz", &[("train_images.npy", images(8))]);
    train_is_refused(&place, &["--data", "missing.npz"], &["missing.npz", "train_labels"]);
    let flat = npy("(8, 192)", &[0; 8 * 192]);
    write_npz(&place, "shape.npz", &[("train_images.npy", flat), ("train_labels.npy", labels(8))]);
    train_is_refused(&place, &["--data", "shape.npz"], &["train_images", "[8, 192]"]);
    write_npz(
        &place,
        "count.npz",
        &[("train_images.npy", images(8)), ("train_labels.npy", labels(7))],
    );
    train_is_refused(&place, &["--data", "count.npz"], &["7 labels for 8 images"]);
    let mut negative = b"\x93NUMPY\x01\x00".to_vec();
    let header = "{'descr': '|i1', 'fortran_order': False, 'shape': (8,), }\n";
    negative.extend((header.len() as u16).to_le_bytes());
    negative.extend(header.as_bytes());
    negative.extend([0, 1, 0, 255, 0, 1, 0, 1]);
    write_npz(
        &place,
        "range.npz",
        &[("train_images.npy", images(8)), ("train_labels.npy", negative)],
    );
    train_is_refused(&place, &["--data", "range.npz"], &["label -1"]);
    std::fs::write(place.path("no.npz"), b"PK nonsense").unwrap();
    train_is_refused(&place, &["--data", "no.npz"], &["no.npz"]);
}

#[test]
fn settings_are_checked() {
    let place = Place::new();
    train_is_refused(
        &place,
        &["--set", "loss.temprature_labeled=0.1"],
        &["loss.temperature_labeled"],
    );
    train_is_refused(&place, &["--set", "training.steps=many"], &["training.steps", "integer"]);
    train_is_refused(&place, &["--set", "checkpoint.every=-1"], &["checkpoint.every", "-1"]);
    train_is_refused(&place, &["--set", "evaluation.select=worst"], &["evaluation.select", "best"]);
    train_is_refused(&place, &["--set", "preset=faithful"], &["--preset"]);
    train_is_refused(&place, &["--set", "loss.temperature_unlabeled=0.1"], &["must be above"]);
    train_is_refused(&place, &["--method", "magic"], &["s5cl, supcon, cross-entropy"]);
    train_is_refused(&place, &["--preset", "magic"], &["s5cl, faithful"]);
    train_is_refused(&place, &["--set", "encoder.name=vgg"], &["resnet18"]);
    train_is_refused(&place, &["--set", "views.weak=[\"spin\"]"], &["spin", "flip"]);
    train_is_refused(
        &place,
        &["--set", "encoder.weights=absent.safetensors"],
        &["absent.safetensors"],
    );
    std::fs::write(place.path("bad.toml"), "seed = 1\n[loss\n").unwrap();
    train_is_refused(&place, &["--config", "bad.toml"], &["bad.toml, line 2"]);
    std::fs::write(place.path("key.toml"), "[optimizer]\nrate = 0.1\n").unwrap();
    train_is_refused(&place, &["--config", "key.toml"], &["key.toml", "optimizer.rate"]);
}

#[test]
fn run_folder_that_exists_is_left_alone() {
    let place = Place::new();
    std::fs::create_dir(place.path("taken")).unwrap();
    place.run(&["train", "--out", "taken"]).refused(2, &["taken exists", "--resume"]);
    assert_eq!(std::fs::read_dir(place.path("taken")).unwrap().count(), 0);
    place.run(&["evaluate", "--run", "taken"]).refused(2, &["taken", "config.toml"]);
    place
        .run(&["predict", "--run", "absent", "--images", ".", "--out", "o.csv"])
        .refused(2, &["absent"]);
    let embed = ["embed", "--run", "taken", "--images", ".", "--out", "e.npy"];
    place.run(&embed).refused(2, &["taken", "config.toml"]);
}

#[test]
fn weights_of_another_architecture_are_refused() {
    let place = Place::new();
    place.train_tiny("other", 2, &[]).succeeded();
    let weights = "encoder.weights=other/model.safetensors";
    let mut arguments = vec!["--set", weights, "--set", "encoder.name=resnet18-small"];
    arguments.extend(TINY);
    let ran = place.run(&[&["train", "--quiet", "--out", "run"][..], &arguments].concat());
    ran.refused(2, &["other/model.safetensors", "misshapen"]);
    assert!(!place.path("run").exists());
}

#[test]
fn checkpoint_that_is_damaged_or_foreign_is_refused() {
    let place = Place::new();
    place.train_tiny("run", 8, &[]).succeeded();
    std::fs::remove_file(place.path("run/metrics.json")).unwrap();
    let config = std::fs::read_to_string(place.path("run/config.toml")).unwrap();
    let foreign = config.replace("resnet-slim", "resnet18-small");
    std::fs::write(place.path("run/config.toml"), foreign).unwrap();
    place.run(&["train", "--resume", "run"]).refused(2, &["encoder is resnet-slim there"]);
    std::fs::write(place.path("run/config.toml"), config).unwrap();

    let state = place.path("run/checkpoints/step-00000008/state.safetensors");
    let mut bytes = std::fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&state, bytes).unwrap();
    place.run(&["train", "--resume", "run"]).refused(2, &["step-00000008", "checksum"]);
    std::fs::remove_dir_all(state.parent().unwrap()).unwrap();
    place.run(&["train", "--quiet", "--resume", "run"]).succeeded();
}

#[test]
fn loss_that_is_not_finite_stops_the_run_and_keeps_its_checkpoint() {
    let place = Place::new();
    let ran = place.train_tiny(
        "run",
        40,
        &[
            "--set",
            "optimizer.learning_rate=1e30",
            "--set",
            "schedule.warmup_steps=0",
            "--set",
            "checkpoint.every=1",
        ],
    );
    ran.refused(1, &["step ", "not a finite number"]);
    assert!(std::fs::read_dir(place.path("run/checkpoints")).unwrap().count() > 0);
}

#[cfg(unix)]
#[test]
fn file_that_cannot_be_written_ends_with_1() {
    // A limit on file sizes fails a write in the middle, as a full disk does.
    let place = Place::new();
    let train = format!(
        "trap '' XFSZ; ulimit -f 400; exec {} train --quiet --out run --steps 8 {}",
        env!("CARGO_BIN_EXE_xtask"),
        TINY.map(|a| format!("'{a}'")).join(" ")
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &train])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let ran = crate::support::Ran::from(output);
    ran.refused(1, &["cannot write", "state.safetensors"]);
    let left = std::fs::read_dir(place.path("run/checkpoints")).unwrap().count();
    assert_eq!(left, 0, "a part of a checkpoint is left");
}
