//! Where to compute: what is refused, what is missing, and the program that takes over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Place, Ran, TINY};

const VARIABLES: [&str; 7] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_PATH",
    "NVCC",
    "S5CL_BUILT_WITH_CUDA",
];

/// Whether this test cannot run: the program has CUDA, or the machine has what shall be missing.
fn is_skipped() -> bool {
    let reason = if cfg!(feature = "cuda") {
        "the program is built with CUDA"
    } else if ["/proc/driver/nvidia", "/usr/local/cuda"].iter().any(|p| Path::new(p).exists()) {
        "this machine has parts of CUDA"
    } else {
        return false;
    };
    println!("skipped: {reason}");
    true
}

/// The program on a machine without anything of CUDA.
fn bare(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

fn ran(command: &mut Command) -> Ran {
    Ran::from(command.output().unwrap())
}

fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

const TRAIN: [&str; 7] = ["train", "--quiet", "--out", "run", "--steps", "2", "--device"];

#[test]
fn device_that_is_none_is_refused_by_every_command() {
    let place = Place::new();
    for command in ["train", "evaluate", "predict", "embed", "retrieve"] {
        let ran = place.run(&[command, "--device", "gpu"]);
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        assert!(ran.err.contains("auto, cpu, cuda"), "{command}: {}", ran.err);
    }
    let ran = place.run(&["benchmark", "label-efficiency", "--device", "cuda:"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
}

#[test]
fn cuda_without_anything_names_all_that_is_missing() {
    if is_skipped() {
        return;
    }
    let place = Place::new();
    for device in ["cuda", "cuda:3"] {
        let parts = [
            "built without CUDA",
            "NVIDIA driver (libcuda.so.1",
            "nvcc",
            "cuBLAS",
            "cuRAND",
            "NVRTC",
            "cuDNN 9",
            "https://developer.nvidia.com/cudnn-downloads",
            "--device cpu",
        ];
        ran(&mut bare(&place, &[&TRAIN[..], &[device]].concat())).refused(2, &parts);
    }
    assert!(!place.path("run").exists());
    // What is there is not named.
    write_program(&place.path("toolkit/bin/nvcc"), "");
    fs::create_dir(place.path("toolkit/lib64")).unwrap();
    for library in ["libcublas.so.12", "libcurand.so.10", "libnvrtc.so.12"] {
        fs::write(place.path("toolkit/lib64").join(library), "").unwrap();
    }
    let mut command = bare(&place, &[&TRAIN[..], &["cuda"]].concat());
    let told = ran(command.env("CUDA_HOME", place.path("toolkit")));
    assert!(!told.err.contains("nvcc") && !told.err.contains("cuBLAS"), "{}", told.err);
    told.refused(2, &["NVIDIA driver", "cuDNN 9"]);
}

#[test]
fn cuda_with_all_it_needs_builds_the_program_and_runs_it_once() {
    if is_skipped() {
        return;
    }
    let place = Place::new();
    write_program(&place.path("toolkit/bin/nvcc"), "");
    fs::create_dir(place.path("toolkit/lib64")).unwrap();
    for library in ["libcublas", "libcurand", "libnvrtc", "libcudnn"] {
        let file = place.path("toolkit/lib64").join(format!("{library}.so.9"));
        fs::write(file, "").unwrap();
    }
    fs::create_dir(place.path("driver")).unwrap();
    fs::write(place.path("driver/libcuda.so.1"), "").unwrap();
    // A cargo that writes down what it was asked for.
    let told = place.path("told");
    let told_in = told.display();
    write_program(
        &place.path("cargo"),
        &format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" \"$LD_LIBRARY_PATH\" \"$CUDA_HOME\" \
             \"$S5CL_BUILT_WITH_CUDA\" > {told_in}\nexit 7\n"
        ),
    );
    let arguments = [&TRAIN[..], &["cuda:1", "--set", "seed=3"]].concat();
    let run = |more: &[(&str, &str)]| {
        let mut command = bare(&place, &arguments);
        command.env("CARGO", place.path("cargo")).env("NVCC", place.path("toolkit/bin/nvcc"));
        command.env("LD_LIBRARY_PATH", place.path("driver"));
        command.env("CUDA_PATH", place.path("toolkit"));
        ran(command.envs(more.iter().copied()))
    };
    let first = run(&[]);
    assert_eq!(first.code, Some(7), "{}", first.err);
    assert!(first.err.contains("building this program with CUDA"), "{}", first.err);
    let told = fs::read_to_string(&told).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    let (cargo, rest) = lines.split_at(lines.iter().position(|line| *line == "--").unwrap());
    assert_eq!(cargo[..5], ["run", "--package", "xtask", "--features", "cuda"]);
    assert_eq!((cargo[5], cargo[7]), ("--manifest-path", "--target-dir"));
    assert!(cargo[8].ends_with("target/cuda"), "{cargo:?}");
    assert_eq!(rest[1..=arguments.len()], arguments[..]);
    let libraries = rest[arguments.len() + 1];
    assert!(libraries.contains("/driver:") && libraries.contains("/toolkit/lib64"), "{libraries}");
    assert!(rest[arguments.len() + 2].ends_with("/toolkit"), "{rest:?}");
    assert_eq!(rest[arguments.len() + 3], "1");
    // The one that was built does not build another.
    run(&[("S5CL_BUILT_WITH_CUDA", "1")]).refused(1, &["is without it"]);
    assert!(!place.path("run").exists());
}

#[test]
fn auto_tells_once_that_there_is_a_driver_and_computes_on_the_processor() {
    if is_skipped() {
        return;
    }
    let place = Place::new();
    let notes = |ran: &Ran| ran.err.matches("--device cuda").count();
    let mut arguments = [&TRAIN[..], &["auto"]].concat();
    arguments.extend(TINY);
    let without = ran(&mut bare(&place, &arguments)).succeeded();
    assert_eq!(notes(&without), 0, "{}", without.err);
    fs::remove_dir_all(place.path("run")).unwrap();
    write_program(&place.path("programs/nvidia-smi"), "");
    let with = ran(bare(&place, &arguments).env("PATH", place.path("programs"))).succeeded();
    assert_eq!(notes(&with), 1, "{}", with.err);
    let metrics = crate::support::read_json(&place.path("run/metrics.json"));
    assert_eq!((&metrics["device"], &metrics["precision"]), (&"cpu".into(), &"f32".into()));
}

#[test]
fn precision_of_a_gpu_is_refused_on_the_processor() {
    let place = Place::new();
    for precision in ["tf32", "bf16", "f16"] {
        let set = format!("training.precision={precision}");
        let ran = place.run(&[&TRAIN[..], &["cpu", "--set", &set]].concat());
        ran.refused(2, &["training.precision", precision, "auto or f32"]);
    }
    let set = "training.precision=half";
    let ran = place.run(&[&TRAIN[..], &["cpu", "--set", set]].concat());
    ran.refused(2, &["half", "bf16"]);
    assert!(!place.path("run").exists());
    place.train_tiny("run", 2, &["--device", "cpu", "--set", "training.precision=f32"]).succeeded();
}
