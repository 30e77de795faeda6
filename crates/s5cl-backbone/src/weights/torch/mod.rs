//! Files of `torch.save`: a zip archive with a pickle and one member for each storage.
//!
//! candle's own reader is not used: it copies a value whenever the pickle refers to it again (a
//! few hundred bytes can ask for more memory than there is), panics on short tuples, prints and
//! drops what it does not know, and reads no tensor that is not contiguous.

mod objects;
mod pickle;
mod reader;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};

use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use self::pickle::{Pickle, PickleError};
use self::value::{Id, LONGEST_NAME, TorchTensor, Value};
use super::stored::Stored;

/// Nothing stands before the archive: where its beginning is looked for, some small ones of
/// `torch.save` are not found.
const ZIP: Config = Config { archive_offset: ArchiveOffset::Known(0) };

/// The pickle, in the folder that has the name of the archive.
const PICKLE: &str = "data.pkl";
/// Bytes that a pickle may have. That of a ViT-L with its optimizer has 200 thousand.
const LARGEST_PICKLE: u64 = 16 << 20;
/// How deep dicts of tensors may stand in each other.
const DEEPEST: usize = 4;
/// Entries that are looked at, however often the dicts refer to each other.
const MOST_ENTRIES: usize = 1 << 17;

/// Why an archive was refused.
#[derive(Debug)]
pub(super) enum TorchError {
    Io(std::io::Error),
    Foreign(String),
    Format(String),
}

impl From<ZipError> for TorchError {
    fn from(error: ZipError) -> Self {
        match error {
            ZipError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Self::Io(error)
            }
            other => Self::Format(format!(
                "is not a whole zip archive of torch.save, get it again ({other})"
            )),
        }
    }
}

impl From<PickleError> for TorchError {
    fn from(error: PickleError) -> Self {
        match error {
            PickleError::Foreign(class) => Self::Foreign(class),
            PickleError::Damaged(reason) => {
                Self::Format(format!("has a pickle that cannot be read: {reason}"))
            }
        }
    }
}

/// The tensors of all dicts, the names of nested ones joined by dots.
pub(super) fn tensors(file: &File) -> Result<BTreeMap<String, Stored>, TorchError> {
    let n_bytes = file.metadata().map_err(TorchError::Io)?.len();
    let mut archive = Archive { zip: ZipArchive::with_config(ZIP, BufReader::new(file))?, n_bytes };
    let (folder, bytes) = archive.pickle()?;
    let pickle = Pickle::read(&bytes)?;
    let mut found = Found { pickle: &pickle, n_left: MOST_ENTRIES, tensors: Vec::new() };
    found.look(pickle.root(), "", 0)?;
    if found.tensors.is_empty() {
        return Err(TorchError::Format(found.without_tensors()));
    }
    let mut storages = HashMap::new();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in found.tensors {
        let (start, length) = match storages.get(&tensor.storage) {
            Some(&known) => known,
            None => {
                let member = archive.member(&format!("{folder}data/{}", tensor.storage))?;
                storages.insert(tensor.storage.clone(), member);
                member
            }
        };
        let stored = place(tensor, start, length).ok_or_else(|| {
            TorchError::Format(format!(
                "is damaged: tensor {name:?} reaches beyond its {length} bytes"
            ))
        })?;
        tensors.insert(name, stored);
    }
    Ok(tensors)
}

/// A tensor in its storage, which starts there and has so many bytes; nothing if it does not fit.
fn place(tensor: &TorchTensor, start: u64, length: u64) -> Option<Stored> {
    let size = tensor.value_type.size().unwrap_or(0);
    let stored = Stored {
        value_type: tensor.value_type.clone(),
        shape: tensor.shape.clone(),
        strides: tensor.strides.clone(),
        start: start.checked_add(u64::try_from(tensor.offset.checked_mul(size)?).ok()?)?,
    };
    // A tensor that repeats values is refused when it is read, if it is.
    let span = stored.span().unwrap_or(0);
    let end = tensor.offset.checked_add(span)?.checked_mul(size)?;
    (u64::try_from(end).ok()? <= length).then_some(stored)
}

struct Archive<'f> {
    zip: ZipArchive<BufReader<&'f File>>,
    n_bytes: u64,
}

