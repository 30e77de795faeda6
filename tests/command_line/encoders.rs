//! Encoders by name, which part of them is trained, and on what.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::support::Place;

fn weights(place: &Place, run: &str) -> BTreeMap<String, Vec<f32>> {
    let path = place.path(run).join("model.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let values = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors.into_iter().map(|(key, tensor)| (key, values(tensor))).collect()
}

/// Names of the weights that differ between two runs.
fn changed(place: &Place, one: &str, other: &str) -> Vec<String> {
    let (one, other) = (weights(place, one), weights(place, other));
    one.into_iter().filter(|(key, values)| *values != other[key]).map(|(key, _)| key).collect()
}

#[test]
fn train_changes_only_what_is_asked_for() {
    let place = Place::new();
    let is_head = |key: &str| key.starts_with("embedder.") || key.starts_with("classifier.");
    let is_norm = |key: &str| key.contains("bn") || key.contains("downsample.1.");
    for (name, trained) in [("last", "last:1"), ("norm", "norm"), ("none", "none")] {
        let set = format!("encoder.train={trained}");
        for steps in [1, 3] {
            place.train_tiny(&format!("{name}-{steps}"), steps, &["--set", &set]).succeeded();
        }
        let changed = changed(&place, &format!("{name}-1"), &format!("{name}-3"));
        assert!(changed.iter().any(|key| is_head(key)), "{trained}: {changed:?}");
        let expected = |key: &str| match trained {
            "last:1" => key.starts_with("layer4."),
            "norm" => is_norm(key),
            _ => false,
        };
        for key in &changed {
            assert!(is_head(key) || expected(key), "{trained} changed {key}");
        }
        let of_encoder = changed.iter().filter(|key| !is_head(key)).count();
        assert_eq!(of_encoder == 0, trained == "none", "{trained}: {changed:?}");
    }
}

#[test]
fn train_with_a_rate_of_each_stages_own_moves_the_first_stage_less() {
    let place = Place::new();
    for (run, decay) in [("same", "1.0"), ("less", "0.1")] {
        let set = format!("encoder.learning_rate_decay={decay}");
        for steps in [1, 2] {
            place.train_tiny(&format!("{run}-{steps}"), steps, &["--set", &set]).succeeded();
        }
    }
    let moved = |run: &str, key: &str| {
        let (before, after) =
            (weights(&place, &format!("{run}-1")), weights(&place, &format!("{run}-2")));
        let pairs = before[key].iter().zip(&after[key]);
        pairs.map(|(before, after)| f64::from(before - after).powi(2)).sum::<f64>().sqrt()
    };
    for (key, smaller) in [("conv1.weight", 1e-3), ("layer4.0.conv2.weight", 0.2)] {
        assert!(moved("less", key) < smaller * moved("same", key), "{key}");
    }
    assert!(moved("less", "classifier.weight") > 0.5 * moved("same", "classifier.weight"));
}

#[test]
fn linear_probe_on_features_kept_is_that_on_features_made_anew() {
    let place = Place::new();
    let run = |out: &str, cache: &str| {
        let size = "synthetic:tissue?size=16&images=180";
        let (cache, encoder) = (format!("data.cache_mib={cache}"), "encoder.name=resnet-slim");
        place
            .run(&[
                "train",
                "--quiet",
                "--preset",
                "linear-probe",
                "--data",
                size,
                "--steps",
                "5",
                "--out",
                out,
                "--set",
                &cache,
                "--set",
                encoder,
            ])
            .succeeded();
    };
    run("kept", "100");
    run("anew", "0");
    // Another number of images at a time may be convolved by another algorithm.
    let (kept, anew) = (weights(&place, "kept"), weights(&place, "anew"));
    for (key, kept) in kept {
        for (kept, anew) in kept.iter().zip(&anew[&key]) {
            assert!((kept - anew).abs() < 1e-4, "{key}: {kept} and {anew}");
        }
    }
}

#[test]
fn encoders_of_each_kind_train() {
    let place = Place::new();
    for name in ["resnet18-small", "wide-resnet28-2", "vit-small-16"] {
        let set = format!("encoder.name={name}");
        place.train_tiny(name, 1, &["--set", &set]).succeeded();
        assert!(weights(&place, name).len() > 50, "{name}");
    }
    // Images are scaled to what the architecture can take, and that is told.
    let ran = place.train_tiny("larger", 1, &["--set", "encoder.name=convnext-tiny"]);
    ran.succeeded();
    assert!(weights(&place, "larger").contains_key("stages.3.blocks.0.gamma"));
}

#[test]
fn encoder_settings_are_checked() {
    let place = Place::new();
    let refused = |set: &[&str], parts: &[&str]| {
        let mut arguments = vec!["train", "--quiet", "--out", "run"];
        set.iter().for_each(|set| arguments.extend(["--set", set]));
        place.run(&arguments).refused(2, parts);
        assert!(!place.path("run").exists());
    };
    refused(&["encoder.name=resnet19"], &["resnet19", "resnet18", "vit-small-16"]);
    refused(&["encoder.train=some"], &["encoder.train", "all, last:N, norm or none", "some"]);
    refused(&["encoder.train=last:0"], &["last:0"]);
    refused(&["encoder.train=last:6"], &["encoder.train", "5 stages", "last:6"]);
    refused(&["encoder.learning_rate_decay=0.0"], &["learning_rate_decay", "above 0"]);
    refused(&["encoder.learning_rate_decay=1.5"], &["learning_rate_decay", "1.5"]);
    refused(
        &["encoder.name=vit-small-16", "data.image_size=40"],
        &["data.image_size", "40 px", "multiple of 16"],
    );
    refused(
        &["encoder.name=convnext-tiny", "data.image_size=16"],
        &["data.image_size", "16 px", "32 px or more"],
    );
}

/// A copy of a golden file, under the name of weights.
fn golden(place: &Place, name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::fs::copy(folder.join(name), place.path(name)).unwrap();
    format!("encoder.weights={name}")
}

#[test]
fn weights_that_cannot_be_used_are_refused_before_there_is_a_run() {
    let place = Place::new();
    let refused = |weights: &str, parts: &[&str]| {
        let mut arguments = vec!["train", "--quiet", "--out", "run"];
        arguments.extend(crate::support::TINY);
        arguments.extend(["--set", weights]);
        place.run(&arguments).refused(2, parts);
        assert!(!place.path("run").exists());
    };
    refused(&golden(&place, "encoder_old_format.pth"), &["encoder_old_format.pth", "torch.save"]);
    refused(&golden(&place, "encoder_foreign_class.pth"), &["fractions.Fraction", ".pth"]);
    refused(&golden(&place, "encoder_bystanders.pth"), &["does not fit", "conv1.weight"]);
    refused(
        &golden(&place, "encoder_vit.safetensors"),
        &["does not fit", "blocks.0.attn.proj.bias"],
    );
    let whole = std::fs::read(place.path("encoder_vit.safetensors")).unwrap();
    std::fs::write(place.path("half.safetensors"), &whole[..whole.len() / 2]).unwrap();
    refused("encoder.weights=half.safetensors", &["half.safetensors", "cut off"]);
    let hash = "0".repeat(64);
    place.train_tiny("first", 1, &[]).succeeded();
    let path = "encoder.weights=first/model.safetensors";
    let sha256 = format!("encoder.weights_sha256={hash}");
    let mut arguments = vec!["train", "--quiet", "--out", "run", "--set", path, "--set", &sha256];
    arguments.extend(crate::support::TINY);
    place.run(&arguments).refused(2, &["first/model.safetensors", &hash]);
    assert!(!place.path("run").exists());
    let changed = |name: &str, change: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>| {
        let path = place.path("first/model.safetensors");
        let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let weight = change(&tensors["bn1.weight"]).unwrap();
        tensors.insert("bn1.weight".to_owned(), weight);
        candle_core::safetensors::save(&tensors, place.path(name)).unwrap();
        format!("encoder.weights={name}")
    };
    let nan = changed("nan.safetensors", &|weight| weight.affine(f64::NAN, 0.0));
    refused(&nan, &["nan.safetensors", "bn1.weight", "not finite"]);
    let whole = changed("whole.safetensors", &|weight| weight.to_dtype(DType::I64));
    refused(&whole, &["whole.safetensors", "bn1.weight", "I64"]);
    refused("encoder.weights=phikon2", &["phikon2", "did you mean phikon?"]);
    refused("encoder.weights=phikon", &["phikon", "--set encoder.name=vit-base-16"]);
    refused("encoder.weights=owner/name", &["owner/name", "@"]);
    refused("encoder.weights=owner/name@main", &["owner/name@main", "--features hub"]);
}
