//! Folders, images and the binary for the tests beside this file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// Settings of a run that takes a second.
pub(crate) const TINY: [&str; 12] = [
    "--data",
    "synthetic:tissue?size=16&images=180",
    "--set",
    "data.batch_labeled=8",
    "--set",
    "data.batch_unlabeled=8",
    "--set",
    "checkpoint.every=4",
    "--set",
    "loss.pseudo_labels_after_steps=6",
    "--set",
    "evaluation.every=5",
];

/// A folder that goes away, and the binary run in it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The binary with arguments, to be run here.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// Trains a tiny run in the folder `run`.
    pub(crate) fn train_tiny(&self, run: &str, steps: u32, more: &[&str]) -> Ran {
        let steps = steps.to_string();
        let mut arguments = vec!["train", "--quiet", "--out", run, "--steps", &steps];
        arguments.extend(TINY);
        arguments.extend(more);
        self.run(&arguments)
    }

    /// Writes an image in the format of its extension, textured by its class and number.
    pub(crate) fn write_image(&self, name: &str, side: u32, class_idx: u32, number: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = RgbImage::from_fn(side, side, |x, y| {
            let stripe = if class_idx.is_multiple_of(2) { x } else { y } / (2 + class_idx);
            let light = if stripe.is_multiple_of(2) { 220 } else { 90 };
            Rgb([light, 100 + number as u8, 180 - 20 * class_idx as u8])
        });
        image.save(path).unwrap();
    }

    /// Writes a class folder of three classes with seven images each, in three formats.
    pub(crate) fn write_classes(&self, root: &str) {
        for class_idx in 0..3 {
            for number in 0..7 {
                let extension = ["png", "jpg", "tiff"][number as usize % 3];
                let side = 20 + number % 2;
                self.write_image(
                    &format!("{root}/class{class_idx}/{number}.{extension}"),
                    side,
                    class_idx,
                    number,
                );
            }
        }
    }
}

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless the command ended with this code and one line that has all parts.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        let lines: Vec<&str> =
            self.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{}", self.err);
        for part in parts {
            assert!(lines[0].contains(part), "{:?} is not in {:?}", part, lines[0]);
        }
    }

    /// The last line of standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.out.lines().last().unwrap_or_default()).unwrap()
    }
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The events of a run without what depends on the clock.
pub(crate) fn events(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &mut events {
        let event = event.as_object_mut().unwrap();
        event.retain(|key, _| key != "images_per_second" && key != "seconds");
    }
    events
}

/// A `.npy` array of bytes.
pub(crate) fn npy(shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

/// Writes an archive in MedMNIST layout.
pub(crate) fn write_npz(place: &Place, name: &str, members: &[(&str, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(place.path(name)).unwrap());
    for (member, bytes) in members {
        archive.start_file(*member, SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}
