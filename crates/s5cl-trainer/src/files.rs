//! Files that are there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::TrainError;

/// Writes a file beside its place, makes it durable, and renames it into place. A reader never
/// sees a part of it, and a file that was there before stays until the new one is whole.
///
/// # Errors
///
/// If the file cannot be written, as on a full disk; nothing is left behind then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    let beside = path.with_file_name(name);
    write_durably(&beside, bytes).map_err(|error| {
        // The first error is the one to tell; what remains of the file is of no use.
        let _ = fs::remove_file(&beside);
        error.about(path)
    })?;
    fs::rename(&beside, path).map_err(|source| file_error("rename to", path, source))
}

pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| file_error("write", path, source))
}

pub(crate) fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> TrainError {
    TrainError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::write_atomic;

    #[test]
    fn write_atomic_replaces_and_leaves_nothing_beside() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        write_atomic(&path, b"old")?;
        write_atomic(&path, b"new")?;
        assert_eq!(std::fs::read(&path)?, b"new");
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn write_atomic_into_nowhere_names_the_path() {
        let error = write_atomic(std::path::Path::new("/nowhere/file"), b"").unwrap_err();
        assert!(error.to_string().contains("/nowhere/"), "{error}");
    }
}