impl Archive<'_> {
    /// The folder of the pickle with a slash behind it, and its bytes.
    fn pickle(&mut self) -> Result<(String, Vec<u8>), TorchError> {
        let names: Vec<String> =
            self.zip.file_names().flatten().map(|name| name.into_owned()).collect();
        let is_in_folder = |name: &&String| name.split('/').next_back() == Some(PICKLE);
        let Some(name) = names.iter().find(is_in_folder) else {
            let reason = "is a zip archive without data.pkl, so none of torch.save";
            return Err(TorchError::Format(reason.to_owned()));
        };
        let folder = name.trim_end_matches(PICKLE).to_owned();
        if names.contains(&format!("{folder}constants.pkl")) {
            let reason = "is a TorchScript program; save the weights of its module, with \
                          torch.save(torch.jit.load(FILE).state_dict(), FILE)";
            return Err(TorchError::Format(reason.to_owned()));
        }
        let byte_order = format!("{folder}byteorder");
        if names.contains(&byte_order) && self.bytes(&byte_order)? == b"big" {
            let reason = "was saved on a big-endian machine; save it again on another";
            return Err(TorchError::Format(reason.to_owned()));
        }
        let bytes = self.bytes(name)?;
        Ok((folder, bytes))
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, TorchError> {
        let (_, length) = self.member(name)?;
        if length > LARGEST_PICKLE {
            let reason = format!("is damaged: its member {name} has {length} bytes");
            return Err(TorchError::Format(reason));
        }
        let mut bytes = Vec::new();
        self.zip.by_name(name)?.read_to_end(&mut bytes).map_err(TorchError::Io)?;
        Ok(bytes)
    }

    /// Where the bytes of a member start in the file, and how many they are.
    fn member(&mut self, name: &str) -> Result<(u64, u64), TorchError> {
        let member = match self.zip.by_name(name) {
            Err(ZipError::FileNotFound) => {
                return Err(TorchError::Format(format!(
                    "is damaged: its member {name} is missing"
                )));
            }
            other => other?,
        };
        if member.compression() != CompressionMethod::Stored {
            let reason = "is compressed, which torch.save does not do; unpack it and save it again";
            return Err(TorchError::Format(reason.to_owned()));
        }
        let (start, length) = (member.data_start().unwrap_or(u64::MAX), member.size());
        if start.checked_add(length).is_none_or(|end| end > self.n_bytes) {
            return Err(TorchError::Format(format!("is cut off in its member {name}")));
        }
        Ok((start, length))
    }
}

/// The tensors that the dicts of a pickle hold.
struct Found<'p> {
    pickle: &'p Pickle<'p>,
    n_left: usize,
    tensors: Vec<(String, &'p TorchTensor)>,
}

impl Found<'_> {
    fn look(&mut self, id: Id, prefix: &str, depth: usize) -> Result<(), TorchError> {
        let Value::Dict(entries) = self.pickle.value(id) else { return Ok(()) };
        for &(key, value) in entries {
            let left = self.n_left.checked_sub(1);
            self.n_left = left.ok_or_else(|| {
                TorchError::Format(format!("has more than {MOST_ENTRIES} entries"))
            })?;
            let Value::Text(key) = self.pickle.value(key) else { continue };
            if key.len() > LONGEST_NAME {
                let reason = format!("has a name of {} bytes, which is too long", key.len());
                return Err(TorchError::Format(reason));
            }
            match self.pickle.value(value) {
                Value::Tensor(tensor) => self.tensors.push((format!("{prefix}{key}"), tensor)),
                Value::Dict(_) if depth < DEEPEST => {
                    self.look(value, &format!("{prefix}{key}."), depth + 1)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What is said of a pickle that holds none.
    fn without_tensors(&self) -> String {
        let Value::Dict(entries) = self.pickle.value(self.pickle.root()) else {
            return "holds no dict of tensors; save the weights with \
                    torch.save(model.state_dict(), FILE)"
                .to_owned();
        };
        let keys = entries.iter().filter_map(|&(key, _)| match self.pickle.value(key) {
            Value::Text(key) => Some(key.as_ref()),
            _ => None,
        });
        let keys: Vec<&str> = keys.take(5).collect();
        format!("holds no tensor in its dicts; their keys are: {}", keys.join(", "))
    }
}

#[cfg(test)]
mod tests;
