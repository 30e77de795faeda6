//! Checkpoints: folders that are there whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use s5cl_backbone::save_weights;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{file_error, write_durably};
use crate::{TrainError, TrainState};

const TENSORS: &str = "state.safetensors";
const HEADER: &str = "checkpoint.json";
const SCHEMA: u32 = 1;

/// The checkpoints of a run: `step-00000050/` and so on in one folder.
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    identity: BTreeMap<String, String>,
}

/// What a checkpoint holds beside its tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    step: u64,
    identity: BTreeMap<String, String>,
    sha256: String,
}

/// One checkpoint, read and checked.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Steps that made it.
    pub step: u64,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoints {
    /// Checkpoints in `folder`, of which the newest `keep` stay (at least one). The identity says
    /// what a state must belong to, such as encoder and optimizer: a checkpoint with another one
    /// is refused.
    #[must_use]
    pub fn new(folder: PathBuf, keep: usize, identity: BTreeMap<String, String>) -> Self {
        Self { folder, keep: keep.max(1), identity }
    }

    /// Saves a state and removes the oldest checkpoints beyond those to keep.
    ///
    /// # Errors
    ///
    /// If a file cannot be written; the checkpoints that were there stay.
    pub fn save(&self, state: &TrainState) -> Result<PathBuf, TrainError> {
        let step = state.steps();
        let serialized = state.tensors().and_then(|t| save_weights(&t, &BTreeMap::new()));
        let tensors = serialized.map_err(|source| TrainError::Compute { step, source })?;
        let sha256 = sha256_hex(&tensors);
        let header = Header { schema: SCHEMA, step, identity: self.identity.clone(), sha256 };
        let header =
            serde_json::to_vec_pretty(&header).map_err(|e| TrainError::Config(e.to_string()))?;

        let place = self.folder.join(folder_name(step));
        let beside = self.folder.join(format!(".step-{step:08}.part"));
        self.write_folder(&beside, &[(TENSORS, &tensors), (HEADER, &header)]).inspect_err(
            |_| {
                // The first error is the one to tell; what remains of the folder is of no use.
                let _ = fs::remove_dir_all(&beside);
            },
        )?;
        if place.exists() {
            fs::remove_dir_all(&place).map_err(|e| file_error("remove", &place, e))?;
        }
        fs::rename(&beside, &place).map_err(|e| file_error("rename to", &place, e))?;
        sync_folder(&self.folder)?;
        self.tidy();
        Ok(place)
    }

    /// The newest checkpoint, checked against its checksum and identity; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it is damaged, or belongs to another architecture or optimizer.
    pub fn newest(&self) -> Result<Option<Checkpoint>, TrainError> {
        match self.places()?.pop() {
            Some(path) => self.read(path).map(Some),
            None => Ok(None),
        }
    }

    fn read(&self, path: PathBuf) -> Result<Checkpoint, TrainError> {
        let damaged = |reason: String| TrainError::Damaged { path: path.clone(), reason };
        let read = |name: &str| {
            fs::read(path.join(name)).map_err(|e| damaged(format!("cannot read {name}: {e}")))
        };
        let header: Header = serde_json::from_slice(&read(HEADER)?)
            .map_err(|e| damaged(format!("{HEADER} is not as written: {e}")))?;
        if header.schema != SCHEMA {
            let reason = format!("it has schema {}, this version reads {SCHEMA}", header.schema);
            return Err(TrainError::Foreign { path, reason });
        }
        if !path.ends_with(folder_name(header.step)) {
            return Err(damaged(format!("{HEADER} says that it is of step {}", header.step)));
        }
        let bytes = read(TENSORS)?;
        if sha256_hex(&bytes) != header.sha256 {
            return Err(damaged(format!("the checksum of {TENSORS} differs")));
        }
        for (key, ours) in &self.identity {
            let theirs = header.identity.get(key).map_or("absent", String::as_str);
            if theirs != ours {
                let reason = format!("{key} is {theirs} there and {ours} here");
                return Err(TrainError::Foreign { path, reason });
            }
        }
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|e| damaged(e.to_string()))?;
        Ok(Checkpoint { step: header.step, tensors: tensors.into_iter().collect(), path })
    }

    fn write_folder(&self, folder: &Path, files: &[(&str, &[u8])]) -> Result<(), TrainError> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(|e| file_error("remove", folder, e))?;
        }
        fs::create_dir_all(folder).map_err(|e| file_error("create", folder, e))?;
        for (name, bytes) in files {
            write_durably(&folder.join(name), bytes)?;
        }
        sync_folder(folder)
    }

    /// Removes the oldest checkpoints, and what a killed run left half-written. The new one is in
    /// place by then, so that a folder which cannot be removed is no reason to stop.
    fn tidy(&self) {
        let places = self.places().unwrap_or_default();
        for path in &places[..places.len().saturating_sub(self.keep)] {
            // Renamed first: a run killed while removing leaves nothing that looks whole.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let _ = fs::rename(path, path.with_file_name(format!(".{name}.removed")));
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".step-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// The folders of whole checkpoints, oldest first.
    fn places(&self) -> Result<Vec<PathBuf>, TrainError> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let entries =
            fs::read_dir(&self.folder).map_err(|e| file_error("read", &self.folder, e))?;
        let mut places = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| file_error("read", &self.folder, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.strip_prefix("step-").is_some_and(|step| step.parse::<u64>().is_ok()) {
                places.push(path);
            }
        }
        places.sort();
        Ok(places)
    }
}

impl Checkpoint {
    /// Puts the checkpoint into a state.
    ///
    /// # Errors
    ///
    /// If a tensor is missing, not f32 or of another shape.
    pub fn restore(&self, state: &mut TrainState) -> Result<(), TrainError> {
        state.restore(&self.tensors, self.step).map_err(|error| TrainError::Foreign {
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }
}

fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a rename inside a folder durable.
fn sync_folder(folder: &Path) -> Result<(), TrainError> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(|e| file_error("sync", folder, e))
}
