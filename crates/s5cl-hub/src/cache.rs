//! The cache that all programs of Hugging Face share.
//!
//! ```text
//! models--owner--name/blobs/HASH                  the bytes
//! models--owner--name/snapshots/COMMIT/FILE       a link to them
//! models--owner--name/refs/REVISION               the commit that a tag or branch was
//! .locks/models--owner--name/HASH.lock            held while the bytes are written
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{HubError, HubId};

/// The part of the cache that belongs to one repository.
pub(crate) struct Repository {
    folder: PathBuf,
    locks: PathBuf,
}

impl Repository {
    pub(crate) fn new(cache: &Path, id: &HubId) -> Self {
        let name = format!("models--{}--{}", id.owner(), id.name());
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    /// Where a file of a commit is, or would be.
    pub(crate) fn file(&self, commit: &str, file: &str) -> PathBuf {
        self.snapshot(commit).join(file)
    }

    /// Where bytes with this hash are, or would be.
    pub(crate) fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    /// Where they are written. Other programs put theirs into `HASH.incomplete`, not always from
    /// the beginning to the end, so that theirs cannot be gone on with.
    pub(crate) fn incomplete(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{hash}.s5cl.incomplete"))
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The commit that a tag or branch was when it was last asked for.
    pub(crate) fn commit_of(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The files that are there of a commit, sorted; a link whose bytes were removed is none.
    pub(crate) fn files(&self, commit: &str) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.snapshot(commit), "", &mut found);
        found.sort();
        found
    }

    /// Keeps others from writing the same bytes until what is returned is dropped.
    pub(crate) fn lock(&self, hash: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{hash}.lock"));
        make_parent(&path)?;
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
        lock.map_err(|source| HubError::io(&path, source))
    }

    /// Makes a file of a commit of the bytes with this hash, whose lock is held.
    ///
    /// What is there already is replaced, and others see the one or the other, but never none.
    pub(crate) fn link(&self, commit: &str, file: &str, hash: &str) -> Result<(), HubError> {
        let (path, beside) =
            (self.file(commit, file), self.blob(hash).with_added_extension("s5cl.link"));
        make_parent(&path)?;
        // Left by a call that was killed here.
        if beside.symlink_metadata().is_ok() {
            fs::remove_file(&beside).map_err(|source| HubError::io(&beside, source))?;
        }
        #[cfg(unix)]
        let linked = {
            // Out of the folders of the file, of the commit and of `snapshots`.
            let up = "../".repeat(file.split('/').count() + 1);
            std::os::unix::fs::symlink(format!("{up}blobs/{hash}"), &beside)
        };
        #[cfg(not(unix))]
        let linked = fs::hard_link(self.blob(hash), &beside);
        let moved = linked.and_then(|()| fs::rename(&beside, &path));
        moved.map_err(|source| HubError::io(&path, source))
    }

    /// Notes which commit a tag or branch is now.
    pub(crate) fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.folder.join("refs").join(revision);
        make_parent(&path)?;
        let lock = self.lock("refs")?;
        let beside = path.with_added_extension("incomplete");
        let written = fs::write(&beside, commit).and_then(|()| fs::rename(&beside, &path));
        drop(lock);
        written.map_err(|source| HubError::io(&path, source))
    }
}

/// Makes the folder that a file is to be in.
pub(crate) fn make_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|source| HubError::io(parent, source))
}

fn collect(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = format!("{prefix}{}", name.to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), found);
        } else if path.is_file() {
            found.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Repository;
    use crate::{HubError, HubId};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    #[cfg(unix)]
    fn link_leads_to_the_bytes_from_any_depth() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let id: HubId = "owner/name@main".parse()?;
        let cache = Repository::new(folder.path(), &id);
        let blob = cache.blob("aa");
        super::make_parent(&blob)?;
        fs::write(&blob, "bytes")?;
        for file in ["model.bin", "a/b/model.bin"] {
            cache.link(COMMIT, file, "aa")?;
            let place = format!("models--owner--name/snapshots/{COMMIT}/{file}");
            assert_eq!(fs::read_to_string(folder.path().join(place))?, "bytes");
        }
        assert_eq!(cache.files(COMMIT), ["a/b/model.bin", "model.bin"]);
        // A call that was killed between two steps is in nobody's way.
        std::os::unix::fs::symlink("nowhere", cache.blob("aa.s5cl.link"))?;
        cache.link(COMMIT, "model.bin", "aa")?;
        assert!(cache.blob("aa.s5cl.link").symlink_metadata().is_err());
        // Removed bytes leave no file, and a link in the way is replaced.
        fs::remove_file(&blob)?;
        assert!(cache.files(COMMIT).is_empty());
        fs::write(cache.blob("bb"), "others")?;
        cache.link(COMMIT, "model.bin", "bb")?;
        assert_eq!(fs::read_to_string(cache.file(COMMIT, "model.bin"))?, "others");
        Ok(())
    }

    #[test]
    fn note_is_what_commit_of_reads() -> Result<(), HubError> {
        let folder = tempfile::tempdir().map_err(|e| HubError::io("".as_ref(), e))?;
        let id: HubId = "owner/name@refs/pr/1".parse()?;
        let cache = Repository::new(folder.path(), &id);
        assert_eq!(cache.commit_of(id.revision()), None);
        cache.note(id.revision(), "old")?;
        cache.note(id.revision(), COMMIT)?;
        assert_eq!(cache.commit_of(id.revision()).as_deref(), Some(COMMIT));
        let refs = folder.path().join("models--owner--name/refs/refs/pr");
        let names: Vec<_> = fs::read_dir(refs).into_iter().flatten().collect();
        assert_eq!(names.len(), 1);
        Ok(())
    }
}
